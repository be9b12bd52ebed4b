/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * connection - the state of a connection or flow that is not closed at once.
 */
#ifndef TPROXY_LISTEN_CONNECTION_H
#define TPROXY_LISTEN_CONNECTION_H

#include "base/endpoint.h"
#include "process/loop.h"
#include "socket/listeners.h"
#include "socket/proxyproto_wait.h"
#include "socket/transparent.h"
#include "tproxy-listen/children.h"
#include <stdint.h>

struct service;

/* The states of service.h. */
enum phase { PHASE_HEADER, PHASE_WAITING, PHASE_OPENING, PHASE_SERVED, PHASE_LINGERING, PHASE_RUN };

/* The data for the records of a connection. */
struct caller {
	uint64_t id, cookie;
	struct endpoint client, origdst;
	struct endpoint local; /* UDP: the destination of the datagrams on arrival */
	const struct listener *listener;
	enum transparent_origin origin;
	int protocol;
	uint32_t mark;
	unsigned interface;
};

struct connection {
	union {
		struct proxyproto_wait wait; /* PHASE_HEADER; it begins with its source */
		struct {
			struct loop_source source;
			union { /* a deadline or a child, and garbage at the end */
				struct loop_timer timer;
				struct child child;
				struct loop_garbage garbage;
			};
			uint64_t bytes_up, bytes_down, packets_up, packets_down;
		};
	};
	struct service *service;
	struct connection *next;	  /* flow: in its list; WAITING: the next one */
	struct connection *older, *newer; /* flow: in the order of last datagrams */
	struct caller caller;
	uint64_t opened_us;
	enum phase phase;
};

#endif
