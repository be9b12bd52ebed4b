/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/listening.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

struct search {
	const struct endpoint *to;
	struct listening_state *state;
};

bool listening_matches(const struct sockdiag_socket *s, const struct endpoint *to)
{
	if (s->local.port != to->port)
		return false;
	if (s->local.family != to->family)
		return s->dual_stack && to->family == AF_INET && endpoint_is_any(&s->local);
	return endpoint_is_any(&s->local) || endpoint_same_address(&s->local, to);
}

static int note_listener(const struct sockdiag_socket *s, void *context)
{
	struct search *search = context;

	if (!listening_matches(s, search->to))
		return 0;
	if (!search->state->count++)
		search->state->first = *s;
	if (s->transparent == SOCKDIAG_NO)
		search->state->nontransparent++;
	return 0;
}

int listening_each(struct sockdiag *diag, int protocol, sockdiag_visitor *visit, void *context,
		   struct failure *why)
{
	/* An unconnected UDP socket is in state CLOSE. */
	const struct sockdiag_filter filter = {
		.protocol = protocol,
		.states = 1U << (protocol == IPPROTO_TCP ? TCP_LISTEN : TCP_CLOSE),
	};

	return sockdiag_dump(diag, &filter, visit, context, why);
}

int listening_look(int protocol, const struct endpoint *to, struct listening_state *state,
		   struct failure *why)
{
	struct search search = { to, state };
	struct sockdiag *diag;
	int err;

	*state = (struct listening_state){ 0 };
	if (!endpoint_is_set(to))
		return 0;
	diag = sockdiag_open(why);
	if (!diag)
		return -1;
	err = listening_each(diag, protocol, note_listener, &search, why);
	sockdiag_close(diag);
	return err;
}

/* The search for the socket that is in a listener's way. */
struct occupant {
	const struct endpoint *wanted;
	struct sockdiag_socket socket;
};

/* It gets what is sent there; or it has a specific address, and the wanted one is any. */
static int find_occupant(const struct sockdiag_socket *s, void *context)
{
	struct occupant *o = context;
	bool same_family = s->local.family == o->wanted->family || s->dual_stack;

	if (!listening_matches(s, o->wanted) &&
	    !(endpoint_is_any(o->wanted) && s->local.port == o->wanted->port && same_family))
		return 0;
	o->socket = *s;
	return 1;
}

const char *listening_describe(int protocol, const struct endpoint *at,
			       char buf[SOCKOWNER_TEXT_MAX])
{
	struct occupant found = { .wanted = at };
	struct sockdiag *diag = sockdiag_open(NULL);

	if (diag && listening_each(diag, protocol, find_occupant, &found, NULL) == 1) {
		struct sockowner_list *owners = sockowner_read(NULL, NULL);

		sockowner_describe(owners, found.socket.inode, found.socket.uid, buf);
		sockowner_free(owners);
	} else {
		snprintf(buf, SOCKOWNER_TEXT_MAX, "another process");
	}
	sockdiag_close(diag);
	return buf;
}
