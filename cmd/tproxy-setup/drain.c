/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/drain.h"

#include "base/clock.h"
#include "intercept/neighbours.h"
#include "intercept/nft_text.h"
#include "net/sockdiag.h"
#include "tproxy-setup/legs.h"
#include "tproxy-setup/probe.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* The polling interval; the time for sockets to disappear after SOCK_DESTROY. */
#define POLL_MS	   50
#define DESTROY_MS 2000

/* Time for closed connections to deliver their last data, and for the next of their peers to
 * answer, with the questions that each is asked at least. The kernel answers wrong segments of a
 * connection at most twice a second (net.ipv4.tcp_invalid_ratelimit). */
#define FINISH_MS  500
#define ANSWER_MS  2000
#define QUESTIONS  8
#define ANSWERS_MS 15000 /* for all */

/* One look at the connections. */
struct look {
	struct legs legs;
	size_t finishing; /* included in the living ones */
};

/* The state of a drain. */
struct work {
	struct instance *kernel;
	const struct intercept *spec;
	uint64_t handle;
	struct neighbours others;
	struct probe probe;
	struct drain *drain;
};

static void pause_ms(unsigned ms)
{
	const struct timespec pause = { .tv_nsec = ms * 1000000L };

	nanosleep(&pause, NULL);
}

/* --- looking ---------------------------------------------------------------------------------- */

/* Closed on our side, with data left to deliver, and SOCK_DESTROY cannot reset it. */
static bool is_finishing(const struct leg *leg)
{
	const struct sockdiag_socket *s = &leg->socket;

	return !leg->remains && (s->state == TCP_LAST_ACK || s->state == TCP_CLOSING ||
				 (s->state == TCP_FIN_WAIT1 && !s->inode));
}

static int look(struct work *w, struct look *look, struct failure *why)
{
	const struct legs_question question = {
		.route = w->kernel->route,
		.spec = w->spec,
		.other = w->others.at,
		.others = w->others.count,
	};
	int err = legs_find(&question, &look->legs, why);

	look->finishing = legs_count(&look->legs, is_finishing);
	return err;
}

/* --- ending ----------------------------------------------------------------------------------- */

static bool is_living(const struct leg *leg)
{
	return !leg->remains && !is_finishing(leg);
}

static bool is_remains(const struct leg *leg)
{
	return leg->remains;
}

static bool is_held(const struct leg *leg)
{
	return is_finishing(leg) && leg->socket.inode;
}

static bool is_orphan(const struct leg *leg)
{
	return is_finishing(leg) && !leg->socket.inode;
}

/* Destroy the legs of that kind; the number of failures is added to the result. */
static int destroy(struct work *w, const struct legs *legs, bool (*kind)(const struct leg *leg),
		   struct failure *why)
{
	struct sockdiag *diag = NULL;
	struct failure reason = { 0 };

	for (size_t i = 0; i < legs->count; i++) {
		if (!kind(&legs->at[i]))
			continue;
		if (!diag)
			diag = sockdiag_open(why);
		if (!diag)
			return -1;
		if (!sockdiag_destroy(diag, &legs->at[i].socket, &reason) || reason.err == ENOENT)
			continue;
		w->drain->why = reason;
		w->drain->kept++;
	}
	sockdiag_close(diag);
	return 0;
}

/* Step 1. Returns 1: none is left; 0: only finishing ones are left; or -1 with *why. */
static int reset(struct work *w, struct failure *why)
{
	uint64_t start = clock_ms();

	for (;; pause_ms(POLL_MS)) {
		struct look now;
		size_t living, waited = (size_t)(clock_ms() - start);
		int err = look(w, &now, why);

		living = now.legs.living - now.finishing;
		w->drain->kept = 0;
		if (!err)
			err = destroy(w, &now.legs, is_living, why);
		if (!err && living > w->drain->kept)
			w->drain->destroyed += legs_connections(&now.legs, is_living);
		legs_free(&now.legs);
		if (err)
			return -1;
		if (living <= w->drain->kept && (!now.finishing || waited >= FINISH_MS))
			return !now.finishing;
		if (waited >= DESTROY_MS)
			return !now.finishing;
	}
}

/* Step 2: answer them with resets from now on. */
static int answer_with_resets(struct work *w, const struct legs *legs, struct failure *why)
{
	struct nft_text_flow *flow = malloc((legs->count + 1) * sizeof(*flow));
	size_t count = 0;
	int err;

	if (!flow)
		return report_fail(why, ENOMEM, "malloc", "connections");
	for (size_t i = 0; i < legs->count; i++)
		if (is_finishing(&legs->at[i]))
			flow[count++] = (struct nft_text_flow){ legs->at[i].socket.peer,
								legs->at[i].socket.local };
	err = nft_finish(w->kernel->rules, w->spec->name, flow, count, why);
	free(flow);
	return err;
}

/* Step 3: make both ends of each connection answer. Our rules answer the peer with a reset; a peer
 * that has no socket any more resets ours. The mark routes packets for our socket to this host. */
static int ask_both(struct work *w, const struct legs *legs, struct failure *why)
{
	for (size_t i = 0; i < legs->count; i++) {
		const struct sockdiag_socket *s = &legs->at[i].socket;

		if (is_finishing(&legs->at[i]) &&
		    (probe_send(&w->probe, &s->local, &s->peer, s->mark, why) ||
		     probe_send(&w->probe, &s->peer, &s->local, w->spec->mark.value, why)))
			return -1;
	}
	return 0;
}

