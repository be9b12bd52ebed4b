/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/unixdiag.h"

#include "net/netlink.h"
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <string.h>
#include <sys/socket.h>

struct answer {
	unixdiag_visitor *visit;
	void *context;
};

/* False: it has no abstract name. */
static bool get_name(struct nlattr *attribute, char name[UNIXDIAG_NAME_MAX])
{
	const char *bytes = attribute ? nla_data(attribute) : NULL;
	int length = attribute ? nla_len(attribute) : 0;

	if (length < 1 || length >= UNIXDIAG_NAME_MAX || bytes[0])
		return false;
	for (int i = 0; i < length; i++)
		name[i] = bytes[i] ? bytes[i] : '@';
	name[length] = '\0';
	return true;
}

static void take_socket(struct nlmsghdr *header, void *context)
{
	const struct answer *answer = context;
	const struct unix_diag_msg *m = nlmsg_data(header);
	struct nlattr *at[UNIX_DIAG_MAX + 1], *uid;
	struct unixdiag_listener l = { .known = false };

	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    nlmsg_parse(header, sizeof(*m), at, UNIX_DIAG_MAX, NULL) < 0 ||
	    m->udiag_type != SOCK_STREAM || m->udiag_state != TCP_LISTEN ||
	    !get_name(at[UNIX_DIAG_NAME], l.name))
		return;
	uid = at[UNIX_DIAG_UID];
	l.known = uid && nla_len(uid) >= 4;
	if (l.known)
		l.uid = nla_get_u32(uid);
	answer->visit(&l, answer->context);
}

int unixdiag_each(unixdiag_visitor *visit, void *context, struct failure *why)
{
	const struct unix_diag_req request = {
		.sdiag_family = AF_UNIX,
		.udiag_states = 1U << TCP_LISTEN,
		.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID,
	};
	struct answer answer = { visit, context };
	struct netlink *netlink = netlink_open(NETLINK_SOCK_DIAG, why);
	struct nl_msg *message;
	int err;

	if (!netlink)
		return -1;
	message = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP);
	if (message && nlmsg_append(message, (void *)&request, sizeof(request), NLMSG_ALIGNTO)) {
		nlmsg_free(message);
		message = NULL;
	}
	err = netlink_ask(netlink, message, take_socket, &answer);
	netlink_close(netlink);
	return err ? report_fail(why, -err, "SOCK_DIAG", "list of local sockets") : 0;
}
