/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/sockdiag.h"

#include "net/netlink.h"
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Bit 5 of the first byte of struct inet_diag_sockopt, whose bit-fields name it `transparent`. */
#define SOCKOPT_TRANSPARENT 0x20

/* Bit 0 of its second byte, `bind_address_no_port`. */
#define SOCKOPT_LATE_PORT 0x01

struct sockdiag {
	struct netlink *netlink;
};

struct sockdiag *sockdiag_open(struct failure *why)
{
	struct sockdiag *diag = calloc(1, sizeof(*diag));

	if (!diag) {
		report_fail(why, ENOMEM, "malloc", "sockdiag");
		return NULL;
	}
	diag->netlink = netlink_open(NETLINK_SOCK_DIAG, why);
	if (!diag->netlink) {
		sockdiag_close(diag);
		return NULL;
	}
	return diag;
}

void sockdiag_close(struct sockdiag *diag)
{
	if (!diag)
		return;
	netlink_close(diag->netlink);
	free(diag);
}

static void put_address(__be32 raw[4], const struct endpoint *e, int family)
{
	if (e->family == AF_INET6) {
		memcpy(raw, &e->addr.v6, sizeof(e->addr.v6));
	} else if (family == AF_INET6) {
		raw[2] = htonl(0xffff);
		raw[3] = e->addr.v4.s_addr;
	} else {
		raw[0] = e->addr.v4.s_addr;
	}
}

static struct endpoint get_endpoint(const struct inet_diag_msg *m, const __be32 raw[4], __be16 port)
{
	union endpoint_sockaddr sa = { 0 };

	if (m->idiag_family == AF_INET) {
		sa.v4.sin_family = AF_INET;
		sa.v4.sin_port = port;
		sa.v4.sin_addr.s_addr = raw[0];
		return endpoint_from_sockaddr(&sa, sizeof(sa.v4));
	}
	sa.v6.sin6_family = AF_INET6;
	sa.v6.sin6_port = port;
	memcpy(&sa.v6.sin6_addr, raw, sizeof(sa.v6.sin6_addr));
	if (IN6_IS_ADDR_LINKLOCAL(&sa.v6.sin6_addr))
		sa.v6.sin6_scope_id = m->id.idiag_if;
	return endpoint_from_sockaddr(&sa, sizeof(sa.v6));
}

static enum sockdiag_flag get_transparent(struct nlattr *sockopt)
{
	if (!sockopt || nla_len(sockopt) < 1)
		return SOCKDIAG_UNKNOWN;
	return *(const uint8_t *)nla_data(sockopt) & SOCKOPT_TRANSPARENT ? SOCKDIAG_YES
									 : SOCKDIAG_NO;
}

static bool get_late_port(struct nlattr *sockopt)
{
	return sockopt && nla_len(sockopt) > 1 &&
	       ((const uint8_t *)nla_data(sockopt))[1] & SOCKOPT_LATE_PORT;
}

/* A number of so many bytes; an attribute that is too short for it counts as absent. */
static struct nlattr *whole(struct nlattr *attribute, int size)
{
	return attribute && nla_len(attribute) >= size ? attribute : NULL;
}

/* Convert the kernel's message to our own structure. False: not an inet_diag message. */
bool sockdiag_parse(struct nlmsghdr *header, int protocol, struct sockdiag_socket *s)
{
	const struct inet_diag_msg *m = nlmsg_data(header);
	struct nlattr *at[INET_DIAG_MAX + 1], *mark, *only6;

	if (nlmsg_parse(header, sizeof(*m), at, INET_DIAG_MAX, NULL) < 0 ||
	    (m->idiag_family != AF_INET && m->idiag_family != AF_INET6))
		return false;
	mark = whole(at[INET_DIAG_MARK], 4);
	only6 = whole(at[INET_DIAG_SKV6ONLY], 1);
	*s = (struct sockdiag_socket){
		.family = m->idiag_family,
		.protocol = protocol,
		.state = m->idiag_state,
		.local = get_endpoint(m, m->id.idiag_src, m->id.idiag_sport),
		.peer = get_endpoint(m, m->id.idiag_dst, m->id.idiag_dport),
		.interface = m->id.idiag_if,
		.transparent = get_transparent(at[INET_DIAG_SOCKOPT]),
		.late_port = get_late_port(at[INET_DIAG_SOCKOPT]),
		.cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0],
		.inode = m->idiag_inode,
		.uid = m->idiag_uid,
		.retransmits = m->idiag_retrans,
		.rqueue = m->idiag_rqueue,
		.wqueue = m->idiag_wqueue,
		.has_mark = mark != NULL,
		/* reported for unconnected sockets only */
		.dual_stack = only6 && !nla_get_u8(only6),
	};
	if (at[INET_DIAG_INFO])
		tcpinfo_parse(nla_data(at[INET_DIAG_INFO]), (size_t)nla_len(at[INET_DIAG_INFO]),
			      s->wqueue, &s->tcp);
	if (mark)
		s->mark = nla_get_u32(mark);
	return true;
}

