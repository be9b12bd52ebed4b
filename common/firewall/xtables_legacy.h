/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xtables_legacy - the tables of iptables-legacy, which nft does not see.
 *
 * Tables that are not in use are not asked for, because asking would create them.
 */
#ifndef TPROXY_FIREWALL_XTABLES_LEGACY_H
#define TPROXY_FIREWALL_XTABLES_LEGACY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* The tables in use, as `filter, nat`, in buf. Returns how many; -1: that cannot be known here
 * (their list is for the initial user namespace's root alone). */
int xtables_legacy_names(char *buf, size_t size);

/* Add their chains and rules to an array of nft's objects, each with "legacy": true. */
void xtables_legacy_add(json_t *objects);

/* An extension in a rule: `conntrack`, `MASQUERADE`; `standard` for a mere verdict. */
struct xtables_legacy_use {
	const char *family; /* `ip`, `ip6` */
	const char *table, *chain;
	unsigned rule; /* its number in the chain, from 1 */
	const char *extension;
	bool has_source; /* the rule asks for a source address */
};

/* Called for each; a return other than 0 ends it and is returned. 0 also where the tables cannot be
 * read. */
typedef int xtables_legacy_visitor(const struct xtables_legacy_use *use, void *context);
int xtables_legacy_each_use(xtables_legacy_visitor *visit, void *context);

#define XTABLES_LEGACY_HOOKS 5 /* NF_INET_NUMHOOKS */

/* A table as the kernel hands it out (IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES). */
struct xtables_legacy_table {
	int domain;	      /* AF_INET or AF_INET6 */
	const char *name;     /* `filter` */
	unsigned valid_hooks; /* bits 1 << NF_INET_... */
	unsigned hook_entry[XTABLES_LEGACY_HOOKS], underflow[XTABLES_LEGACY_HOOKS];
	const char *entries; /* aligned to 8 bytes */
	size_t size;	     /* of them */
};

/* The same for one table. Takes any bytes: one that is not sound has nothing in it. */
void xtables_legacy_add_table(const struct xtables_legacy_table *table, json_t *objects);
int xtables_legacy_each_use_of(const struct xtables_legacy_table *table,
			       xtables_legacy_visitor *visit, void *context);

#endif
