/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Expressions pass values in registers: one loads a field, perhaps one masks it, one compares it or
 * looks it up. These two or three make one match; reading stops at anything else.
 */
#include "firewall/rule_wire.h"

#include "firewall/xtables_nft.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <stdbool.h>
#include <string.h>

#define FIELD_MAX 16 /* an IPv6 address, an interface's name */

enum kind { KIND_FAMILY, KIND_TRANSPORT, KIND_ADDRESS, KIND_PORT, KIND_INTERFACE, KIND_STATE };

/* Where a match finds its value: what nft's JSON calls it, and where the kernel loads it from. */
struct field {
	enum kind kind;
	const char *object, *protocol, *name; /* `payload`, `ip`, `saddr`; `meta`, -, `iifname` */
	uint8_t family; /* of its protocol: NFPROTO_IPV4, NFPROTO_IPV6; 0: any */
	uint8_t transport;
	uint32_t from, offset, size; /* key of meta or ct; base of payload */
};

static const struct field fields[] = {
	{ KIND_FAMILY, "meta", NULL, "nfproto", 0, 0, NFT_META_NFPROTO, 0, 1 },
	{ KIND_TRANSPORT, "meta", NULL, "l4proto", 0, 0, NFT_META_L4PROTO, 0, 1 },
	{ KIND_INTERFACE, "meta", NULL, "iifname", 0, 0, NFT_META_IIFNAME, 0, IFNAMSIZ },
	{ KIND_INTERFACE, "meta", NULL, "oifname", 0, 0, NFT_META_OIFNAME, 0, IFNAMSIZ },
	{ KIND_STATE, "ct", NULL, "state", 0, 0, NFT_CT_STATE, 0, 4 },
#define PAYLOAD(kind, protocol, name, family, transport, base, offset, size)           \
	{                                                                              \
		kind, "payload", protocol, name, family, transport, base, offset, size \
	}
#define NETWORK(kind, protocol, name, family, offset, size) \
	PAYLOAD(kind, protocol, name, family, 0, NFT_PAYLOAD_NETWORK_HEADER, offset, size)
#define TRANSPORT(protocol, name, number, offset) \
	PAYLOAD(KIND_PORT, protocol, name, 0, number, NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2)
	NETWORK(KIND_ADDRESS, "ip", "saddr", NFPROTO_IPV4, 12, 4),
	NETWORK(KIND_ADDRESS, "ip", "daddr", NFPROTO_IPV4, 16, 4),
	NETWORK(KIND_TRANSPORT, "ip", "protocol", NFPROTO_IPV4, 9, 1),
	NETWORK(KIND_ADDRESS, "ip6", "saddr", NFPROTO_IPV6, 8, 16),
	NETWORK(KIND_ADDRESS, "ip6", "daddr", NFPROTO_IPV6, 24, 16),
	NETWORK(KIND_TRANSPORT, "ip6", "nexthdr", NFPROTO_IPV6, 6, 1),
	TRANSPORT("tcp", "sport", IPPROTO_TCP, 0),
	TRANSPORT("tcp", "dport", IPPROTO_TCP, 2),
	TRANSPORT("udp", "sport", IPPROTO_UDP, 0),
	TRANSPORT("udp", "dport", IPPROTO_UDP, 2),
};

struct match {
	const struct field *field;
	bool negated;
	const char *set; /* its name; NULL: the field is compared with the value */
	uint32_t reg;	 /* where the value is loaded */
	uint32_t size;	 /* that many bytes of it */
	bool masked;
	uint8_t mask[FIELD_MAX], value[FIELD_MAX];
	int value_size;
};

struct reader {
	struct nlattr *at; /* the next expression, */
	int left;	   /* and how many bytes there are from there */
	uint8_t family;	   /* of packets that have come this far, 0: any */
	uint8_t transport; /* their protocol, 0: any */
};

/* --- expressions ------------------------------------------------------------------------------ */

struct expression {
	const char *name;
	struct nlattr *at[16];
};

/* More attributes than the largest of these expressions has. */
#define ATTRIBUTE_MAX 15

static bool is_number(const struct nlattr *attribute, uint32_t *number)
{
	if (!attribute || nla_len(attribute) != sizeof(*number))
		return false;
	*number = ntohl(nla_get_u32(attribute));
	return true;
}

