/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xtables_legacy - the tables of iptables-legacy, which nft does not see.
 *
 * Only tables in use are read, because reading a table creates it.
 */
#ifndef TPROXY_FIREWALL_XTABLES_LEGACY_H
#define TPROXY_FIREWALL_XTABLES_LEGACY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* List the tables in use, like `filter, nat`, in buf. Returns how many; -1: unknown (only the root
 * of the initial user namespace can read the list). */
int xtables_legacy_names(char *buf, size_t size);

/* Add their chains and rules to an array of nft objects, each with "legacy": true. */
void xtables_legacy_add(json_t *objects);

/* An extension in a rule: `conntrack`, `MASQUERADE`; `standard` for a plain verdict. */
struct xtables_legacy_use {
	const char *family; /* `ip`, `ip6` */
	const char *table, *chain;
	unsigned rule; /* its number in the chain, from 1 */
	const char *extension;
	bool has_source; /* the rule matches on a source address */
};

/* Called for each; a non-zero return ends the visit and is returned. Also 0 if the tables cannot be
 * read. */
typedef int xtables_legacy_visitor(const struct xtables_legacy_use *use, void *context);
int xtables_legacy_each_use(xtables_legacy_visitor *visit, void *context);

#define XTABLES_LEGACY_HOOKS 5 /* NF_INET_NUMHOOKS */

/* A table as the kernel returns it (IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES). */
struct xtables_legacy_table {
	int domain;	      /* AF_INET or AF_INET6 */
	const char *name;     /* `filter` */
	unsigned valid_hooks; /* bits 1 << NF_INET_... */
	unsigned hook_entry[XTABLES_LEGACY_HOOKS], underflow[XTABLES_LEGACY_HOOKS];
	const char *entries; /* aligned to 8 bytes */
	size_t size;	     /* in bytes */
};

/* The same for one table. Takes any bytes: an unsound table counts as empty. */
void xtables_legacy_add_table(const struct xtables_legacy_table *table, json_t *objects);
int xtables_legacy_each_use_of(const struct xtables_legacy_table *table,
			       xtables_legacy_visitor *visit, void *context);

#endif
