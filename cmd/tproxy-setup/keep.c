/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/keep.h"

#include "intercept/instance.h"
#include "intercept/spec_text.h"
#include "process/notify.h"
#include "tproxy-setup/changes.h"
#include "tproxy-setup/install.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* The first change is acted on at once; those that follow it, at this interval: a firewall loads
 * its rules in many steps. */
#define PAUSE_MS 200

/* What could not be installed is tried again after a change, or after this time. */
#define RETRY_MS 5000

#define TEXT_MAX 512

/* What a look at the instance resulted in. */
enum outcome { KEPT, FAILED, REMOVED };

struct keep {
	struct intercept *spec; /* what is to be there */
	sa_family_t demanded;
	struct changes changes;
	char told[TEXT_MAX]; /* the last failure that was reported */
};

static volatile sig_atomic_t ended;

static void on_end(int signo)
{
	(void)signo;
	ended = 1;
}

/* --- one look --------------------------------------------------------------------------------- */

static bool is_same(const struct intercept *a, const struct intercept *b)
{
	char texts[2][INTERCEPT_TEXT_MAX];

	return !strcmp(spec_text(a, texts[0]), spec_text(b, texts[1]));
}

/* Is it as tproxy-setup left it? Then that is what is to be there from now on. */
static int adopt(struct keep *k, const struct instance_view *view, struct failure *why)
{
	struct intercept copy;

	if (!view->rules.readable || !nft_intact(&view->rules) ||
	    is_same(k->spec, &view->rules.spec))
		return 0;
	report_verbose(1, "%s: another `up`, which is kept now", k->spec->name);
	if (intercept_copy(&copy, &view->rules.spec, why)) {
		intercept_free(&copy);
		return -1;
	}
	intercept_free(k->spec);
	*k->spec = copy;
	return 0;
}

/* `down` has begun, or `confirm` is awaited: that is for others to finish. */
static bool is_in_hand(const struct instance_view *view)
{
	return view->rules.ending || view->rules.lease == LEASE_PENDING ||
	       view->rules.lease == LEASE_EXPIRED;
}

/* Who else has changed rules; nobody says who has changed routing. */
static void tell(const struct keep *k, const struct instance_view *view)
{
	const char *name = k->spec->name, *who = *k->changes.who ? k->changes.who : "before";
	char parts[256];

	if (!view->rules.present)
		report_notice("%s: its rules were gone (%s); installed again", name, who);
	else if (nft_drift(&view->rules, parts, sizeof(parts)))
		report_notice("%s: %s (%s); installed again", name, parts, who);
	else if (!instance_intact(view))
		report_notice("%s: its routing had changed; installed again", name);
	else if (k->spec->zone != view->rules.spec.zone)
		report_notice("%s: adapted to rules of others (%s)", name, who);
	else /* changed since we looked */
		report_notice("%s: changed (%s); installed again", name, who);
}

static int restore(struct keep *k, struct instance *kernel, const struct instance_view *view,
		   struct failure *why)
{
	enum install_outcome outcome;
	char notice[256];

	if (install_decide(kernel, k->spec, k->demanded, notice, why) ||
	    install_up(kernel, k->spec, &outcome, why))
		return -1;
	if (outcome != INSTALL_UNCHANGED)
		tell(k, view);
	return 0;
}

/* With the kernel's channels open. Another tproxy-setup finishes what it does first. */
static enum outcome look(struct keep *k, struct instance *kernel, struct failure *why)
{
	struct instance_view view;
	enum outcome outcome = KEPT;

	if (nft_is_locked(kernel->rules))
		return KEPT; /* its release is a change that wakes us */
	if (instance_look(kernel, k->spec->name, NULL, true, &view, why))
		outcome = FAILED;
	else if (!view.rules.present && k->changes.removed)
		outcome = REMOVED;
	else if (!is_in_hand(&view) && (adopt(k, &view, why) || restore(k, kernel, &view, why)))
		outcome = FAILED;
	instance_view_free(&view);
	return outcome;
}

/* A failure is reported once, until it is another one. */
static void tell_failure(struct keep *k, const struct failure *why)
{
	char text[TEXT_MAX];

	if (!strcmp(report_text(why, text, sizeof(text)), k->told))
		return;
	memcpy(k->told, text, sizeof(k->told));
	report_error("%s: not installed again: %s", k->spec->name, text);
}

/* The channels are opened each time: this process lives long, and libnftables keeps much. */
static enum outcome check(struct keep *k)
{
	struct instance kernel;
	struct failure why = { 0 };
	enum outcome outcome = instance_open(&kernel, &why) ? FAILED : look(k, &kernel, &why);

	instance_close(&kernel);
	if (outcome == FAILED)
		tell_failure(k, &why);
	else
		k->told[0] = '\0';
	return outcome;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static struct timespec interval(int ms)
{
	return (struct timespec){ ms / 1000, ms % 1000 * 1000000L };
}

/* Wait for a change that may concern us, at most `ms` (-1: for ever), or for the end. 0, or -1 with
 * *why. */
static int wait_for_change(struct keep *k, int ms, const sigset_t *open, struct failure *why)
{
	struct pollfd fds[] = { { k->changes.rules, POLLIN, 0 },
				{ k->changes.routing, POLLIN, 0 } };
	struct timespec limit = interval(ms);
	int concerned = 0;

	while (!ended && !concerned) {
		int ready = ppoll(fds, 2, ms < 0 ? NULL : &limit, open);

		if (ready < 0 && errno != EINTR)
			return report_fail(why, errno, "ppoll", "changes");
		if (!ready)
			return 0;
		concerned = ready > 0 ? changes_read(&k->changes, why) : 0;
	}
	return concerned < 0 ? -1 : 0;
}

static void pause_for(int ms, const sigset_t *open)
{
	struct timespec limit = interval(ms);

	if (!ended)
		(void)!ppoll(NULL, 0, &limit, open);
}

static int keep_on(struct keep *k, const sigset_t *open, struct failure *why)
{
	enum outcome outcome = check(k);

	if (notify_send("READY=1", why))
		return -1;
	while (!ended && outcome != REMOVED) {
		pause_for(PAUSE_MS, open);
		if (wait_for_change(k, outcome == FAILED ? RETRY_MS : -1, open, why))
			return -1;
		if (!ended)
			outcome = check(k);
	}
	if (outcome == REMOVED)
		report_notice("%s: was removed by tproxy-setup, and is kept no longer",
			      k->spec->name);
	return 0;
}

int keep_run(struct intercept *spec, sa_family_t demanded, struct failure *why)
{
	struct keep k = { .spec = spec, .demanded = demanded };
	struct sigaction action = { .sa_handler = on_end };
	sigset_t ends, before;
	int err;

	prctl(PR_SET_NAME, CHANGES_OWN_NAME);
	/* Signals are delivered in ppoll() only. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, &before);
	sigdelset(&before, SIGTERM);
	sigdelset(&before, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	err = changes_open(&k.changes, spec->name, why);
	if (!err)
		err = keep_on(&k, &before, why);
	changes_close(&k.changes);
	return err;
}
