/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel could answer of a table: any attributes, nested or not.
 *
 * netlink_ask() is the fuzzer's. The input is a list of answers, one a question: how many bytes of
 * attributes, and these. Two scans of the same are the same.
 */
#include "intercept/nft_scan.h"
#include "fuzz.h"
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>

static const uint8_t *input, *input_end;
static unsigned questions;

static size_t take(void)
{
	return input < input_end ? *input++ : 0;
}

/* In memory of exactly its size. */
static struct nlmsghdr *answer(size_t size)
{
	size_t length = NLMSG_HDRLEN + sizeof(struct nfgenmsg) + size;
	struct nlmsghdr *message = calloc(1, length);

	if (!message)
		abort();
	message->nlmsg_len = (uint32_t)length;
	memcpy((char *)message + length - size, input, size);
	input += size;
	return message;
}

int netlink_ask(struct netlink *channel, struct nl_msg *message, netlink_reader *read,
		void *context)
{
	size_t size = take() | take() << 8;
	struct nlmsghdr *m;

	nlmsg_free(message);
	if (questions++ > 500 || size == 0xffff)
		return -ENOENT;
	if (size > (size_t)(input_end - input))
		size = (size_t)(input_end - input);
	m = answer(size);
	read(m, context);
	free(m);
	return 0;
}

static void visit(const struct nft_scan_object *o, void *context)
{
	uint64_t *sum = context;

	fuzz_holds(o->name != NULL, "an object has a name");
	fuzz_holds(o->kind <= NFT_SCAN_RULE, "and is of a known kind");
	*sum = *sum * 31 + o->digest + strlen(o->name) + (o->comment ? strlen(o->comment) : 0) +
	       o->packets;
}

static void restart(void *context)
{
	*(uint64_t *)context = 1;
}

static uint64_t scan(const uint8_t *data, size_t size)
{
	struct nft_scan_found found;
	uint64_t sum = 0;
	struct failure why;

	input = data;
	input_end = data + size;
	questions = 0;
	nft_scan_table(NULL, "t", &found, visit, restart, &sum, &why);
	return sum * 31 + found.handle + found.dormant;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t first;

	if (size > FUZZ_TEXT_MAX)
		return 0;
	first = scan(data, size);
	fuzz_holds(scan(data, size) == first, "two scans of the same are the same");
	return 0;
}