static bool peek(const struct reader *r, struct expression *e)
{
	struct nlattr *a[NFTA_EXPR_MAX + 1];
	struct nla_policy policy[NFTA_EXPR_MAX + 1] = { [NFTA_EXPR_NAME] = { .type = NLA_STRING } };

	memset(e->at, 0, sizeof(e->at));
	if (!nla_ok(r->at, r->left) || nla_parse_nested(a, NFTA_EXPR_MAX, r->at, policy) ||
	    !a[NFTA_EXPR_NAME])
		return false;
	e->name = nla_get_string(a[NFTA_EXPR_NAME]);
	return !a[NFTA_EXPR_DATA] ||
	       !nla_parse_nested(e->at, ATTRIBUTE_MAX, a[NFTA_EXPR_DATA], NULL);
}

static void skip(struct reader *r)
{
	r->at = nla_next(r->at, &r->left);
}

/* The text of an attribute; NULL: there is none, or it has no end. */
static const char *text_of(const struct nlattr *attribute)
{
	const char *text = attribute ? nla_data(attribute) : NULL;

	return text && memchr(text, '\0', (size_t)nla_len(attribute)) ? text : NULL;
}

/* The bytes of an attribute that has NFTA_DATA_VALUE; -1: none, or too many. */
static int bytes_of(struct nlattr *attribute, uint8_t bytes[FIELD_MAX])
{
	struct nlattr *a[NFTA_DATA_MAX + 1];
	int size;

	if (!attribute || nla_parse_nested(a, NFTA_DATA_MAX, attribute, NULL) ||
	    !a[NFTA_DATA_VALUE])
		return -1;
	size = nla_len(a[NFTA_DATA_VALUE]);
	if (size > FIELD_MAX)
		return -1;
	memcpy(bytes, nla_data(a[NFTA_DATA_VALUE]), (size_t)size);
	return size;
}

/* --- matches ---------------------------------------------------------------------------------- */

/* That field, for packets that have come this far. A prefix of whole bytes is a part of a field. */
static const struct field *find_field(const struct reader *r, const char *object, uint32_t from,
				      uint32_t offset, uint32_t size)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		const struct field *f = &fields[i];

		if (!strcmp(f->object, object) && f->from == from && f->offset == offset &&
		    (f->size == size || (f->kind == KIND_ADDRESS && size < f->size)) &&
		    (!f->family || f->family == r->family) &&
		    (!f->transport || f->transport == r->transport))
			return f;
	}
	return NULL;
}

static bool take_load(const struct reader *r, const struct expression *e, struct match *m)
{
	uint32_t from, offset = 0;

	if (!strcmp(e->name, "meta") && is_number(e->at[NFTA_META_KEY], &from) &&
	    is_number(e->at[NFTA_META_DREG], &m->reg)) {
		m->size = from == NFT_META_IIFNAME || from == NFT_META_OIFNAME ? IFNAMSIZ : 1;
		m->field = find_field(r, "meta", from, 0, m->size);
	} else if (!strcmp(e->name, "ct") && is_number(e->at[NFTA_CT_KEY], &from) &&
		   is_number(e->at[NFTA_CT_DREG], &m->reg) && !e->at[NFTA_CT_DIRECTION]) {
		m->size = 4;
		m->field = find_field(r, "ct", from, 0, m->size);
	} else if (!strcmp(e->name, "payload") && is_number(e->at[NFTA_PAYLOAD_BASE], &from) &&
		   is_number(e->at[NFTA_PAYLOAD_DREG], &m->reg) &&
		   is_number(e->at[NFTA_PAYLOAD_OFFSET], &offset) &&
		   is_number(e->at[NFTA_PAYLOAD_LEN], &m->size)) {
		m->field = find_field(r, "payload", from, offset, m->size);
	}
	return m->field;
}