/* The consumer of the sockets of one answer. */
struct answer {
	int protocol;
	sockdiag_visitor *visit;
	void *context;
	int verdict; /* the visitor's first non-zero return */
	unsigned long count;
};

static void take_socket(struct nlmsghdr *message, void *context)
{
	struct answer *answer = context;
	struct sockdiag_socket s;

	if ((message->nlmsg_type == SOCK_DIAG_BY_FAMILY ||
	     message->nlmsg_type == TCPDIAG_GETSOCK) &&
	    !answer->verdict && sockdiag_parse(message, answer->protocol, &s)) {
		answer->count++;
		answer->verdict = answer->visit(&s, answer->context);
	}
}

/* A program for inet_diag_bc_run(), in the format of sockfilter: sockets explicitly bound to a
 * port. A jump is never true, and leads past the end. */
static const struct inet_diag_bc_op bound_code[2] = {
	{ INET_DIAG_BC_AUTO, sizeof(*bound_code), sizeof(bound_code) },
	{ INET_DIAG_BC_JMP, sizeof(*bound_code), 2 * sizeof(*bound_code) },
};
static const struct sockfilter only_bound = { bound_code, sizeof(bound_code) };

/* Send one request, of either form, and pass on the sockets in the answer. Returns 0 or -errno. */
static int ask(struct sockdiag *diag, int type, int flags, const void *request, size_t size,
	       const struct sockfilter *only, struct answer *answer)
{
	struct nl_msg *message = nlmsg_alloc_size(NLMSG_HDRLEN + size + NLA_HDRLEN + NLA_ALIGNTO +
						  (only ? only->length : 0));
	int err = -1;

	if (message &&
	    nlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, type, 0, NLM_F_REQUEST | flags))
		err = nlmsg_append(message, (void *)request, size, NLMSG_ALIGNTO);
	if (!err && only && only->length)
		err = nla_put(message, INET_DIAG_REQ_BYTECODE, (int)only->length, only->code);
	if (err && message) {
		nlmsg_free(message);
		message = NULL;
	}
	return netlink_ask(diag->netlink, message, take_socket, answer);
}

#define EXTENSION(name) (1 << ((name)-1))

static uint8_t extensions(const struct sockdiag_filter *filter)
{
	return filter->info ? EXTENSION(INET_DIAG_INFO) : 0;
}

static const struct sockfilter *selection(const struct sockdiag_filter *filter)
{
	return filter->bound ? &only_bound : filter->only;
}

/* The kernel walks its whole table of connections, of all namespaces, once per dump: some
 * milliseconds on a machine with much memory, however few there are. Only the older request covers
 * both families in one dump (inet_diag_dump_compat(): AF_UNSPEC). */
static int ask_mixed(struct sockdiag *diag, const struct sockdiag_filter *filter, uint32_t states,
		     struct answer *answer)
{
	const struct inet_diag_req request = {
		.idiag_family = AF_INET,
		.idiag_ext = extensions(filter),
		.idiag_states = states,
	};

	return ask(diag, TCPDIAG_GETSOCK, NLM_F_DUMP, &request, sizeof(request), selection(filter),
		   answer);
}

static int ask_family(struct sockdiag *diag, const struct sockdiag_filter *filter, int family,
		      uint32_t states, struct answer *answer)
{
	const struct inet_diag_req_v2 request = {
		.sdiag_family = (uint8_t)family,
		.sdiag_protocol = (uint8_t)filter->protocol,
		.idiag_ext = extensions(filter),
		.idiag_states = states,
	};

	return ask(diag, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, sizeof(request),
		   selection(filter), answer);
}

