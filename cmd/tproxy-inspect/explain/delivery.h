/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * delivery - from our rules to the process: socket lookups, mark, routing, which process it is and
 * whether it serves.
 *
 * Each function shows its steps and concludes if the packet is lost; each returns whether it
 * continues.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_DELIVERY_H
#define TPROXY_INSPECT_EXPLAIN_DELIVERY_H

#include "tproxy-inspect/explain/view.h"

/* The kernel's tproxy: the connected socket, else the listener; v->listener and v->holder are
 * set. */
bool delivery_find_socket(struct view *v);

/* A bridge whose frames meet the rules of IP (br_netfilter), which loses the socket again; and rules
 * for frames, which are not followed. */
bool delivery_bridge(struct view *v);

/* RTM_GETROUTE with the mark, and source validation. */
bool delivery_route(struct view *v);

/* The same for the server's answer, on the interface of the upstream leg. */
bool delivery_answer_route(struct view *v);

/* IPsec policies that block delivery. */
bool delivery_policies(struct view *v);

/* The mark that a tproxy-relay puts on its own connections: do they get out, past our rules? */
bool delivery_relay_mark(struct view *v);

/* The port by which it connects: does a client on this host hold it? */
bool delivery_relay_port(struct view *v);

/* The process: does it run and accept connections? */
bool delivery_process(struct view *v);

#endif