/* `& mask`; a second operand would change bits besides. */
static bool take_mask(const struct expression *e, struct match *m)
{
	static const uint8_t none[FIELD_MAX];
	uint8_t changed[FIELD_MAX] = { 0 };
	uint32_t from, operation = NFT_BITWISE_MASK_XOR;

	if (e->at[NFTA_BITWISE_OP] && !is_number(e->at[NFTA_BITWISE_OP], &operation))
		return false;
	m->masked = true;
	return operation == NFT_BITWISE_MASK_XOR && is_number(e->at[NFTA_BITWISE_SREG], &from) &&
	       from == m->reg && is_number(e->at[NFTA_BITWISE_DREG], &m->reg) &&
	       bytes_of(e->at[NFTA_BITWISE_MASK], m->mask) == (int)m->size &&
	       bytes_of(e->at[NFTA_BITWISE_XOR], changed) == (int)m->size &&
	       !memcmp(changed, none, sizeof(none));
}

static bool take_comparison(const struct expression *e, struct match *m)
{
	uint32_t from, operation;

	if (!is_number(e->at[NFTA_CMP_SREG], &from) || from != m->reg ||
	    !is_number(e->at[NFTA_CMP_OP], &operation) ||
	    (operation != NFT_CMP_EQ && operation != NFT_CMP_NEQ))
		return false;
	m->negated = operation == NFT_CMP_NEQ;
	m->value_size = bytes_of(e->at[NFTA_CMP_DATA], m->value);
	return m->value_size == (int)m->size ||
	       (m->field->kind == KIND_INTERFACE && m->value_size > 0);
}

/* In a set that has a name: the elements of others are not among the rule's expressions. */
static bool take_lookup(const struct expression *e, struct match *m)
{
	uint32_t from, flags = 0;

	if (!is_number(e->at[NFTA_LOOKUP_SREG], &from) || from != m->reg || m->masked ||
	    m->size != m->field->size || e->at[NFTA_LOOKUP_DREG] ||
	    (e->at[NFTA_LOOKUP_FLAGS] && !is_number(e->at[NFTA_LOOKUP_FLAGS], &flags)))
		return false;
	m->negated = flags & NFT_LOOKUP_F_INV;
	m->set = text_of(e->at[NFTA_LOOKUP_SET]);
	return m->set && strncmp(m->set, "__", 2) != 0;
}

/* What is known of packets that have passed the match. */
static void learn(struct reader *r, const struct match *m)
{
	if (m->negated || m->set || m->masked)
		return;
	if (m->field->kind == KIND_FAMILY)
		r->family = m->value[0];
	if (m->field->kind == KIND_TRANSPORT)
		r->transport = m->value[0];
}

/* Take a whole match. False: the next expression, or one that belongs to it, is something else. */
static bool take_match(struct reader *r, struct expression *e, struct match *m)
{
	bool taken;

	*m = (struct match){ .field = NULL };
	if (!take_load(r, e, m))
		return false;
	skip(r);
	if (!peek(r, e))
		return false;
	if (!strcmp(e->name, "bitwise")) {
		if (!take_mask(e, m))
			return false;
		skip(r);
		if (!peek(r, e))
			return false;
	}
	taken = !strcmp(e->name, "cmp")	     ? take_comparison(e, m)
		: !strcmp(e->name, "lookup") ? take_lookup(e, m)
					     : false;
	skip(r);
	learn(r, m);
	return taken;
}

/* --- values ----------------------------------------------------------------------------------- */

/* How long the prefix is; -1: none, as bits follow that are not in the mask. */
static int length_of(const struct match *m)
{
	int length = 0, bits = 8 * (int)m->size;

	if (!m->masked)
		return bits;
	if (m->size != m->field->size)
		return -1;
	while (length < bits && m->mask[length / 8] & 0x80 >> length % 8)
		length++;
	for (int i = length; i < bits; i++)
		if ((m->mask[i / 8] | m->value[i / 8]) & 0x80 >> i % 8)
			return -1;
	return length;
}

static json_t *address_of(const struct match *m)
{
	int length = length_of(m);
	char text[INET6_ADDRSTRLEN];

	if (length < 0 || !inet_ntop(m->field->family == NFPROTO_IPV4 ? AF_INET : AF_INET6,
				     m->value, text, sizeof(text)))
		return NULL;
	return length == 8 * (int)m->field->size
		       ? json_string(text)
		       : json_pack("{s:{s:s,s:i}}", "prefix", "addr", text, "len", length);
}

static json_t *port_of(const struct match *m)
{
	return m->masked ? NULL : json_integer(m->value[0] << 8 | m->value[1]);
}

