/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/nft_scan.h"

#include "base/fnv.h"
#include "net/netlink.h"
#include "net/nft_message.h"
#include "net/rule_use.h"
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* How often to start again when the rules change while they are read. */
#define ATTEMPTS 50

/* How many anonymous sets to keep elements of at a time; our own tables have fewer than ten. */
#define ANONYMOUS_MAX 64

/* What nft stores with a rule, NFTA_RULE_USERDATA: type, length, value; type 0 is the comment. */
#define USERDATA_COMMENT 0

#define BIT(attribute) (UINT64_C(1) << (attribute))

struct scan {
	struct netlink *netlink;
	const char *table;
	nft_scan_visitor *visit;
	void *context;
	struct nft_scan_found found;
	struct {
		char name[NFT_SET_MAXNAMELEN];
		uint64_t digest; /* of its elements, in any order */
	} anonymous[ANONYMOUS_MAX];
	unsigned anonymous_count;
};

/* --- digests ---------------------------------------------------------------------------------- */

/* The digest of the attributes whose bit is set in `which`. */
static uint64_t digest_attributes(struct nlattr *const *at, int max, uint64_t which)
{
	uint64_t digest = FNV_START;

	for (int i = 1; i <= max; i++)
		if (at[i] && which & BIT(i))
			digest = fnv_add(digest, at[i], at[i]->nla_len);
	return digest;
}

/* --- requests --------------------------------------------------------------------------------- */

static struct nl_msg *request(int type, int flags, int table_attribute, const char *table)
{
	struct nl_msg *message = nft_message(type, flags, NFPROTO_INET);

	if (message && table && nla_put_string(message, table_attribute, table)) {
		nlmsg_free(message);
		return NULL;
	}
	return message;
}

/* Ask for messages of this type; `type` is that of the request. */
static int ask(struct scan *s, int type, int flags, int table_attribute, netlink_reader *read)
{
	return netlink_ask(s->netlink, request(type, flags, table_attribute, s->table), read, s);
}

/* The policy checks that strings are terminated and numbers are long enough. */
static bool parse(struct nlmsghdr *message, struct nlattr **at, int max, struct nla_policy *policy)
{
	return nlmsg_valid_hdr(message, sizeof(struct nfgenmsg)) &&
	       !nlmsg_parse(message, sizeof(struct nfgenmsg), at, max, policy);
}

/* --- what is in the table --------------------------------------------------------------------- */

static void read_table(struct nlmsghdr *message, void *context)
{
	struct scan *s = context;
	struct nlattr *at[NFTA_TABLE_MAX + 1];
	struct nla_policy policy[NFTA_TABLE_MAX + 1] = {
		[NFTA_TABLE_FLAGS] = { .type = NLA_U32 }, [NFTA_TABLE_HANDLE] = { .type = NLA_U64 }
	};

	if (!parse(message, at, NFTA_TABLE_MAX, policy) || !at[NFTA_TABLE_HANDLE])
		return;
	s->found.handle = be64toh(nla_get_u64(at[NFTA_TABLE_HANDLE]));
	s->found.dormant = at[NFTA_TABLE_FLAGS] &&
			   ntohl(nla_get_u32(at[NFTA_TABLE_FLAGS])) & NFT_TABLE_F_DORMANT;
}

/* The kernel lists all tables' chains. */
static void read_chain(struct nlmsghdr *message, void *context)
{
	const uint64_t which = BIT(NFTA_CHAIN_HOOK) | BIT(NFTA_CHAIN_POLICY) |
			       BIT(NFTA_CHAIN_TYPE) | BIT(NFTA_CHAIN_FLAGS);
	struct scan *s = context;
	struct nlattr *at[NFTA_CHAIN_MAX + 1];
	struct nla_policy policy[NFTA_CHAIN_MAX + 1] = {
		[NFTA_CHAIN_TABLE] = { .type = NLA_STRING },
		[NFTA_CHAIN_NAME] = { .type = NLA_STRING }
	};
	struct nft_scan_object object = { .kind = NFT_SCAN_CHAIN };

	if (!parse(message, at, NFTA_CHAIN_MAX, policy) || !at[NFTA_CHAIN_TABLE] ||
	    !at[NFTA_CHAIN_NAME] || nla_strcmp(at[NFTA_CHAIN_TABLE], s->table))
		return;
	object.name = nla_get_string(at[NFTA_CHAIN_NAME]);
	object.digest = digest_attributes(at, NFTA_CHAIN_MAX, which);
	s->visit(&object, s->context);
}

