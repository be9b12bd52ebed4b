/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * filter - which sockets to select: FILTER of the command line.
 *
 * The kernel selects what it can (states, addresses, ports, mark); the rest is done here: the
 * transparent flag, the families of endpoints (an AF_INET6 socket may have IPv4 ones), owners.
 */
#ifndef TPROXY_INSPECT_FILTER_H
#define TPROXY_INSPECT_FILTER_H

#include "base/match.h"
#include "base/options.h"
#include "base/quantity.h"
#include "net/sockdiag.h"
#include "net/sockowner.h"
#include <stdbool.h>
#include <stdint.h>

struct filter {
	struct match_list local, peer;
	struct mark mark;
	bool by_mark;
	bool all, transparent; /* as typed: neither is transparent ones only */
	uint32_t states;       /* bits 1 << TCP_*; 0: all */
	uint64_t pid;	       /* 0: whoever holds it */
	const char *prog;
	bool ipv4, ipv6, tcp, udp; /* with the defaults applied */
};

/* For option tables; the field is a struct filter for the mark, and its `states` for the states. */
option_setter filter_set_mark, filter_set_states;

/* Take over -4, -6, -t and -u. */
void filter_settle(struct filter *filter, const struct options_common *common);
void filter_free(struct filter *filter);

/* Was any of --local, --peer, --state, --mark, --pid and --prog given? */
bool filter_is_narrow(const struct filter *filter);

/* Additional data wanted about each socket, and what we had no right to see. */
struct filter_walk {
	bool owners, info, mark;	  /* in: see struct sockdiag_socket for info */
	bool owners_hidden, marks_hidden; /* out */
	unsigned long count;		  /* out: sockets that were selected */
};

/* owner: the first selected holder; NULL: unknown, or not wanted. A return other than 0 ends the
 * visits. */
typedef int filter_visitor(const struct sockdiag_socket *s, const struct sockowner *owner,
			   void *context);

/* Visit each selected socket. 0, the visitor's non-zero return, or -1 with *why. */
int filter_each(const struct filter *filter, struct filter_walk *walk, filter_visitor *visit,
		void *context, struct failure *why);

/*
 * The same in parts, for sockets from another source. filter_owners(): which process holds which
 * socket, if that is needed (else *owners is NULL; the caller frees it); 0, or -1 with *why.
 * filter_has(): is that socket selected?
 */
int filter_owners(const struct filter *filter, const struct filter_walk *walk,
		  struct sockowner_list **owners, struct failure *why);
bool filter_has(const struct filter *filter, struct filter_walk *walk,
		const struct sockdiag_socket *s, struct sockowner_list *owners);

/* Is its state selected? (filter_has() does not check: the kernel has selected by state
 * already.) */
bool filter_has_state(const struct filter *filter, const struct sockdiag_socket *s);

/* Report once, as a notice, what we had no right to see. */
void filter_tell_hidden(const struct filter_walk *walk);

#endif