/* Count connections whose peers cannot be probed, or do not answer. */
static void keep_orphans(struct work *w, const struct legs *legs, const struct failure *reason)
{
	size_t count = legs_count(legs, is_orphan);

	if (!count)
		return;
	w->drain->kept += count;
	w->drain->why = *reason;
	if (!reason->err)
		report_refuse(&w->drain->why, "their peers do not answer");
}

/* The wait for answers. */
struct asking {
	uint64_t start, progress; /* ms */
	unsigned questions;	  /* since the progress */
	size_t left;
};

/* Peers that answer one after the other are waited for; how fast they do depends on how busy the
 * machine is, too. */
static bool is_worth_asking(struct asking *a, size_t left)
{
	uint64_t now = clock_ms();

	if (left < a->left) {
		a->left = left;
		a->progress = now;
		a->questions = 0;
	}
	return left && now - a->start < ANSWERS_MS &&
	       (now - a->progress < ANSWER_MS || a->questions < QUESTIONS);
}

/* Repeat until none is left, or peers do not answer. Then SOCK_DESTROY may end what a process
 * holds. */
static int finish(struct work *w, struct failure *why)
{
	struct asking asking = { .start = clock_ms(), .left = SIZE_MAX };
	struct failure reason = { 0 };
	struct look now;
	int err = look(w, &now, why), asked;
	size_t before;

	asked = err ? -1 : answer_with_resets(w, &now.legs, &reason);
	before = err ? 0 : legs_connections(&now.legs, is_finishing);
	while (!err && !asked && is_worth_asking(&asking, now.finishing)) {
		asked = ask_both(w, &now.legs, &reason);
		asking.questions++;
		legs_free(&now.legs);
		pause_ms(POLL_MS);
		err = look(w, &now, why);
	}
	if (!err)
		err = destroy(w, &now.legs, is_held, why);
	if (!err) {
		w->drain->destroyed += before - legs_connections(&now.legs, is_orphan);
		keep_orphans(w, &now.legs, &reason);
	}
	legs_free(&now.legs);
	return err;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int read_others(struct work *w, struct failure *why)
{
	neighbours_free(&w->others);
	return neighbours_read(w->kernel, w->spec->name, true, &w->others, why);
}

static int is_done(struct work *w, struct failure *why)
{
	struct look now;
	int err = look(w, &now, why);
	bool none = !now.legs.living;

	w->drain->connections = err ? 0 : legs_connections(&now.legs, is_living);
	if (!err && none)
		err = destroy(w, &now.legs, is_remains, why);
	legs_free(&now.legs);
	return err ? -1 : none;
}

int drain_is_done(struct instance *kernel, const struct intercept *spec, struct drain *drain,
		  struct failure *why)
{
	struct work w = { .kernel = kernel, .spec = spec, .drain = drain };
	int done;

	*drain = (struct drain){ 0 };
	done = read_others(&w, why) ? -1 : is_done(&w, why);
	neighbours_free(&w.others);
	return done;
}

/* 1: none is left; 0: the time is over; or -1 with *why. */
static int wait(struct work *w, uint64_t ms, const volatile sig_atomic_t *hurry,
		struct failure *why)
{
	uint64_t start = clock_ms();
	int done;

	while (!(done = is_done(w, why)) && clock_ms() - start < ms && !(hurry && *hurry))
		pause_ms(POLL_MS);
	return done;
}

/* Remove what closed connections left behind. */
static int sweep(struct work *w, struct failure *why)
{
	struct look now;
	int err = look(w, &now, why);

	if (!err)
		err = destroy(w, &now.legs, is_remains, why);
	legs_free(&now.legs);
	return err;
}

/* Is it still the instance whose interception was ended? */
static int is_ours(struct work *w, struct failure *why)
{
	struct nft_state state;
	int err = nft_read(w->kernel->rules, w->spec->name, false, &state, why);
	bool same = !err && state.present && state.handle == w->handle;

	nft_state_free(&state);
	return err ? -1 : same;
}

/* Under the lock, so that nobody reinstalls the instance while its table is changed. */
static int end_locked(struct work *w, struct failure *why)
{
	int ours = is_ours(w, why), done;

	if (ours <= 0) {
		w->drain->replaced = !ours;
		return ours;
	}
	done = reset(w, why);
	if (!done && finish(w, why))
		return -1;
	return done < 0 || sweep(w, why) ? -1 : 0;
}

static int end(struct work *w, struct failure *why)
{
	int err = nft_lock(w->kernel->rules, NFT_LOCK_MS, why);

	if (err)
		return -1;
	err = read_others(w, why) || end_locked(w, why);
	nft_unlock(w->kernel->rules);
	return err ? -1 : 0;
}

int drain_run(struct instance *kernel, const struct instance_view *was, uint64_t ms,
	      const volatile sig_atomic_t *hurry, struct drain *drain, struct failure *why)
{
	struct work w = { .kernel = kernel,
			  .spec = &was->rules.spec,
			  .handle = was->rules.handle,
			  .drain = drain };
	int done;

	*drain = (struct drain){ 0 };
	probe_init(&w.probe);
	done = read_others(&w, why) ? -1 : ms ? wait(&w, ms, hurry, why) : 0;
	if (!done)
		done = end(&w, why);
	probe_close(&w.probe);
	neighbours_free(&w.others);
	return done < 0 ? -1 : 0;
}
