/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * collector - a helper that reads the kernel and asks the relays, for the process that answers
 * strangers.
 *
 * To read rules needs CAP_NET_ADMIN (those of iptables-legacy CAP_NET_RAW), and relays answer only
 * root and their own user. The collector keeps the user that started the program and these two
 * capabilities, if they are there; it never sees a byte of a request. The other side only gets
 * texts.
 */
#ifndef TPROXY_INSPECT_EXPORT_COLLECTOR_H
#define TPROXY_INSPECT_EXPORT_COLLECTOR_H

#include "base/report.h"
#include "tproxy-inspect/export/snapshot.h"
#include <stdbool.h>

/* The longest time for one snapshot, after which it counts as hung. */
#define COLLECTOR_LIMIT_MS 10000

struct collector;

/* Start it: while there is one thread, and before privileges are given up. Every instance is to be
 * examined at this interval, in milliseconds; 0: none is. NULL with *why. */
struct collector *collector_new(uint64_t interval, bool sandbox, struct failure *why);
void collector_free(struct collector *c);

/* The descriptor from which a snapshot comes. */
int collector_fd(const struct collector *c);

/* Ask for a snapshot. 0, or -1 with *why: it is gone. Not before the last one has come. */
int collector_ask(struct collector *c, struct failure *why);

/*
 * Read what has come. 1: *s is the snapshot, the caller's; 0: there is more to come; -1 with *why:
 * it has ended, or says what no collector says.
 */
int collector_receive(struct collector *c, struct snapshot *s, struct failure *why);

#endif
