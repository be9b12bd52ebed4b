/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/route_entry.h"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The metric that the kernel gives to an IPv6 route that was added without one
 * (IP6_RT_PRIO_USER). */
#define IPV6_METRIC 1024

#define BIT(attribute) (UINT64_C(1) << (attribute))

uint32_t route_entry_u32(const struct nlattr *attribute, uint32_t otherwise)
{
	return attribute ? nla_get_u32(attribute) : otherwise;
}

void route_entry_read_address(struct endpoint *out, sa_family_t family,
			      const struct nlattr *attribute)
{
	size_t size = family == AF_INET ? sizeof(out->addr.v4) : sizeof(out->addr.v6);

	if (!attribute || (size_t)nla_len(attribute) < size)
		return;
	out->family = family;
	memcpy(&out->addr, nla_data(attribute), size);
}

/* Does it have no attributes but these? An attribute that is newer than this program is not one of
 * them. */
static bool has_only(const struct nlmsghdr *message, int header, uint64_t which)
{
	struct nlattr *attribute;
	int left;

	nlmsg_for_each_attr(attribute, message, header,
			    left) if (nla_type(attribute) > 63 ||
				      !(which & BIT(nla_type(attribute)))) return false;
	return true;
}

/* --- rules ------------------------------------------------------------------------------------ */

static bool parse_rule(struct nlmsghdr *message, struct nlattr *a[FRA_MAX + 1])
{
	return message->nlmsg_type == RTM_NEWRULE &&
	       !nlmsg_parse(message, sizeof(struct fib_rule_hdr), a, FRA_MAX, NULL);
}

struct cidr route_entry_loopback(sa_family_t family)
{
	struct cidr c = { .family = family, .length = family == AF_INET ? 8 : 128 };

	if (family == AF_INET)
		c.addr.v4.s_addr = htonl(INADDR_LOOPBACK & IN_CLASSA_NET);
	else
		c.addr.v6 = in6addr_loopback;
	return c;
}

/* The kernel reports suppress_prefixlength for every rule: -1 is none. `also`: attributes of this
 * kind of rule. */
static bool is_plain(const struct nlmsghdr *message, struct nlattr *const *a, uint64_t also)
{
	const struct fib_rule_hdr *header = nlmsg_data(message);
	const uint64_t ours = BIT(FRA_TABLE) | BIT(FRA_PRIORITY) | BIT(FRA_PROTOCOL) |
			      BIT(FRA_SUPPRESS_PREFIXLEN) | BIT(FRA_PAD);

	return has_only(message, sizeof(*header), ours | also) && header->action == FR_ACT_TO_TBL &&
	       !header->dst_len && !header->tos && !header->flags &&
	       route_entry_u32(a[FRA_SUPPRESS_PREFIXLEN], UINT32_MAX) == UINT32_MAX;
}

static bool is_plain_rule(const struct nlmsghdr *message, struct nlattr *const *a)
{
	const struct fib_rule_hdr *header = nlmsg_data(message);

	return is_plain(message, a, BIT(FRA_FWMARK) | BIT(FRA_FWMASK)) && !header->src_len;
}

static bool is_answers_rule(const struct nlmsghdr *message, struct nlattr *const *a)
{
	const struct fib_rule_hdr *header = nlmsg_data(message);
	const struct cidr loopback = route_entry_loopback(header->family);
	struct endpoint source = { 0 };

	route_entry_read_address(&source, header->family, a[FRA_SRC]);
	return is_plain(message, a, BIT(FRA_SRC) | BIT(FRA_IIFNAME)) &&
	       header->src_len == loopback.length &&
	       !memcmp(&source.addr, &loopback.addr, header->family == AF_INET ? 4 : 16) &&
	       a[FRA_IIFNAME] && !strcmp(nla_get_string(a[FRA_IIFNAME]), "lo");
}

