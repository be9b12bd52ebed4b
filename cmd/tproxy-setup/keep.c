/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/keep.h"

#include "base/clock.h"
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

/* A process that is killed while it holds the lock says nothing. */
#define LOCKED_MS 1000

/* Not every change is reported: those of iptables-legacy are not, nor is IPv6 on lo. */
#define LOOK_MS 30000

/* After so many restorations without a quiet LOOK_MS, another program fights: be slower. */
#define FIGHT_COUNT    20
#define FIGHT_PAUSE_MS 2000

/* What a look at the instance resulted in. */
enum outcome { KEPT, TO_DO, LOCKED, FAILED, REMOVED };

/* Who is to act on the instance: we; `down`, which drains it; `confirm`; an `up`. */
enum hand { HAND_OURS, HAND_DOWN, HAND_CONFIRM, HAND_UP };

static const int limit_ms[] = { [KEPT] = LOOK_MS, [LOCKED] = LOCKED_MS, [FAILED] = RETRY_MS };

struct keep {
	struct intercept *spec;		    /* what is to be there, as far as it can */
	struct intercept now;		    /* what of that can be there, as last decided */
	char installed[INTERCEPT_TEXT_MAX]; /* the text of what we last found or put in place */
	sa_family_t demanded;
	struct changes changes;
	char notice[INSTALL_NOTICE_MAX]; /* about that decision */
	enum hand hand;			 /* as last seen */
	char told[TEXT_MAX];		 /* the last failure that was reported */
	unsigned fights;		 /* restorations since it was quiet */
};

static volatile sig_atomic_t ended;

static void on_end(int signo)
{
	(void)signo;
	ended = 1;
}

/* --- one look --------------------------------------------------------------------------------- */

/* Is it as tproxy-setup left it, and not as we did? Then that is what is to be there from now on; as
 * soon as what was asked for first has been. */
static int adopt(struct keep *k, const struct instance_view *view, struct failure *why)
{
	char text[INTERCEPT_TEXT_MAX];
	struct intercept copy;

	if (!*k->installed || !view->rules.readable || !nft_intact(&view->rules) ||
	    !strcmp(k->installed, spec_text(&view->rules.spec, text)))
		return 0;
	report_verbose(1, "%s: another `up`, which is kept now", k->spec->name);
	if (intercept_copy(&copy, &view->rules.spec, why)) {
		intercept_free(&copy);
		return -1;
	}
	intercept_free(k->spec);
	*k->spec = copy;
	memcpy(k->installed, text, sizeof(k->installed));
	return 0;
}

/* What the wish is here and now: IPv6 may have gone, and come back. */
static int decide(struct keep *k, struct instance *kernel, struct failure *why)
{
	char notice[sizeof(k->notice)];

	intercept_free(&k->now);
	if (intercept_copy(&k->now, k->spec, why) ||
	    install_decide(kernel, &k->now, k->demanded, notice, why))
		return -1;
	if (*notice && strcmp(notice, k->notice))
		report_notice("%s: %s", k->spec->name, notice);
	memcpy(k->notice, notice, sizeof(k->notice));
	return 0;
}

/* `down` has begun, or `confirm` is awaited, or too late: that is for others to finish. Whoever
 * deletes the rules then, they are not to intercept again. */
static enum hand hand_of(const struct keep *k, const struct instance_view *view)
{
	if (!view->rules.present)
		return k->hand == HAND_CONFIRM ? HAND_UP : k->hand;
	if (view->rules.ending)
		return HAND_DOWN;
	return view->rules.lease == LEASE_PENDING || view->rules.lease == LEASE_EXPIRED
		       ? HAND_CONFIRM
		       : HAND_OURS;
}

static void take_hand(struct keep *k, const struct instance_view *view)
{
	enum hand before = k->hand;

	k->hand = hand_of(k, view);
	if (k->hand == before)
		return;
	if (k->hand == HAND_CONFIRM)
		report_verbose(1, "%s: left to `confirm`", k->spec->name);
	else if (k->hand == HAND_UP)
		report_notice("%s: gone before it was confirmed; kept again after an `up`",
			      k->spec->name);
}

/* What is to be done? What is found need not be true any more, unless the lock is held. */
static enum outcome judge(struct keep *k, struct instance *kernel, struct instance_view *view,
			  struct failure *why)
{
	int done;

	if (instance_look(kernel, k->spec->name, NULL, true, view, why))
		return FAILED;
	take_hand(k, view);
	if (!view->rules.present && (k->changes.removed || k->hand == HAND_DOWN))
		return REMOVED;
	if (k->hand != HAND_OURS)
		return KEPT;
	if (adopt(k, view, why) || decide(k, kernel, why))
		return FAILED;
	done = install_is_done(kernel, &k->now, why);
	if (done > 0)
		spec_text(&k->now, k->installed);
	return done < 0 ? FAILED : done ? KEPT : TO_DO;
}