static int ask_families(struct sockdiag *diag, const struct sockdiag_filter *filter,
			uint32_t states, struct answer *answer)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < 2 && !answer->verdict; i++) {
		int err;

		if (filter->family != AF_UNSPEC && filter->family != families[i])
			continue;
		err = ask_family(diag, filter, families[i], states, answer);
		if (err == -ENOENT && filter->family == AF_UNSPEC && families[i] == AF_INET6)
			continue; /* a kernel without IPv6 */
		if (err < 0)
			return err;
	}
	return 0;
}

/* Listeners have a table of their own, which is short: they keep their order, IPv4 first. */
static int ask_all(struct sockdiag *diag, const struct sockdiag_filter *filter,
		   struct answer *answer)
{
	uint32_t listeners = filter->states & 1u << TCP_LISTEN;
	uint32_t others = filter->states & ~listeners;
	unsigned long before;
	int err;

	if (!filter->mixed || filter->protocol != IPPROTO_TCP)
		return ask_families(diag, filter, filter->states, answer);
	err = listeners ? ask_families(diag, filter, listeners, answer) : 0;
	if (err || answer->verdict || !others)
		return err;
	before = answer->count;
	err = ask_mixed(diag, filter, others, answer);
	/* A kernel that does not know the older request. */
	return err && answer->count == before ? ask_families(diag, filter, others, answer) : err;
}

int sockdiag_dump(struct sockdiag *diag, const struct sockdiag_filter *filter,
		  sockdiag_visitor *visit, void *context, struct failure *why)
{
	struct answer answer = { .protocol = filter->protocol, .visit = visit, .context = context };
	int err = ask_all(diag, filter, &answer);

	if (err < 0)
		return report_fail(why, -err, "SOCK_DIAG", "list of %s sockets",
				   filter->protocol == IPPROTO_TCP ? "TCP" : "UDP");
	return answer.verdict;
}

static int keep_socket(const struct sockdiag_socket *s, void *context)
{
	*(struct sockdiag_socket *)context = *s;
	return 1;
}

int sockdiag_lookup(struct sockdiag *diag, int protocol, const struct endpoint *source,
		    const struct endpoint *destination, uint32_t interface,
		    struct sockdiag_socket *out, struct failure *why)
{
	/* TCP wants the socket's view (its local address first), UDP the packet's: udp_dump_one()
	 * has "src and dst are swapped for historical reasons". */
	const struct endpoint *first = protocol == IPPROTO_UDP ? source : destination;
	const struct endpoint *second = protocol == IPPROTO_UDP ? destination : source;
	struct inet_diag_req_v2 request = {
		.sdiag_family = destination->family,
		.sdiag_protocol = protocol,
		.idiag_ext = EXTENSION(INET_DIAG_INFO),
		.idiag_states = ~0u,
		.id = { .idiag_sport = htons(first->port),
			.idiag_dport = htons(second->port),
			.idiag_if = interface,
			.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } },
	};
	struct answer answer = { .protocol = protocol, .visit = keep_socket, .context = out };
	char text[ENDPOINT_TEXT_MAX];
	int err;

	put_address(request.id.idiag_src, first, request.sdiag_family);
	put_address(request.id.idiag_dst, second, request.sdiag_family);
	err = ask(diag, SOCK_DIAG_BY_FAMILY, 0, &request, sizeof(request), NULL, &answer);
	if (err == -ENOENT)
		return 0;
	if (err < 0)
		return report_fail(why, -err, "SOCK_DIAG", "%s",
				   endpoint_format(destination, text));
	return answer.verdict;
}

static struct match exactly(const struct endpoint *e, struct port_range *port)
{
	*port = (struct port_range){ e->port, e->port };
	return (struct match){ .cidr = endpoint_host_cidr(e), .ports = { port, 1 } };
}

/* The ends to search for, and the socket found. */
struct search {
	const struct endpoint *local, *peer;
	struct sockdiag_socket *out;
};

