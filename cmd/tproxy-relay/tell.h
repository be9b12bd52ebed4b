/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tell - messages of tproxy-relay, on standard error and to the service manager.
 */
#ifndef TPROXY_RELAY_TELL_H
#define TPROXY_RELAY_TELL_H

#include "base/record_stream.h"
#include "base/report.h"
#include "process/reason.h"
#include "tproxy-relay/relay.h"
#include "tproxy-relay/stats.h"
#include <stdbool.h>
#include <stdint.h>

/* Hooks of struct relay and stats_collect(). */
void tell_trouble(enum reason reason, const struct failure *why);
void tell_unheard(const struct failure *why);
void tell_ready(const struct relay *relay);
void tell_lame(const struct relay *relay);
bool tell_stopping(const struct relay *relay);
void tell_stats(struct stats *f, void *context);

/* Records were lost, cannot be written, are awaited at the end; the last two are hooks of
 * record_output. */
void tell_lost(const struct record_losses *lost);
void tell_unwritable(const struct failure *why);
void tell_waiting(uint64_t records, uint64_t ms);

/* The first phase of its end: with --lame-duck that, unless another relay has taken over its
 * listeners and is alive, so that nobody has to be told to go elsewhere. In worker 0's thread,
 * while they are open. */
enum relay_phase tell_first_phase(const struct relay *relay);

/* Report what the relay has done in total. */
void tell_work(const struct relay *relay);

/* --inetd: report how the connection ended, and return the exit status for it. */
int tell_end(const struct relay *relay);

#endif
