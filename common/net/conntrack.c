/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/conntrack.h"

#include "net/netlink.h"
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netlink/addr.h>
#include <netlink/netfilter/ct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Directions, numbered like in libnl-nf. */
enum { ORIGINAL, REPLY };

struct conntrack {
	struct netlink *netlink;
};

struct conntrack *conntrack_open(struct failure *why)
{
	struct conntrack *channel = calloc(1, sizeof(*channel));

	if (!channel) {
		report_fail(why, ENOMEM, "malloc", "conntrack");
		return NULL;
	}
	channel->netlink = netlink_open(NETLINK_NETFILTER, why);
	if (!channel->netlink) {
		conntrack_close(channel);
		return NULL;
	}
	return channel;
}

void conntrack_close(struct conntrack *channel)
{
	if (!channel)
		return;
	netlink_close(channel->netlink);
	free(channel);
}

static struct nl_addr *make_address(const struct endpoint *e)
{
	return nl_addr_build(e->family, (void *)&e->addr,
			     e->family == AF_INET ? sizeof(e->addr.v4) : sizeof(e->addr.v6));
}

/* Put the tuple source -> destination into the entry; 0, or -1 when out of memory. */
static int set_tuple(struct nfnl_ct *entry, const struct endpoint *source,
		     const struct endpoint *destination)
{
	struct nl_addr *from = make_address(source), *to = make_address(destination);
	int err = !from || !to || nfnl_ct_set_src(entry, ORIGINAL, from) ||
		  nfnl_ct_set_dst(entry, ORIGINAL, to);

	nfnl_ct_set_src_port(entry, ORIGINAL, source->port);
	nfnl_ct_set_dst_port(entry, ORIGINAL, destination->port);
	nl_addr_put(from); /* the entry holds its own references */
	nl_addr_put(to);
	return err ? -1 : 0;
}

static struct nl_msg *build_request(int protocol, uint16_t zone, const struct endpoint *local,
				    const struct endpoint *peer)
{
	struct nfnl_ct *entry = nfnl_ct_alloc();
	struct nl_msg *request = NULL;

	if (!entry)
		return NULL;
	nfnl_ct_set_family(entry, local->family);
	nfnl_ct_set_proto(entry, protocol);
	if (zone)
		nfnl_ct_set_zone(entry, zone);
	if (set_tuple(entry, local, peer) || nfnl_ct_build_query_request(entry, 0, &request))
		request = NULL;
	nfnl_ct_put(entry);
	return request;
}

/* The question and its answer. */
struct query {
	int protocol;
	const struct endpoint *local, *peer;
	struct endpoint origdst, seen;
};

static struct endpoint get_endpoint(const struct nl_addr *address, uint16_t port)
{
	struct endpoint e = { .port = port };

	if (!address || nl_addr_get_len(address) > sizeof(e.addr))
		return e;
	e.family = (sa_family_t)nl_addr_get_family(address);
	memcpy(&e.addr, nl_addr_get_binary_addr(address), nl_addr_get_len(address));
	return e;
}

static void read_origdst(struct nlmsghdr *message, void *context)
{
	struct query *query = context;
	struct nfnl_ct *entry = NULL;
	struct endpoint answering;

	if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) ||
	    nfnlmsg_ct_parse(message, &entry))
		return;
	answering = get_endpoint(nfnl_ct_get_src(entry, REPLY), nfnl_ct_get_src_port(entry, REPLY));
	answering.scope = query->local->scope; /* conntrack has no scope */
	/* Found by its original direction, the connection was opened by `local`: nobody redirected
	 * it there. */
	query->origdst = *query->local;
	if (endpoint_equal(&answering, query->local))
		query->origdst = get_endpoint(nfnl_ct_get_dst(entry, ORIGINAL),
					      nfnl_ct_get_dst_port(entry, ORIGINAL));
	nfnl_ct_put(entry);
}

/* Each entry of any zone whose destination was translated. */
struct redirected {
	conntrack_redirected *visit;
	void *context;
	int result;
};

static void read_redirected(struct nlmsghdr *message, void *context)
{
	struct redirected *r = context;
	struct nfnl_ct *entry = NULL;
	struct endpoint local, peer, origdst;

	if (r->result || message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) ||
	    nfnlmsg_ct_parse(message, &entry))
		return;
	local = get_endpoint(nfnl_ct_get_src(entry, REPLY), nfnl_ct_get_src_port(entry, REPLY));
	peer = get_endpoint(nfnl_ct_get_dst(entry, REPLY), nfnl_ct_get_dst_port(entry, REPLY));
	origdst = get_endpoint(nfnl_ct_get_dst(entry, ORIGINAL),
			       nfnl_ct_get_dst_port(entry, ORIGINAL));
	/* (Older kernels send all entries.) */
	if (!endpoint_equal(&local, &origdst))
		r->result = r->visit(nfnl_ct_get_proto(entry), &local, &peer, &origdst, r->context);
	nfnl_ct_put(entry);
}

static struct nl_msg *build_dump(uint32_t status)
{
	struct nl_msg *request = nlmsg_alloc_simple(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
						    NLM_F_DUMP);
	struct nfgenmsg header = { .nfgen_family = AF_UNSPEC };

	if (request && (nlmsg_append(request, &header, sizeof(header), NLMSG_ALIGNTO) ||
			(status && (nla_put_u32(request, CTA_STATUS, htonl(status)) ||
				    nla_put_u32(request, CTA_STATUS_MASK, htonl(status)))))) {
		nlmsg_free(request);
		request = NULL;
	}
	return request;
}