static void read_set(struct nlmsghdr *message, void *context)
{
	const uint64_t which = BIT(NFTA_SET_FLAGS) | BIT(NFTA_SET_KEY_TYPE) |
			       BIT(NFTA_SET_KEY_LEN) | BIT(NFTA_SET_DESC) | BIT(NFTA_SET_TIMEOUT);
	struct scan *s = context;
	struct nlattr *at[NFTA_SET_MAX + 1];
	struct nla_policy policy[NFTA_SET_MAX + 1] = {
		[NFTA_SET_NAME] = { .type = NLA_STRING }, [NFTA_SET_FLAGS] = { .type = NLA_U32 }
	};
	struct nft_scan_object object = { .kind = NFT_SCAN_SET };
	uint32_t flags;

	if (!parse(message, at, NFTA_SET_MAX, policy) || !at[NFTA_SET_NAME])
		return;
	object.name = nla_get_string(at[NFTA_SET_NAME]);
	flags = at[NFTA_SET_FLAGS] ? ntohl(nla_get_u32(at[NFTA_SET_FLAGS])) : 0;
	if (flags & NFT_SET_ANONYMOUS) {
		if (s->anonymous_count < ANONYMOUS_MAX)
			snprintf(s->anonymous[s->anonymous_count++].name, NFT_SET_MAXNAMELEN, "%s",
				 object.name);
		return;
	}
	object.digest = digest_attributes(at, NFTA_SET_MAX, which);
	s->visit(&object, s->context);
}

/* A hash keeps its elements in its own order, so their digests are added up. */
static void read_elements(struct nlmsghdr *message, void *context)
{
	uint64_t *sum = context;
	struct nlattr *at[NFTA_SET_ELEM_LIST_MAX + 1], *element;
	int left;

	if (!parse(message, at, NFTA_SET_ELEM_LIST_MAX, NULL) || !at[NFTA_SET_ELEM_LIST_ELEMENTS])
		return;
	nla_for_each_nested(element, at[NFTA_SET_ELEM_LIST_ELEMENTS],
			    left) *sum += fnv_add(FNV_START, nla_data(element), nla_len(element));
}

/* `{ 80, 443 }` in a rule is a set that nobody can change, but its name may be reused in another
 * rule. */
static int ask_elements(struct scan *s, unsigned i)
{
	struct nl_msg *message = request(NFT_MSG_GETSETELEM, NLM_F_DUMP, NFTA_SET_ELEM_LIST_TABLE,
					 s->table);

	if (message && nla_put_string(message, NFTA_SET_ELEM_LIST_SET, s->anonymous[i].name)) {
		nlmsg_free(message);
		message = NULL;
	}
	return netlink_ask(s->netlink, message, read_elements, &s->anonymous[i].digest);
}

static void read_counter(struct nlmsghdr *message, void *context)
{
	struct scan *s = context;
	struct nlattr *at[NFTA_OBJ_MAX + 1], *data[NFTA_COUNTER_MAX + 1] = { NULL };
	struct nla_policy policy[NFTA_OBJ_MAX + 1] = { [NFTA_OBJ_NAME] = { .type = NLA_STRING } };
	struct nla_policy numbers[NFTA_COUNTER_MAX + 1] = {
		[NFTA_COUNTER_PACKETS] = { .type = NLA_U64 },
		[NFTA_COUNTER_BYTES] = { .type = NLA_U64 }
	};
	struct nft_scan_object object = { .kind = NFT_SCAN_COUNTER };

	if (!parse(message, at, NFTA_OBJ_MAX, policy) || !at[NFTA_OBJ_NAME])
		return;
	object.name = nla_get_string(at[NFTA_OBJ_NAME]);
	object.digest = digest_attributes(at, NFTA_OBJ_MAX,
					  BIT(NFTA_OBJ_NAME) | BIT(NFTA_OBJ_TYPE));
	if (at[NFTA_OBJ_DATA])
		nla_parse_nested(data, NFTA_COUNTER_MAX, at[NFTA_OBJ_DATA], numbers);
	if (data[NFTA_COUNTER_PACKETS] && data[NFTA_COUNTER_BYTES]) {
		object.packets = be64toh(nla_get_u64(data[NFTA_COUNTER_PACKETS]));
		object.bytes = be64toh(nla_get_u64(data[NFTA_COUNTER_BYTES]));
	}
	s->visit(&object, s->context);
}

/* --- rules ------------------------------------------------------------------------------------ */

static const char *comment_of(struct nlattr *userdata)
{
	const uint8_t *at = userdata ? nla_data(userdata) : NULL;
	int left = userdata ? nla_len(userdata) : 0;

	for (; left >= 2 && at[1] + 2 <= left; left -= at[1] + 2, at += at[1] + 2)
		if (at[0] == USERDATA_COMMENT && at[1] && !at[at[1] + 1])
			return (const char *)at + 2;
	return "";
}

