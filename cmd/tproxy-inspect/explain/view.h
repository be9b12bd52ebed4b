/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view - the packet in question, and everything that is read to decide what happens to it.
 *
 * Everything is read once, when the view is opened. What we have no right to read (rules need
 * CAP_NET_ADMIN) is missing, and `blind` says so.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_VIEW_H
#define TPROXY_INSPECT_EXPLAIN_VIEW_H

#include "base/endpoint.h"
#include "base/report.h"
#include "firewall/firewall.h"
#include "firewall/packet_path.h"
#include "intercept/instance.h"
#include "net/holder.h"
#include "net/link.h"
#include "net/sockdiag.h"
#include "net/sockowner.h"
#include "tproxy-inspect/explain/steps.h"
#include <stdbool.h>

/* The question. */
struct view_question {
	int protocol;			     /* IPPROTO_TCP or IPPROTO_UDP */
	struct endpoint client, destination; /* the client's port 0: any */
	const char *iif;		     /* NULL: that of the route back to the client */
	bool opens; /* it opened its connection, of which there may be a socket by now */
};

/* An instance of tproxy-setup. */
struct view_instance {
	char name[INTERCEPT_NAME_MAX + 1];
	struct instance_view is;
};

struct view {
	struct instance kernel;
	struct sockdiag *diag;
	struct sockowner_list *owners; /* NULL: no /proc */
	struct firewall *firewall;     /* NULL: blind */
	struct view_instance *instance;
	unsigned instances;
	bool blind;	       /* rules may not be read: */
	struct failure hidden; /* why */

	int protocol;
	struct endpoint client, destination;
	bool own;	  /* the client is this host */
	bool here;	  /* the destination is this host's, or a group's */
	bool example;	  /* the client's port was chosen by us */
	bool opens;	  /* as in the question */
	struct link iif;  /* where it comes in; of what this host opens: lo; no name: unknown */
	bool iif_asked;	  /* given, not chosen by us */
	bool established; /* a connected socket here has these ends, */
	struct sockdiag_socket connection; /* this one */

	/* The instance that intercepts it, once that is known; NULL: none. */
	const struct view_instance *by;
	struct packet_path_flow flow; /* its packets, for the firewall */
	struct sockdiag_socket listener;
	struct holder holder; /* of the listener, or of the established socket */
	char unless[400];     /* a rule that may end its way, as far as is known; "": none */
	struct steps steps;
};

/* 0, or -1 with *why; *usage: the question itself is invalid. Close it in any case. */
int view_open(struct view *v, const struct view_question *question, bool *usage,
	      struct failure *why);
void view_close(struct view *v);

/* How the kernel routes output to that address with that mark: the interface; no name: no route. */
struct link view_out(struct view *v, const struct endpoint *destination, uint32_t mark);

#endif