/* A dump that changed meanwhile (EAGAIN) is as good as any: connections come and go. */
static int dump(struct conntrack *channel, uint32_t status, netlink_reader *read, void *context,
		struct failure *why)
{
	int err = netlink_ask(channel->netlink, build_dump(status), read, context);

	if (!err || err == -EAGAIN)
		return 0;
	report_fail(why, -err, "IPCTNL_MSG_CT_GET", "connections");
	if (err == -EINVAL || err == -EOPNOTSUPP)
		report_hint(why, "modprobe nf_conntrack_netlink");
	return -1;
}

int conntrack_each_redirected(struct conntrack *channel, conntrack_redirected *visit, void *context,
			      struct failure *why)
{
	struct redirected r = { visit, context, 0 };

	return dump(channel, IPS_DST_NAT, read_redirected, &r, why);
}

static int compare_redirected(int protocol, const struct endpoint *local,
			      const struct endpoint *peer, const struct endpoint *origdst,
			      void *context)
{
	struct query *query = context;
	struct endpoint here = *query->local, there = *query->peer;

	here.scope = there.scope = 0; /* conntrack has no scope */
	if (protocol != query->protocol || !endpoint_equal(local, &here) ||
	    !endpoint_equal(peer, &there))
		return 0;
	query->origdst = *origdst;
	return 1;
}

static int find_redirected(struct conntrack *channel, struct query *query, struct endpoint *origdst,
			   struct failure *why)
{
	if (conntrack_each_redirected(channel, compare_redirected, query, why))
		return -1;
	*origdst = query->origdst;
	return endpoint_is_set(origdst);
}

static int refuse(struct failure *why, int err, const struct endpoint *local,
		  const struct endpoint *peer)
{
	char here[ENDPOINT_TEXT_MAX], there[ENDPOINT_TEXT_MAX];

	report_fail(why, -err, "IPCTNL_MSG_CT_GET", "%s -> %s", endpoint_format(local, here),
		    endpoint_format(peer, there));
	if (err == -EINVAL || err == -EOPNOTSUPP)
		report_hint(why, "modprobe nf_conntrack_netlink");
	return -1;
}

int conntrack_origdst(struct conntrack *channel, int protocol, const struct endpoint *local,
		      const struct endpoint *peer, struct endpoint *origdst, struct failure *why)
{
	struct query query = { .protocol = protocol, .local = local, .peer = peer };
	int err;

	err = netlink_ask(channel->netlink, build_request(protocol, 0, local, peer), read_origdst,
			  &query);
	*origdst = query.origdst;
	if (err == -ENOENT)
		return find_redirected(channel, &query, origdst, why);
	if (!err)
		return endpoint_is_set(origdst);
	return refuse(why, err, local, peer);
}

/* An entry found by its reply direction would be somebody else's connection to us. */
static void read_source(struct nlmsghdr *message, void *context)
{
	struct query *query = context;
	struct nfnl_ct *entry = NULL;
	struct endpoint source, scopeless = *query->local;

	if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) ||
	    nfnlmsg_ct_parse(message, &entry))
		return;
	scopeless.scope = 0;
	source = get_endpoint(nfnl_ct_get_src(entry, ORIGINAL),
			      nfnl_ct_get_src_port(entry, ORIGINAL));
	if (endpoint_equal(&source, &scopeless))
		query->seen = get_endpoint(nfnl_ct_get_dst(entry, REPLY),
					   nfnl_ct_get_dst_port(entry, REPLY));
	if (endpoint_equal(&query->seen, &scopeless))
		query->seen = *query->local;
	nfnl_ct_put(entry);
}

int conntrack_source(struct conntrack *channel, int protocol, uint16_t zone,
		     const struct endpoint *local, const struct endpoint *peer,
		     struct endpoint *seen, struct failure *why)
{
	struct query query = { .protocol = protocol, .local = local, .peer = peer };
	int err = netlink_ask(channel->netlink, build_request(protocol, zone, local, peer),
			      read_source, &query);

	if (err && err != -ENOENT)
		return refuse(why, err, local, peer);
	*seen = query.seen;
	return endpoint_is_set(seen);
}

struct visit {
	conntrack_visitor *visit;
	void *context;
	int result;
};

static void read_established(struct nlmsghdr *message, void *context)
{
	struct visit *v = context;
	struct nfnl_ct *entry = NULL;
	struct endpoint source, destination;

	if (v->result || nfnlmsg_ct_parse(message, &entry))
		return;
	/* A connection whose destination was changed has a socket here under another address. */
	if (nfnl_ct_get_proto(entry) == IPPROTO_TCP && !(nfnl_ct_get_status(entry) & IPS_DST_NAT) &&
	    nfnl_ct_get_tcp_state(entry) == TCP_CONNTRACK_ESTABLISHED) {
		source = get_endpoint(nfnl_ct_get_src(entry, ORIGINAL),
				      nfnl_ct_get_src_port(entry, ORIGINAL));
		destination = get_endpoint(nfnl_ct_get_dst(entry, ORIGINAL),
					   nfnl_ct_get_dst_port(entry, ORIGINAL));
		v->result = v->visit(&source, &destination, v->context);
	}
	nfnl_ct_put(entry);
}

int conntrack_each_established(struct conntrack *channel, conntrack_visitor *visit, void *context,
			       struct failure *why)
{
	struct visit v = { visit, context, 0 };

	return dump(channel, 0, read_established, &v, why);
}

bool conntrack_is_used(void)
{
	FILE *in = fopen("/proc/sys/net/netfilter/nf_conntrack_count", "re");
	unsigned count = 0;

	if (!in)
		return errno != ENOENT;
	if (fscanf(in, "%u", &count) != 1)
		count = 0;
	fclose(in);
	return count > 0;
}