/* Who else has changed rules; nobody says who has changed routing. */
static void tell(struct keep *k, const struct instance_view *view)
{
	const char *name = k->spec->name, *who = *k->changes.who ? k->changes.who : "before";
	char parts[256];

	if (!*k->installed)
		report_notice("%s: installed", name);
	else if (!view->rules.present)
		report_notice("%s: its rules were gone (%s); installed again", name, who);
	else if (nft_drift(&view->rules, parts, sizeof(parts)))
		report_notice("%s: %s (%s); installed again", name, parts, who);
	else if (k->now.ipv4 != view->rules.spec.ipv4 || k->now.ipv6 != view->rules.spec.ipv6)
		report_notice("%s: adapted to the families that lo has", name);
	else if (!instance_intact(view))
		report_notice("%s: its routing had changed; installed again", name);
	else if (k->now.zone != view->rules.spec.zone)
		report_notice("%s: adapted to rules of others (%s)", name, who);
	else
		report_notice("%s: changed (%s); installed again", name, who);
	if (++k->fights == FIGHT_COUNT)
		report_warning("%s: changed again and again; installed again every %d s from now "
			       "on, until it is quiet",
			       name, FIGHT_PAUSE_MS / 1000);
}

/* With the lock held nobody else is at work: what has happened until now counts. */
static enum outcome act_locked(struct keep *k, struct instance *kernel, struct failure *why)
{
	struct instance_view view = { 0 };
	enum install_outcome installed;
	enum outcome outcome = judge(k, kernel, &view, why);

	if (outcome == TO_DO) {
		outcome = install_locked(kernel, &k->now, &installed, why) ? FAILED : KEPT;
		if (outcome == KEPT && installed != INSTALL_UNCHANGED)
			tell(k, &view);
		if (outcome == KEPT)
			spec_text(&k->now, k->installed);
	}
	instance_view_free(&view);
	return outcome;
}

/* The lock is not waited for here, where no signal arrives. What fails leaves messages behind, about
 * what was added and removed again: they are no reason to try again. */
static enum outcome act(struct keep *k, struct instance *kernel, struct failure *why)
{
	enum outcome outcome;

	if (nft_lock(kernel->rules, 0, why))
		return why->err == EBUSY ? LOCKED : FAILED;
	outcome = changes_read(&k->changes, why) < 0 ? FAILED : act_locked(k, kernel, why);
	if (outcome == FAILED)
		(void)changes_read(&k->changes, NULL);
	nft_unlock(kernel->rules);
	return outcome;
}

/* With the kernel's channels open. Another tproxy-setup finishes what it does first. */
static enum outcome look(struct keep *k, struct instance *kernel, struct failure *why)
{
	struct instance_view view = { 0 };
	enum outcome outcome;

	if (nft_is_locked(kernel->rules))
		return LOCKED;
	outcome = judge(k, kernel, &view, why);
	instance_view_free(&view);
	return outcome == TO_DO ? act(k, kernel, why) : outcome;
}

/* A failure is reported once, until it is another one. */
static void tell_failure(struct keep *k, const struct failure *why)
{
	char text[TEXT_MAX];

	if (!strcmp(report_text(why, text, sizeof(text)), k->told))
		return;
	memcpy(k->told, text, sizeof(k->told));
	report_error("%s: not installed%s: %s", k->spec->name, *k->installed ? " again" : "", text);
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
	else if (outcome != LOCKED)
		k->told[0] = '\0';
	return outcome;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static struct timespec interval(uint64_t ms)
{
	return (struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000L };
}

/* Wait for a change that may concern us, at most `ms`, or for the end. 1, 0, or -1 with *why. */
static int wait_for_change(struct keep *k, int ms, const sigset_t *open, struct failure *why)
{
	struct pollfd fds[] = { { k->changes.rules, POLLIN, 0 },
				{ k->changes.routing, POLLIN, 0 } };
	uint64_t now = clock_ms(), end = now + (uint64_t)ms;
	int concerned = 0;

	for (; !ended && !concerned && now < end; now = clock_ms()) {
		struct timespec limit = interval(end - now);
		int ready = ppoll(fds, 2, &limit, open);

		if (ready < 0 && errno != EINTR)
			return report_fail(why, errno, "ppoll", "changes");
		concerned = ready > 0 ? changes_read(&k->changes, why) : 0;
	}
	return concerned;
}

static void pause_for(int ms, const sigset_t *open)
{
	struct timespec limit = interval((uint64_t)ms);

	if (!ended)
		(void)!ppoll(NULL, 0, &limit, open);
}

static int keep_on(struct keep *k, const sigset_t *open, struct failure *why)
{
	enum outcome outcome = check(k);
	int news;

	if (notify_send("READY=1", why))
		return -1;
	while (!ended && outcome != REMOVED) {
		pause_for(k->fights < FIGHT_COUNT ? PAUSE_MS : FIGHT_PAUSE_MS, open);
		news = wait_for_change(k, limit_ms[outcome], open, why);
		if (news < 0)
			return -1;
		if (!news && outcome == KEPT)
			k->fights = 0;
		if (!ended)
			outcome = check(k);
	}
	if (outcome == REMOVED)
		report_notice("%s: was removed by tproxy-setup, and is kept no longer",
			      k->spec->name);
	return 0;
}

int keep_run(struct intercept *spec, const struct intercept *installed, sa_family_t demanded,
	     struct failure *why)
{
	struct keep k = { .spec = spec, .demanded = demanded };
	struct sigaction action = { .sa_handler = on_end };
	sigset_t ends, before;
	int err;

	if (installed)
		spec_text(installed, k.installed);
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
	intercept_free(&k.now);
	return err;
}