/* A name ends with \0, or else it is the beginning of names. */
static json_t *interface_of(const struct match *m)
{
	size_t length = strnlen((const char *)m->value, (size_t)m->value_size);
	char text[IFNAMSIZ + 2] = "";

	memcpy(text, m->value, length);
	if (m->masked || strpbrk(text, "*\\[?"))
		return NULL;
	if (length == (size_t)m->value_size)
		text[length] = '*';
	return json_string(text);
}

static json_t *protocol_of(const struct match *m)
{
	uint8_t number = m->value[0];

	if (m->masked)
		return NULL;
	if (m->field->kind == KIND_FAMILY)
		return number == NFPROTO_IPV4	? json_string("ipv4")
		       : number == NFPROTO_IPV6 ? json_string("ipv6")
						: NULL;
	return number == IPPROTO_TCP   ? json_string("tcp")
	       : number == IPPROTO_UDP ? json_string("udp")
				       : NULL;
}

/* `ct state new,established`: `& mask != 0`. */
static json_t *states_of(const struct match *m)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{ NF_CT_STATE_INVALID_BIT, "invalid" },
		{ NF_CT_STATE_BIT(IP_CT_ESTABLISHED), "established" },
		{ NF_CT_STATE_BIT(IP_CT_RELATED), "related" },
		{ NF_CT_STATE_BIT(IP_CT_NEW), "new" },
		{ NF_CT_STATE_UNTRACKED_BIT, "untracked" },
	};
	uint32_t mask, value;
	json_t *list;

	memcpy(&mask, m->mask, sizeof(mask));
	memcpy(&value, m->value, sizeof(value));
	if (!m->masked || !m->negated || value || !(list = json_array()))
		return NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (mask & names[i].bit)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static json_t *right_of(const struct match *m)
{
	static json_t *(*const values[])(const struct match *m) = {
		[KIND_FAMILY] = protocol_of,	 [KIND_TRANSPORT] = protocol_of,
		[KIND_ADDRESS] = address_of,	 [KIND_PORT] = port_of,
		[KIND_INTERFACE] = interface_of, [KIND_STATE] = states_of,
	};

	return m->set ? json_sprintf("@%s", m->set) : values[m->field->kind](m);
}

/* --- statements ------------------------------------------------------------------------------- */

static json_t *left_of(const struct field *f)
{
	if (f->protocol)
		return json_pack("{s:{s:s,s:s}}", f->object, "protocol", f->protocol, "field",
				 f->name);
	return json_pack("{s:{s:s}}", f->object, "key", f->name);
}

static bool append_match(json_t *out, const struct match *m)
{
	json_t *right = right_of(m);
	const char *op = m->field->kind == KIND_STATE && !m->set ? "in" : m->negated ? "!=" : "==";

	return right &&
	       !json_array_append_new(out, json_pack("{s:{s:s,s:o,s:o}}", "match", "op", op, "left",
						     left_of(m->field), "right", right));
}

/* Does the next expression load from the header of the protocol that this match asks meta for? Then
 * only packets of that protocol pass there, too, and nft does not list the match. */
static bool is_implied(const struct reader *r, const struct match *m)
{
	struct expression e;
	struct match next = { .field = NULL };

	if (m->negated || m->set || m->masked || m->field->protocol ||
	    (m->field->kind != KIND_FAMILY && m->field->kind != KIND_TRANSPORT))
		return false;
	if (!peek(r, &e) || !take_load(r, &e, &next))
		return false;
	return m->field->kind == KIND_FAMILY ? next.field->family : next.field->transport;
}

static bool append_verdict(json_t *out, const struct expression *e)
{
	struct nlattr *data[NFTA_DATA_MAX + 1], *a[NFTA_VERDICT_MAX + 1];
	const char *word, *chain;
	uint32_t reg, code;

	if (!is_number(e->at[NFTA_IMMEDIATE_DREG], &reg) || reg != NFT_REG_VERDICT ||
	    !e->at[NFTA_IMMEDIATE_DATA] ||
	    nla_parse_nested(data, NFTA_DATA_MAX, e->at[NFTA_IMMEDIATE_DATA], NULL) ||
	    !data[NFTA_DATA_VERDICT] ||
	    nla_parse_nested(a, NFTA_VERDICT_MAX, data[NFTA_DATA_VERDICT], NULL) ||
	    !is_number(a[NFTA_VERDICT_CODE], &code))
		return false;
	word = code == NF_DROP			? "drop"
	       : code == NF_ACCEPT		? "accept"
	       : code == (uint32_t)NFT_RETURN	? "return"
	       : code == (uint32_t)NFT_CONTINUE ? "continue"
	       : code == (uint32_t)NFT_JUMP	? "jump"
	       : code == (uint32_t)NFT_GOTO	? "goto"
						: NULL;
	if (!word)
		return false;
	if (*word != 'j' && *word != 'g')
		return !json_array_append_new(out, json_pack("{s:n}", word));
	chain = text_of(a[NFTA_VERDICT_CHAIN]);
	return chain && !json_array_append_new(out, json_pack("{s:{s:s}}", word, "target", chain));
}

