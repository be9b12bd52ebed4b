/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/socket_record.h"

#include <netinet/in.h>

const char *socket_record_proto(int protocol)
{
	return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

/* SO_MARK is the whole mark: no mask. */
static void put_mark(struct record *r, uint32_t value)
{
	struct mark mark = { value, ~0u };

	record_mark(r, RECORD_MARK, &mark);
}

static const char *flag_name(enum sockdiag_flag flag)
{
	static const char *const names[] = { "no", "yes", "unknown" };

	return names[flag];
}

void socket_record_fill(struct record *r, const struct sockdiag_socket *s, char device[IF_NAMESIZE])
{
	record_begin(r, "socket");
	record_text(r, RECORD_PROTO, socket_record_proto(s->protocol));
	record_text(r, RECORD_STATE, sockdiag_state_name(s->state));
	if (s->dual_stack && endpoint_is_any(&s->local))
		record_any_endpoint(r, RECORD_LOCAL, s->local.port);
	else
		record_endpoint(r, RECORD_LOCAL, &s->local);
	if (s->peer.port)
		record_endpoint(r, RECORD_PEER, &s->peer);
	record_text(r, RECORD_TRANSPARENT, flag_name(s->transparent));
	if (s->interface)
		record_text(r, RECORD_IIF, if_indextoname(s->interface, device));
	if (s->has_mark)
		put_mark(r, s->mark);
	record_number(r, RECORD_COOKIE, s->cookie);
}

void socket_record_owner(struct record *r, const struct sockowner *owner)
{
	if (!owner)
		return;
	record_number(r, RECORD_PID, (uint64_t)owner->pid);
	record_text(r, RECORD_PROG, owner->name);
	record_number(r, RECORD_FD, (uint64_t)owner->fd);
}

void socket_record_origin(struct record *r, const struct origin_answer *answer)
{
	record_endpoint(r, RECORD_ORIGDST, &answer->origdst);
	record_text(r, RECORD_ORIGDST_BY, transparent_origin_name(answer->origin));
}
