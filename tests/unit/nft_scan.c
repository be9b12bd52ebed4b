/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A table of nf_tables, part by part: what moves by itself changes no digest, and whatever else
 * does.
 *
 * netlink_ask() is the test's: a kernel with one table.
 */
#include "intercept/nft_scan.h"
#include "check.h"
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#define OBJECTS 16

/* What the kernel says; a test changes one thing at a time. */
static struct kernel {
	const char *table, *chain, *set, *counter, *comment, *expression, *looked_up;
	uint64_t handle, rule_handle, packets;
	uint32_t generation, table_flags, set_flags, policy;
	const char *element[2]; /* of the set, which may be anonymous */
	int refuses;		/* the question of this type, */
	int err;		/* with that error */
	int changes;		/* so often the rules change while they are read */
} kernel, usual = {
	.table = "t",
	.chain = "prerouting",
	.set = "__set0",
	.counter = "hits",
	.comment = "one",
	.expression = "lookup",
	.looked_up = "__set0",
	.handle = 7,
	.rule_handle = 3,
	.packets = 10,
	.generation = 1,
	.set_flags = NFT_SET_ANONYMOUS | NFT_SET_CONSTANT,
	.element = { "80", "443" },
};

static struct nl_msg *reply(void)
{
	const struct nfgenmsg header = { .version = NFNETLINK_V0 };
	struct nl_msg *m = nlmsg_alloc_simple(NFNL_SUBSYS_NFTABLES << 8, 0);

	nlmsg_append(m, (void *)&header, sizeof(header), NLMSG_ALIGNTO);
	return m;
}

static void put_u64(struct nl_msg *m, int type, uint64_t value)
{
	nla_put_u64(m, type, htobe64(value));
}

static struct nl_msg *generation(void)
{
	struct nl_msg *m = reply();

	nla_put_u32(m, NFTA_GEN_ID, htonl(kernel.generation));
	if (kernel.changes > 0 && kernel.changes--)
		kernel.generation++;
	return m;
}

static struct nl_msg *table(void)
{
	struct nl_msg *m = reply();

	nla_put_string(m, NFTA_TABLE_NAME, kernel.table);
	put_u64(m, NFTA_TABLE_HANDLE, kernel.handle);
	nla_put_u32(m, NFTA_TABLE_FLAGS, htonl(kernel.table_flags));
	return m;
}

static struct nl_msg *chain(void)
{
	struct nl_msg *m = reply();

	nla_put_string(m, NFTA_CHAIN_TABLE, kernel.table);
	nla_put_string(m, NFTA_CHAIN_NAME, kernel.chain);
	nla_put_u32(m, NFTA_CHAIN_POLICY, kernel.policy);
	put_u64(m, NFTA_CHAIN_HANDLE, kernel.rule_handle);
	return m;
}

static struct nl_msg *set(void)
{
	struct nl_msg *m = reply();

	nla_put_string(m, NFTA_SET_TABLE, kernel.table);
	nla_put_string(m, NFTA_SET_NAME, kernel.set);
	nla_put_u32(m, NFTA_SET_FLAGS, htonl(kernel.set_flags));
	return m;
}

static struct nl_msg *elements(void)
{
	struct nl_msg *m = reply();
	struct nlattr *list = nla_nest_start(m, NFTA_SET_ELEM_LIST_ELEMENTS);

	for (int i = 0; i < 2; i++)
		nla_put_string(m, NFTA_LIST_ELEM, kernel.element[i]);
	nla_nest_end(m, list);
	return m;
}

static struct nl_msg *counter(void)
{
	struct nl_msg *m = reply();
	struct nlattr *data;

	nla_put_string(m, NFTA_OBJ_TABLE, kernel.table);
	nla_put_string(m, NFTA_OBJ_NAME, kernel.counter);
	data = nla_nest_start(m, NFTA_OBJ_DATA);
	put_u64(m, NFTA_COUNTER_PACKETS, kernel.packets);
	put_u64(m, NFTA_COUNTER_BYTES, kernel.packets * 100);
	nla_nest_end(m, data);
	return m;
}

static struct nl_msg *rule(void)
{
	uint8_t userdata[64] = { 0, (uint8_t)(strlen(kernel.comment) + 1) };
	struct nl_msg *m = reply();
	struct nlattr *list, *expression, *data;

	nla_put_string(m, NFTA_RULE_CHAIN, kernel.chain);
	put_u64(m, NFTA_RULE_HANDLE, kernel.rule_handle);
	list = nla_nest_start(m, NFTA_RULE_EXPRESSIONS);
	expression = nla_nest_start(m, NFTA_LIST_ELEM);
	nla_put_string(m, NFTA_EXPR_NAME, kernel.expression);
	data = nla_nest_start(m, NFTA_EXPR_DATA);
	nla_put_string(m, NFTA_LOOKUP_SET, kernel.looked_up);
	nla_nest_end(m, data);
	nla_nest_end(m, expression);
	nla_nest_end(m, list);
	strcpy((char *)userdata + 2, kernel.comment);
	if (*kernel.comment)
		nla_put(m, NFTA_RULE_USERDATA, 3 + (int)strlen(kernel.comment), userdata);
	return m;
}

int netlink_ask(struct netlink *channel, struct nl_msg *message, netlink_reader *read,
		void *context)
{
	int type = nlmsg_hdr(message)->nlmsg_type & 0xff;
	struct nl_msg *m = type == NFT_MSG_GETGEN	? generation()
			   : type == NFT_MSG_GETTABLE	? table()
			   : type == NFT_MSG_GETCHAIN	? chain()
			   : type == NFT_MSG_GETSET	? set()
			   : type == NFT_MSG_GETSETELEM ? elements()
			   : type == NFT_MSG_GETOBJ	? counter()
							: rule();

	nlmsg_free(message);
	if (type == kernel.refuses) {
		nlmsg_free(m);
		return kernel.err;
	}
	read(nlmsg_hdr(m), context);
	nlmsg_free(m);
	return 0;
}