static bool append_other(json_t *out, const struct reader *r, const struct expression *e)
{
	if (!strcmp(e->name, "counter") || !strcmp(e->name, "log") || !strcmp(e->name, "reject"))
		return !json_array_append_new(out, json_pack("{s:n}", e->name));
	if (!strcmp(e->name, "immediate"))
		return append_verdict(out, e);
	return xtables_nft_append(r->at, out);
}

static bool append_next(json_t *out, struct reader *r)
{
	struct expression e;
	struct match m;

	if (!peek(r, &e))
		return false;
	if (strcmp(e.name, "meta") && strcmp(e.name, "payload") && strcmp(e.name, "ct")) {
		bool known = append_other(out, r, &e);

		skip(r);
		return known;
	}
	return take_match(r, &e, &m) && (is_implied(r, &m) || append_match(out, &m));
}

/* --- rules ------------------------------------------------------------------------------------ */

static struct reader reader_of(const struct rule_wire *rule)
{
	return (struct reader){
		.at = (struct nlattr *)rule->data,
		.left = rule->size,
		.family = rule->family == NFPROTO_INET ? 0 : rule->family,
	};
}

static bool is_known_family(uint8_t family)
{
	return family == NFPROTO_INET || family == NFPROTO_IPV4 || family == NFPROTO_IPV6;
}

json_t *rule_wire_statements(const struct rule_wire *rule)
{
	struct reader r = reader_of(rule);
	json_t *out = is_known_family(rule->family) ? json_array() : NULL;

	while (out && nla_ok(r.at, r.left))
		if (!append_next(out, &r)) {
			json_decref(out);
			out = NULL;
		}
	if (out && r.left > 0) { /* an expression that is cut off */
		json_decref(out);
		return NULL;
	}
	return out;
}

/* IPv4-mapped addresses become IPv4 elsewhere (base/endpoint.h). */
static struct first_match first_address(const struct match *m)
{
	struct first_match first = { .of_source = !strcmp(m->field->name, "saddr") };
	int length = length_of(m);

	first.cidr.family = m->field->family == NFPROTO_IPV4 ? AF_INET : AF_INET6;
	memcpy(&first.cidr.addr, m->value, m->field->size);
	if (length < 0 ||
	    (first.cidr.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&first.cidr.addr.v6)))
		return (struct first_match){ FIRST_MATCH_OTHER };
	first.cidr.length = (uint8_t)length;
	first.kind = FIRST_MATCH_ADDRESS;
	return first;
}

/* Matches on protocols come first: a packet that they fail has no such address or port either. */
struct first_match rule_wire_first(const struct rule_wire *rule)
{
	struct reader r = reader_of(rule);
	struct expression e;
	struct match m = { .field = NULL };

	if (!is_known_family(rule->family))
		return (struct first_match){ FIRST_MATCH_OTHER };
	do {
		if (!peek(&r, &e) || !take_match(&r, &e, &m) || m.negated || m.set)
			return (struct first_match){ FIRST_MATCH_OTHER };
	} while (m.field->kind == KIND_FAMILY || m.field->kind == KIND_TRANSPORT);
	if (m.field->kind == KIND_ADDRESS)
		return first_address(&m);
	if (m.field->kind == KIND_PORT && !m.masked)
		return (struct first_match){ .kind = FIRST_MATCH_PORT,
					     .of_source = !strcmp(m.field->name, "sport"),
					     .protocol = m.field->transport,
					     .port = (uint16_t)(m.value[0] << 8 | m.value[1]) };
	return (struct first_match){ FIRST_MATCH_OTHER };
}