static void read_prefix(struct cidr *out, sa_family_t family, const struct nlattr *attribute,
			uint8_t length)
{
	struct endpoint e = { 0 };

	route_entry_read_address(&e, family, attribute);
	if (!length || !endpoint_is_set(&e))
		return;
	*out = (struct cidr){ .family = family, .length = length };
	memcpy(&out->addr, &e.addr, sizeof(out->addr));
}

static void read_ports(uint16_t out[2], const struct nlattr *attribute)
{
	const struct fib_rule_port_range *r = attribute ? nla_data(attribute) : NULL;

	if (!r || nla_len(attribute) < (int)sizeof(*r))
		return;
	out[0] = r->start;
	out[1] = r->end;
}

static void read_selector(struct route_selector *s, const struct fib_rule_hdr *header,
			  struct nlattr *const *a)
{
	const struct nlattr *range = a[FRA_UID_RANGE];
	const struct fib_rule_uid_range *uids = range ? nla_data(range) : NULL;

	read_prefix(&s->source, header->family, a[FRA_SRC], header->src_len);
	read_prefix(&s->destination, header->family, a[FRA_DST], header->dst_len);
	if (a[FRA_IIFNAME])
		snprintf(s->iif, sizeof(s->iif), "%.*s", IFNAMSIZ - 1,
			 nla_get_string(a[FRA_IIFNAME]));
	s->protocol = a[FRA_IP_PROTO] ? nla_get_u8(a[FRA_IP_PROTO]) : 0;
	read_ports(s->source_port, a[FRA_SPORT_RANGE]);
	read_ports(s->destination_port, a[FRA_DPORT_RANGE]);
	s->has_uid = uids && nla_len(range) >= (int)sizeof(*uids);
	if (s->has_uid) {
		s->uid[0] = uids->start;
		s->uid[1] = uids->end;
	}
	s->other = header->tos || a[FRA_OIFNAME] || a[FRA_TUN_ID];
}

bool route_entry_read_rule(struct nlmsghdr *message, struct route_entry *e)
{
	const struct fib_rule_hdr *header = nlmsg_data(message);
	struct nlattr *a[FRA_MAX + 1];

	*e = (struct route_entry){ 0 };
	if (!parse_rule(message, a))
		return false;
	e->plan.family = header->family;
	e->plan.table = route_entry_u32(a[FRA_TABLE], header->table);
	e->plan.pref = route_entry_u32(a[FRA_PRIORITY], 0);
	e->plan.mark.value = route_entry_u32(a[FRA_FWMARK], 0);
	e->plan.mark.mask = route_entry_u32(a[FRA_FWMASK], e->plan.mark.value ? UINT32_MAX : 0);
	e->protocol = a[FRA_PROTOCOL] ? nla_get_u8(a[FRA_PROTOCOL]) : RTPROT_UNSPEC;
	e->action = header->action;
	read_selector(&e->selector, header, a);
	e->inverted = header->flags & FIB_RULE_INVERT;
	e->narrow = header->src_len || header->dst_len || header->tos || a[FRA_IIFNAME] ||
		    a[FRA_OIFNAME] || a[FRA_UID_RANGE] || a[FRA_IP_PROTO] || a[FRA_SPORT_RANGE] ||
		    a[FRA_DPORT_RANGE] || a[FRA_TUN_ID];
	e->plan.answers = is_answers_rule(message, a);
	e->plain = e->plan.answers || is_plain_rule(message, a);
	return true;
}

/* --- routes ----------------------------------------------------------------------------------- */

static bool parse_route(struct nlmsghdr *message, struct nlattr *a[RTA_MAX + 1])
{
	return message->nlmsg_type == RTM_NEWROUTE &&
	       !nlmsg_parse(message, sizeof(struct rtmsg), a, RTA_MAX, NULL);
}

static bool expires(const struct nlattr *cacheinfo)
{
	return cacheinfo && nla_len(cacheinfo) >= (int)sizeof(struct rta_cacheinfo) &&
	       ((const struct rta_cacheinfo *)nla_data(cacheinfo))->rta_expires;
}

/* if_nametoindex(3) and if_indextoname(3) ask through a socket of their own.
 * #syscalls collect: socket(AF_UNIX, SOCK_DGRAM, 0), ioctl(SIOCGIFINDEX), ioctl(SIOCGIFNAME), close */