static int compare_ends(const struct sockdiag_socket *s, void *context)
{
	const struct search *search = context;

	if (!endpoint_equal(&s->local, search->local) || !endpoint_equal(&s->peer, search->peer))
		return 0;
	*search->out = *s;
	return 1;
}

static int search_all(struct sockdiag *diag, int protocol, struct search *search,
		      struct failure *why)
{
	struct port_range ports[2];
	struct match ends[] = { exactly(search->local, &ports[0]),
				exactly(search->peer, &ports[1]) };
	const struct match_list local = { &ends[0], 1 }, peer = { &ends[1], 1 };
	const struct sockfilter_spec spec = { .local = &local, .peer = &peer };
	struct sockdiag_filter filter = { .protocol = protocol, .states = ~0u, .info = true };
	struct sockfilter only;
	int found = sockfilter_make(&spec, &only, why);

	filter.only = &only;
	if (!found)
		found = sockdiag_dump(diag, &filter, compare_ends, search, why);
	sockfilter_free(&only);
	return found;
}

int sockdiag_find(struct sockdiag *diag, int protocol, const struct endpoint *local,
		  const struct endpoint *peer, struct sockdiag_socket *out, struct failure *why)
{
	struct search search = { local, peer, out };
	int found = sockdiag_lookup(diag, protocol, peer, local, local->scope, out, why);

	/* The kernel's lookup falls back to a listener, and does not find sockets bound to another
	 * interface. */
	if (found < 0 || (found && endpoint_equal(&out->peer, peer)))
		return found;
	return search_all(diag, protocol, &search, why);
}

int sockdiag_destroy(struct sockdiag *diag, const struct sockdiag_socket *s, struct failure *why)
{
	struct inet_diag_req_v2 request = {
		.sdiag_family = s->family,
		.sdiag_protocol = s->protocol,
		.idiag_states = ~0u,
		.id = { .idiag_sport = htons(s->local.port),
			.idiag_dport = htons(s->peer.port),
			.idiag_if = s->interface,
			.idiag_cookie = { (uint32_t)s->cookie, (uint32_t)(s->cookie >> 32) } },
	};
	struct answer answer = { .protocol = s->protocol };
	char local[ENDPOINT_TEXT_MAX], peer[ENDPOINT_TEXT_MAX];
	int err;

	put_address(request.id.idiag_src, &s->local, s->family);
	put_address(request.id.idiag_dst, &s->peer, s->family);
	err = ask(diag, SOCK_DESTROY, 0, &request, sizeof(request), NULL, &answer);
	if (err < 0)
		return report_fail(why, -err, "SOCK_DESTROY", "%s -> %s",
				   endpoint_format(&s->local, local),
				   endpoint_format(&s->peer, peer));
	return 0;
}

/* By the kernel's numbers (net/tcp_states.h); user space sees 12 as SYN-RECV. */
static const struct {
	const char *name, *alias;
} states[] = {
	[TCP_ESTABLISHED] = { "ESTAB", "established" },
	[TCP_SYN_SENT] = { "SYN-SENT", NULL },
	[TCP_SYN_RECV] = { "SYN-RECV", NULL },
	[TCP_FIN_WAIT1] = { "FIN-WAIT-1", NULL },
	[TCP_FIN_WAIT2] = { "FIN-WAIT-2", NULL },
	[TCP_TIME_WAIT] = { "TIME-WAIT", NULL },
	[TCP_CLOSE] = { "UNCONN", "closed" },
	[TCP_CLOSE_WAIT] = { "CLOSE-WAIT", NULL },
	[TCP_LAST_ACK] = { "LAST-ACK", NULL },
	[TCP_LISTEN] = { "LISTEN", "listening" },
	[TCP_CLOSING] = { "CLOSING", NULL },
	[12] = { "NEW-SYN-RECV", NULL },
	[13] = { "BOUND-INACTIVE", NULL },
};
#define STATES (int)(sizeof(states) / sizeof(*states))

const char *sockdiag_state_name(int state)
{
	return state > 0 && state < STATES ? states[state].name : "UNKNOWN";
}

int sockdiag_state_parse(const char *name)
{
	for (int i = 1; i < STATES; i++)
		if (!strcasecmp(name, states[i].name) ||
		    (states[i].alias && !strcasecmp(name, states[i].alias)))
			return i;
	return 0;
}
