/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * figures - what a relay says of itself in numbers: one table, from which the summary on SIGUSR1, the
 * control socket and the metrics file are made.
 *
 * The counters of all workers are summed up when somebody asks. What connections have carried that are
 * still open is asked of each worker in its own thread: so bytes grow while a connection lasts, and no
 * byte is counted twice or missed when it ends.
 */
#ifndef TPROXY_FIGURES_H
#define TPROXY_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tally.h"
#include "worker.h"

enum figure {
	FIGURE_CONNECTIONS,  /* now, also those being accepted */
	FIGURE_MAX,	     /* at once */
	FIGURE_THREADS,	     /* of the relay */
	FIGURE_ACCEPTING,    /* threads that accept now */
	FIGURE_RECORDS_LOST, /* their reader was too slow */
	FIGURE_TALLY,	     /* from here one for each counter of a tally */
	FIGURE_COUNT = FIGURE_TALLY + TALLY_COUNT
};

struct figures {
	uint64_t at[FIGURE_COUNT];
	struct relay *relay;
	struct relay_tour tour;
	void (*done)(struct figures *figures, void *context);
	void *context;
	bool busy; /* on its way */
};

/*
 * Sum up; done is called in worker 0's thread, at the latest when the relay ends. Until then *f belongs
 * to the figures. False, and nothing happens, when the last call for *f is not done yet.
 */
bool figures_collect(struct figures *f, struct relay *relay,
		     void (*done)(struct figures *f, void *context), void *context);

/* The same at once, where no worker runs: before relay_run() or after it. */
void figures_collect_now(struct figures *f, struct relay *relay);

/* `connections`, `accepted`, ..., and the reasons' names. NULL: a number that means nothing. */
const char *figures_name(unsigned which);

/*
 * All of them as OpenMetrics text, which is at the same time what Prometheus' text format allows.
 * Returns it (the caller frees it) and its length, or NULL with errno.
 */
char *figures_print(const struct figures *f, size_t *length);

#endif