static bool is_plain_route(const struct nlmsghdr *message, struct nlattr *const *a)
{
	const struct rtmsg *header = nlmsg_data(message);
	const uint64_t ours = BIT(RTA_TABLE) | BIT(RTA_OIF) | BIT(RTA_PRIORITY) |
			      BIT(RTA_CACHEINFO) | BIT(RTA_PREF) | BIT(RTA_PAD);

	return has_only(message, sizeof(*header), ours) && header->rtm_type == RTN_LOCAL &&
	       !header->rtm_dst_len && !header->rtm_src_len && !header->rtm_tos &&
	       route_entry_u32(a[RTA_PRIORITY], 0) ==
		       (header->rtm_family == AF_INET6 ? IPV6_METRIC : 0) &&
	       route_entry_u32(a[RTA_OIF], 0) == if_nametoindex("lo") &&
	       (!a[RTA_PREF] || !nla_get_u8(a[RTA_PREF])) && !expires(a[RTA_CACHEINFO]);
}

bool route_entry_read_route(struct nlmsghdr *message, struct route_entry *e)
{
	const struct rtmsg *header = nlmsg_data(message);
	struct nlattr *a[RTA_MAX + 1];

	*e = (struct route_entry){ 0 };
	if (!parse_route(message, a))
		return false;
	e->plan.family = header->rtm_family;
	e->plan.table = route_entry_u32(a[RTA_TABLE], header->rtm_table);
	e->protocol = header->rtm_protocol;
	e->type = header->rtm_type;
	e->dst_length = header->rtm_dst_len;
	e->oif = route_entry_u32(a[RTA_OIF], 0);
	route_entry_read_address(&e->dst, header->rtm_family, a[RTA_DST]);
	e->plain = is_plain_route(message, a);
	return true;
}

/* --- for people ------------------------------------------------------------------------------- */

struct text {
	char *buf;
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(t->buf + t->used, ROUTE_ENTRY_TEXT_MAX - t->used, format, arguments);
	va_end(arguments);
	t->used += length > 0 ? (size_t)length : 0;
	if (t->used >= ROUTE_ENTRY_TEXT_MAX)
		t->used = ROUTE_ENTRY_TEXT_MAX - 1;
}

static void put_prefix(struct text *t, const char *word, sa_family_t family,
		       const struct nlattr *attribute, unsigned length)
{
	struct endpoint e = { 0 };
	char address[ENDPOINT_TEXT_MAX];

	route_entry_read_address(&e, family, attribute);
	if (endpoint_is_set(&e))
		put(t, " %s %s/%u", word, endpoint_format_address(&e, address), length);
}

static void put_ports(struct text *t, const char *word, const struct nlattr *attribute)
{
	const struct fib_rule_port_range *r = attribute ? nla_data(attribute) : NULL;

	if (r && nla_len(attribute) >= (int)sizeof(*r))
		put(t, " %s %u-%u", word, r->start, r->end);
}

static void put_name(struct text *t, const char *word, const struct nlattr *attribute)
{
	if (attribute)
		put(t, " %s %.*s", word, IFNAMSIZ, nla_get_string(attribute));
}

static void put_conditions(struct text *t, const struct fib_rule_hdr *header,
			   struct nlattr *const *a)
{
	const struct fib_rule_uid_range *uids = a[FRA_UID_RANGE] ? nla_data(a[FRA_UID_RANGE])
								 : NULL;
	int32_t suppressed = (int32_t)route_entry_u32(a[FRA_SUPPRESS_PREFIXLEN], UINT32_MAX);

