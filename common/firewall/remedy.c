/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/remedy.h"

#include "base/shell.h"
#include <ctype.h>
#include <string.h>

static const char *tool_of(const struct firewall_chain *chain)
{
	bool four = !strcmp(chain->family, "ip");

	if (chain->legacy)
		return four ? "iptables-legacy" : "ip6tables-legacy";
	return four ? "iptables-nft" : "ip6tables-nft";
}

/* A name that nft parses as one (string in its scanner.l); the kernel takes any. */
static bool is_nft_name(const char *name)
{
	if (!isalpha((unsigned char)*name) && *name != '_' && *name != '.')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("/-_.", *name))
			return false;
	return true;
}

/* `iptables-nft -t filter -I INPUT` (true), or `nft insert rule inet filter input` (false). */
static bool begin_rule(struct shell_command *c, const struct firewall_chain *chain,
		       const char *option, const char *verb)
{
	if (chain->iptables) {
		shell_add(c, "%s -t", tool_of(chain));
		shell_word(c, chain->table);
		shell_word(c, option);
		shell_word(c, chain->name);
		return true;
	}
	if (!is_nft_name(chain->table) || !is_nft_name(chain->name))
		shell_give_up(c);
	shell_add(c, "nft %s rule %s %s %s", verb, chain->family, chain->table, chain->name);
	return false;
}

/* Before marking and routing, our packets cannot be told from others. */
static bool is_too_early(const struct rule_eval_step *step)
{
	return !strcmp(step->base->hook, "ingress") || !strcmp(step->base->hook, "egress");
}

void remedy_accept(const struct rule_eval_step *step, const struct mark *mark, char *fix,
		   size_t size)
{
	struct shell_command c = shell_command(fix, size);

	if (is_too_early(step)) {
		remedy_delete(step, fix, size);
		return;
	}
	if (begin_rule(&c, step->base, "-I", "insert"))
		shell_add(&c, " -m mark --mark 0x%x/0x%x -j ACCEPT", mark->value, mark->mask);
	else
		shell_add(&c, " 'meta mark & 0x%x == 0x%x accept'", mark->mask, mark->value);
}

/* Delete by handle, which stays the same whatever else is deleted. iptables has numbers, which
 * change: there the rule is replaced by one that does nothing. */
void remedy_delete(const struct rule_eval_step *step, char *fix, size_t size)
{
	const struct firewall_chain *chain = step->chain;
	struct shell_command c = shell_command(fix, size);
	unsigned position = 0;

	if (!step->rule)
		return;
	while (position < chain->rules && chain->rule[position] != step->rule)
		position++;
	if (!chain->legacy && is_nft_name(chain->table) && is_nft_name(chain->name)) {
		shell_add(&c, "nft delete rule %s %s %s handle %lld", chain->family, chain->table,
			  chain->name,
			  (long long)json_integer_value(json_object_get(step->rule, "handle")));
		return;
	}
	if (begin_rule(&c, chain, "-R", "replace"))
		shell_add(
			&c,
			" %u -m comment --comment 'removed: it took what tproxy-setup intercepts'",
			position + 1);
	else
		shell_give_up(&c);
}

void remedy_accept_foreign(const struct rule_eval_step *step, char *fix, size_t size)
{
	struct shell_command c = shell_command(fix, size);

	if (is_too_early(step)) {
		remedy_delete(step, fix, size);
		return;
	}
	if (begin_rule(&c, step->base, "-I", "insert"))
		shell_add(&c, " -m addrtype '!' --src-type LOCAL -j ACCEPT");
	else
		shell_add(&c, " 'fib saddr type != local accept'");
}