/* The elements of the anonymous set that an expression looks up; 0 for any other expression. */
static uint64_t looked_up(const struct scan *s, struct nlattr *expression)
{
	struct nlattr *at[NFTA_EXPR_MAX + 1], *data[NFTA_LOOKUP_MAX + 1];
	struct nla_policy names[NFTA_EXPR_MAX + 1] = { [NFTA_EXPR_NAME] = { .type = NLA_STRING } };
	struct nla_policy sets[NFTA_LOOKUP_MAX + 1] = { [NFTA_LOOKUP_SET] = {
								.type = NLA_STRING } };

	if (nla_parse_nested(at, NFTA_EXPR_MAX, expression, names) || !at[NFTA_EXPR_NAME] ||
	    !at[NFTA_EXPR_DATA] || nla_strcmp(at[NFTA_EXPR_NAME], "lookup") ||
	    nla_parse_nested(data, NFTA_LOOKUP_MAX, at[NFTA_EXPR_DATA], sets) ||
	    !data[NFTA_LOOKUP_SET])
		return 0;
	for (unsigned i = 0; i < s->anonymous_count; i++)
		if (!nla_strcmp(data[NFTA_LOOKUP_SET], s->anonymous[i].name))
			return s->anonymous[i].digest;
	return 0;
}

static void read_rule(struct nlmsghdr *message, void *context)
{
	struct scan *s = context;
	struct nlattr *at[NFTA_RULE_MAX + 1], *expression;
	struct nla_policy policy[NFTA_RULE_MAX + 1] = { [NFTA_RULE_CHAIN] = {
								.type = NLA_STRING } };
	struct nft_scan_object object = { .kind = NFT_SCAN_RULE };
	int left;

	if (!parse(message, at, NFTA_RULE_MAX, policy) || !at[NFTA_RULE_CHAIN])
		return;
	object.name = nla_get_string(at[NFTA_RULE_CHAIN]);
	object.comment = comment_of(at[NFTA_RULE_USERDATA]);
	object.digest = digest_attributes(at, NFTA_RULE_MAX, BIT(NFTA_RULE_EXPRESSIONS));
	object.digest = fnv_add(object.digest, object.comment, strlen(object.comment));
	if (at[NFTA_RULE_EXPRESSIONS])
		nla_for_each_nested(expression, at[NFTA_RULE_EXPRESSIONS], left)
		{
			uint64_t elements = looked_up(s, expression);

			object.digest = fnv_add(object.digest, &elements, sizeof(elements));
		}
	s->visit(&object, s->context);
}

/* --- all of it -------------------------------------------------------------------------------- */

/* 0, -EAGAIN if it changed meanwhile, -ENOENT if there is no such table, or another -errno. */
static int scan(struct scan *s)
{
	uint32_t before = 0, after = 0;
	int err;

	s->found = (struct nft_scan_found){ 0 };
	s->anonymous_count = 0;
	memset(s->anonymous, 0, sizeof(s->anonymous));
	err = rule_use_generation(s->netlink, &before);
	if (!err)
		err = ask(s, NFT_MSG_GETTABLE, 0, NFTA_TABLE_NAME, read_table);
	if (!err)
		err = ask(s, NFT_MSG_GETCHAIN, NLM_F_DUMP, NFTA_CHAIN_TABLE, read_chain);
	if (!err)
		err = ask(s, NFT_MSG_GETSET, NLM_F_DUMP, NFTA_SET_TABLE, read_set);
	for (unsigned i = 0; !err && i < s->anonymous_count; i++)
		err = ask_elements(s, i);
	if (!err)
		err = ask(s, NFT_MSG_GETOBJ, NLM_F_DUMP, NFTA_OBJ_TABLE, read_counter);
	if (!err)
		err = ask(s, NFT_MSG_GETRULE, NLM_F_DUMP, NFTA_RULE_TABLE, read_rule);
	if (!err)
		err = rule_use_generation(s->netlink, &after);
	if (!err && after != before)
		return -EAGAIN;
	return err;
}

int nft_scan_table(struct netlink *channel, const char *name, struct nft_scan_found *found,
		   nft_scan_visitor *visit, void (*restart)(void *context), void *context,
		   struct failure *why)
{
	struct scan s = { .netlink = channel, .table = name, .visit = visit, .context = context };
	int err = -EAGAIN;

	for (int i = 0; i < ATTEMPTS && err == -EAGAIN; i++) {
		restart(context);
		err = scan(&s);
		/* Gone between two questions: check again whether the table still exists. */
		if (err == -ENOENT && s.found.handle)
			err = -EAGAIN;
	}
	*found = err ? (struct nft_scan_found){ 0 } : s.found;
	return err && err != -ENOENT
		       ? report_fail(why, -err, "NFT_MSG_GETRULE", "table inet %s", name)
		       : 0;
}
