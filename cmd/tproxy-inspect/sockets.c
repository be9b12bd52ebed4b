/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/sockets.h"

#include "net/sockdiag.h"
#include "net/sockowner.h"
#include "tproxy-inspect/socket_record.h"
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

static const char *interface_name(unsigned index, char name[IF_NAMESIZE])
{
	return index ? if_indextoname(index, name) : NULL;
}

static const enum record_field socket_columns[] = {
	RECORD_PROTO, RECORD_STATE, RECORD_LOCAL, RECORD_PEER, RECORD_TRANSPARENT,
	RECORD_MARK,  RECORD_PID,   RECORD_PROG,  RECORD_FD,
};

/* One walk through the kernel's list. */
struct listing {
	const struct config *config;
	struct record_table table;
	struct sockowner_list *owners; /* NULL when nobody asks for them */
	bool mark_hidden;	       /* a mark was asked for that the kernel does not tell */
};

static bool wants_owners(const struct listing *l)
{
	if (l->config->pid || l->config->prog || l->config->common.json)
		return true;
	for (size_t i = 0; i < l->table.columns.count; i++)
		if (l->table.columns.at[i] == RECORD_PID || l->table.columns.at[i] == RECORD_PROG ||
		    l->table.columns.at[i] == RECORD_FD)
			return true;
	return false;
}

static bool mark_selected(struct listing *l, const struct sockdiag_socket *s)
{
	const struct mark *mark = &l->config->mark;

	if (!l->config->by_mark)
		return true;
	if (!s->has_mark)
		l->mark_hidden = true;
	return s->has_mark && (s->mark & mark->mask) == mark->value;
}

static bool selected(struct listing *l, const struct sockdiag_socket *s)
{
	const struct config *c = l->config;

	if (!c->all && s->transparent != SOCKDIAG_YES)
		return false;
	if (c->local.count && !match_list_has(&c->local, &s->local))
		return false;
	if (c->peer.count && !match_list_has(&c->peer, &s->peer))
		return false;
	return mark_selected(l, s);
}

/* The owner to show: the first of those asked for. *none: there is one to ask for, and it has not
 * got this socket. */
static const struct sockowner *selected_owner(const struct listing *l, uint32_t inode, bool *none)
{
	const struct config *c = l->config;
	const struct sockowner *owner = sockowner_find(l->owners, inode);

	*none = false;
	if (!c->pid && !c->prog)
		return owner;
	for (; owner && owner->inode == inode; owner++)
		if ((!c->pid || owner->pid == (pid_t)c->pid) &&
		    (!c->prog || !strcmp(owner->name, c->prog)))
			return owner;
	*none = true;
	return NULL;
}

static void put_owner(struct record *r, const struct sockowner *owner)
{
	if (!owner)
		return;
	record_number(r, RECORD_PID, (uint64_t)owner->pid);
	record_text(r, RECORD_PROG, owner->name);
	record_number(r, RECORD_FD, (uint64_t)owner->fd);
}

static const char *flag_name(enum sockdiag_flag flag)
{
	static const char *const names[] = { "no", "yes", "unknown" };

	return names[flag];
}

static int list_socket(const struct sockdiag_socket *s, void *context)
{
	struct listing *l = context;
	const struct sockowner *owner;
	char interface[IF_NAMESIZE];
	struct record r;
	bool none;

	if (!selected(l, s))
		return 0;
	owner = selected_owner(l, s->inode, &none);
	if (none)
		return 0;
	record_begin(&r, "socket");
	record_text(&r, RECORD_PROTO, socket_record_proto(s->protocol));
	record_text(&r, RECORD_STATE, sockdiag_state_name(s->state));
	record_endpoint(&r, RECORD_LOCAL, &s->local);
	if (s->peer.port)
		record_endpoint(&r, RECORD_PEER, &s->peer);
	record_text(&r, RECORD_TRANSPARENT, flag_name(s->transparent));
	record_text(&r, RECORD_IIF, interface_name(s->interface, interface));
	if (s->has_mark)
		socket_record_mark(&r, s->mark);
	record_number(&r, RECORD_COOKIE, s->cookie);
	put_owner(&r, owner);
	record_table_put(&l->table, &r);
	return 0;
}

static int list_protocol(struct listing *l, struct sockdiag *diag, int protocol,
			 struct failure *why)
{
	const struct options_common *common = &l->config->common;
	struct sockdiag_filter filter = { .protocol = protocol,
					  .states = l->config->states ? l->config->states : ~0u };

	if (!options_wants_family(common, AF_INET6))
		filter.family = AF_INET;
	else if (!options_wants_family(common, AF_INET))
		filter.family = AF_INET6;
	return sockdiag_dump(diag, &filter, list_socket, l, why);
}

static int list_all(struct listing *l, struct failure *why)
{
	struct sockdiag *diag = sockdiag_open(why);
	int err = diag ? 0 : -1;

	if (!err && wants_owners(l) && !(l->owners = sockowner_read(NULL, why)))
		err = -1;
	if (!err && options_wants_tcp(&l->config->common))
		err = list_protocol(l, diag, IPPROTO_TCP, why);
	if (!err && options_wants_udp(&l->config->common))
		err = list_protocol(l, diag, IPPROTO_UDP, why);
	sockowner_free(l->owners);
	sockdiag_close(diag);
	return err;
}

int sockets_run(const struct config *config, char **operands)
{
	struct listing l = { .config = config };
	struct failure why = { 0 };

	if (record_table_init(&l.table, &config->style, socket_columns,
			      sizeof(socket_columns) / sizeof(*socket_columns), 0, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	if (list_all(&l, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (l.mark_hidden) {
		report_error("--mark: the kernel tells the marks of sockets only with "
			     "CAP_NET_ADMIN");
		return STATUS_REFUSED;
	}
	return STATUS_DONE;
}
