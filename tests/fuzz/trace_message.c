/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A series of messages of nftrace, with any attributes: what is followed stays within its bounds,
 * and every packet that entered comes to one end.
 */
#include "tproxy-inspect/explain/trace_message.h"
#include "fuzz.h"
#include "tproxy-inspect/explain/packet_fates.h"
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/msg.h>

/* In memory of exactly its size. */
static struct nlmsghdr *message(const uint8_t *data, size_t size)
{
	size_t length = NLMSG_HDRLEN + sizeof(struct nfgenmsg) + size;
	struct nlmsghdr *m = calloc(1, length);

	if (!m)
		abort();
	m->nlmsg_len = (uint32_t)length;
	m->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE;
	memcpy((char *)m + length - size, data, size);
	return m;
}

static void note(struct packet_fates *f, uint8_t how, struct nlmsghdr *m, uint64_t now)
{
	struct packet_trace_event e = {
		.ours = how & 1,
		.begins = how & 2,
		.last = how & 4,
		.hook = (enum packet_trace_hook)((how >> 3) % TRACE_HOOKS),
	};

	if (!trace_message_parse(m, &e.message))
		return;
	fuzz_holds(e.message.table && strlen(e.message.table) <= NFT_NAME_MAXLEN,
		   "a table has a name");
	fuzz_holds(e.message.chain && strlen(e.message.chain) <= NFT_NAME_MAXLEN,
		   "a chain has a name");
	packet_fates_note(f, &e, now, now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct packet_fates f;
	uint64_t now = 1, entered = 0, ended;

	memset(&f, 0, sizeof(f));
	f.tuple.protocol = size ? *data & 1 ? IPPROTO_TCP : IPPROTO_UDP : 0;
	while (size >= 2) {
		uint8_t how = data[0];
		size_t length = data[1] < size - 2 ? data[1] : size - 2;
		struct nlmsghdr *m = message(data + 2, length);

		note(&f, how, m, now++);
		free(m);
		data += 2 + length;
		size -= 2 + length;
	}
	packet_fates_settle(&f, now, 0);
	ended = f.more;
	for (unsigned i = 0; i < f.count; i++)
		ended += f.at[i].packets;
	for (unsigned i = 0; i < LEGS; i++)
		entered += f.packets[i];
	fuzz_holds(f.count <= PACKET_FATES_MAX, "so many fates at most");
	fuzz_holds(entered == ended, "each packet comes to one end");
	return 0;
}