/* What was seen, with the strings copied. */
static struct seen {
	struct nft_scan_object at[OBJECTS];
	char name[OBJECTS][32], comment[OBJECTS][32];
	unsigned count, restarts;
	struct nft_scan_found found;
	int result;
	struct failure why;
} seen;

static void visit(const struct nft_scan_object *o, void *context)
{
	if (seen.count == OBJECTS)
		return;
	snprintf(seen.name[seen.count], sizeof(*seen.name), "%s", o->name);
	snprintf(seen.comment[seen.count], sizeof(*seen.comment), "%s",
		 o->comment ? o->comment : "");
	seen.at[seen.count++] = *o;
}

static void restart(void *context)
{
	seen.count = 0;
	seen.restarts++;
}

static void scan(void)
{
	seen = (struct seen){ .found.handle = 99 };
	seen.result = nft_scan_table(NULL, "t", &seen.found, visit, restart, NULL, &seen.why);
}

static uint64_t digest_of(enum nft_scan_kind kind)
{
	scan();
	for (unsigned i = 0; i < seen.count; i++)
		if (seen.at[i].kind == kind)
			return seen.at[i].digest;
	CHECK(0);
	return 0;
}

static void test_objects(void)
{
	kernel = usual;
	scan();
	CHECK(seen.result == 0 && seen.found.handle == 7 && seen.restarts == 1);
	/* The anonymous set is the rule's. */
	CHECK(seen.count == 3);
	CHECK(seen.at[0].kind == NFT_SCAN_CHAIN && !strcmp(seen.name[0], "prerouting"));
	CHECK(seen.at[1].kind == NFT_SCAN_COUNTER && !strcmp(seen.name[1], "hits"));
	CHECK(seen.at[1].packets == 10 && seen.at[1].bytes == 1000);
	CHECK(seen.at[2].kind == NFT_SCAN_RULE && !strcmp(seen.name[2], "prerouting"));
	CHECK_TEXT(seen.comment[2], "one");
	CHECK(!seen.found.dormant);
	kernel.table_flags = NFT_TABLE_F_DORMANT;
	kernel.set_flags = NFT_SET_INTERVAL;
	scan();
	CHECK(seen.found.dormant);
	CHECK(seen.count == 4 && seen.at[1].kind == NFT_SCAN_SET &&
	      !strcmp(seen.name[1], "__set0"));
}

/* Two scans differ in that digest, if the kernel says something else. */
#define CHANGES(kind, change)              \
	do {                               \
		uint64_t before_, after_;  \
		kernel = usual;            \
		before_ = digest_of(kind); \
		change;                    \
		after_ = digest_of(kind);  \
		CHECK(before_ != after_);  \
	} while (0)
#define KEEPS(kind, change)                \
	do {                               \
		uint64_t before_, after_;  \
		kernel = usual;            \
		before_ = digest_of(kind); \
		change;                    \
		after_ = digest_of(kind);  \
		CHECK(before_ == after_);  \
	} while (0)

static void test_digests(void)
{
	KEEPS(NFT_SCAN_CHAIN, kernel.rule_handle++);
	CHANGES(NFT_SCAN_CHAIN, kernel.policy = 1);
	KEEPS(NFT_SCAN_COUNTER, kernel.packets++);
	CHANGES(NFT_SCAN_COUNTER, kernel.counter = "misses");
}

static void test_digests_of_rules(void)
{
	KEEPS(NFT_SCAN_RULE, kernel.rule_handle++);
	CHANGES(NFT_SCAN_RULE, kernel.comment = "two");
	CHANGES(NFT_SCAN_RULE, kernel.comment = "");
	CHANGES(NFT_SCAN_RULE, kernel.expression = "dynset");
}

static void test_digests_of_sets(void)
{
	/* The set keeps its name, and has got another element; the order is the kernel's affair. */
	CHANGES(NFT_SCAN_RULE, kernel.element[0] = "81");
	KEEPS(NFT_SCAN_RULE, (kernel.element[0] = "443", kernel.element[1] = "80"));
	CHANGES(NFT_SCAN_RULE, kernel.looked_up = "__set1");
}

static void test_restarts(void)
{
	kernel = usual;
	kernel.changes = 3;
	scan();
	/* Two answers a scan: it began again once. */
	CHECK(seen.result == 0 && seen.restarts > 1 && seen.restarts < 4 && seen.count == 3);
	kernel.changes = 1000;
	scan();
	CHECK(seen.result == -1 && seen.found.handle == 0 && seen.why.err == EAGAIN);
}

static void test_refusals(void)
{
	kernel = usual;
	kernel.refuses = NFT_MSG_GETTABLE;
	kernel.err = -ENOENT;
	scan();
	CHECK(seen.result == 0 && seen.found.handle == 0 && seen.count == 0 && seen.restarts == 1);
	kernel.err = -EPERM;
	scan();
	CHECK(seen.result == -1 && seen.why.err == EPERM);
	/* Gone between two questions, and never seen to be gone. */
	kernel.refuses = NFT_MSG_GETRULE;
	kernel.err = -ENOENT;
	scan();
	CHECK(seen.result == -1 && seen.restarts > 10);
	/* Chains of other tables are others'. */
	kernel = usual;
	kernel.table = "other";
	scan();
	CHECK(seen.count == 2 && seen.at[0].kind == NFT_SCAN_COUNTER);
}

int main(void)
{
	test_objects();
	test_digests();
	test_digests_of_rules();
	test_digests_of_sets();
	test_restarts();
	test_refusals();
	return check_done();
}
