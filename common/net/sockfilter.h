/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockfilter - a selection of sockets as an inet_diag program, so that the kernel sends no others.
 *
 * Facts (net/ipv4/inet_diag.c): the program is a chain of operations, each with the distance to the
 * next one if it is true and if it is false. The distances for true must lead through all
 * operations to the very end, which accepts; a jump to 4 bytes past the end rejects. An IPv4 prefix
 * also matches the mapped addresses of AF_INET6 sockets. A condition on the mark needs
 * CAP_NET_ADMIN.
 */
#ifndef TPROXY_NET_SOCKFILTER_H
#define TPROXY_NET_SOCKFILTER_H

#include "base/match.h"
#include "base/quantity.h"
#include "base/report.h"
#include <stddef.h>

/* What to select: sockets that meet every condition that is set. */
struct sockfilter_spec {
	const struct match_list *local, *peer; /* NULL or empty: any */
	const struct mark *mark;	       /* NULL: any */
};

/* A program; a zeroed one selects everything. The owner calls sockfilter_free(). */
struct sockfilter {
	const void *code;
	size_t length;
};

/*
 * Build the program. Lists that are too long for the kernel (64 KB, a few thousand prefixes) are
 * left out, so the result may have more sockets than requested. 0, or -1 with *why when out of
 * memory.
 */
int sockfilter_make(const struct sockfilter_spec *spec, struct sockfilter *out,
		    struct failure *why);
void sockfilter_free(struct sockfilter *filter);

#endif