	put_prefix(t, "to", header->family, a[FRA_DST], header->dst_len);
	if (header->tos)
		put(t, " tos 0x%02x", header->tos);
	put_name(t, "iif", a[FRA_IIFNAME]);
	put_name(t, "oif", a[FRA_OIFNAME]);
	if (uids)
		put(t, " uidrange %u-%u", uids->start, uids->end);
	if (a[FRA_IP_PROTO])
		put(t, " ipproto %u", nla_get_u8(a[FRA_IP_PROTO]));
	put_ports(t, "sport", a[FRA_SPORT_RANGE]);
	put_ports(t, "dport", a[FRA_DPORT_RANGE]);
	if (suppressed >= 0)
		put(t, " suppress_prefixlength %d", suppressed);
}

static void put_action(struct text *t, const struct route_entry *e)
{
	static const char *const names[] = {
		[FR_ACT_GOTO] = "goto",		  [FR_ACT_NOP] = "nop",
		[FR_ACT_BLACKHOLE] = "blackhole", [FR_ACT_UNREACHABLE] = "unreachable",
		[FR_ACT_PROHIBIT] = "prohibit",
	};

	if (e->action == FR_ACT_TO_TBL)
		put(t, " lookup %u", e->plan.table);
	else if (e->action < sizeof(names) / sizeof(*names) && names[e->action])
		put(t, " %s", names[e->action]);
	else
		put(t, " action %u", e->action);
}

static void describe_rule(struct text *t, struct nlmsghdr *message)
{
	const struct fib_rule_hdr *header = nlmsg_data(message);
	struct nlattr *a[FRA_MAX + 1];
	struct route_entry e;
	char mark[QUANTITY_MARK_MAX];

	if (!route_entry_read_rule(message, &e) || !parse_rule(message, a))
		return;
	put(t, "ip %srule: %u:%s", e.plan.family == AF_INET ? "" : "-6 ", e.plan.pref,
	    e.inverted ? " not" : "");
	if (a[FRA_SRC])
		put_prefix(t, "from", header->family, a[FRA_SRC], header->src_len);
	else
		put(t, " from all");
	if (e.plan.mark.value || e.plan.mark.mask)
		put(t, " fwmark %s", quantity_format_mark(&e.plan.mark, mark));
	put_conditions(t, header, a);
	put_action(t, &e);
}

static const char *type_name(uint8_t type)
{
	static const char *const names[] = {
		[RTN_UNICAST] = "unicast",
		[RTN_LOCAL] = "local",
		[RTN_BROADCAST] = "broadcast",
		[RTN_BLACKHOLE] = "blackhole",
		[RTN_UNREACHABLE] = "unreachable",
		[RTN_PROHIBIT] = "prohibit",
		[RTN_THROW] = "throw",
	};

	return type < sizeof(names) / sizeof(*names) && names[type] ? names[type] : "other";
}

static void describe_route(struct text *t, struct nlmsghdr *message)
{
	const struct rtmsg *header = nlmsg_data(message);
	struct nlattr *a[RTA_MAX + 1];
	struct route_entry e;
	char address[ENDPOINT_TEXT_MAX], name[IF_NAMESIZE];

	if (!route_entry_read_route(message, &e) || !parse_route(message, a))
		return;
	put(t, "ip %sroute: %s ", e.plan.family == AF_INET ? "" : "-6 ", type_name(e.type));
	if (e.dst_length)
		put(t, "%s/%u", endpoint_format_address(&e.dst, address), e.dst_length);
	else
		put(t, "default");
	put_prefix(t, "from", header->rtm_family, a[RTA_SRC], header->rtm_src_len);
	put_prefix(t, "via", header->rtm_family, a[RTA_GATEWAY],
		   header->rtm_family == AF_INET ? 32 : 128);
	if (e.oif && if_indextoname(e.oif, name))
		put(t, " dev %s", name);
	put(t, " table %u", e.plan.table);
	if (a[RTA_PRIORITY])
		put(t, " metric %u", nla_get_u32(a[RTA_PRIORITY]));
}

const char *route_entry_describe(struct nlmsghdr *message, char buf[ROUTE_ENTRY_TEXT_MAX])
{
	struct text t = { buf, 0 };

	buf[0] = '\0';
	if (message->nlmsg_type == RTM_NEWRULE)
		describe_rule(&t, message);
	else
		describe_route(&t, message);
	return buf;
}
