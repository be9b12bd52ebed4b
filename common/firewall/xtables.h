/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xtables - an iptables extension (`-m conntrack`, `-j TPROXY`), in nft's JSON words.
 *
 * iptables-nft and iptables-legacy keep the same binary structures in the kernel
 * (linux/netfilter/xt_*.h). Those that matter here are decoded, the others stay {"xt": {"type":
 * "match", "name": ...}}.
 */
#ifndef TPROXY_FIREWALL_XTABLES_H
#define TPROXY_FIREWALL_XTABLES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Append the statements equivalent to the extension. type: `match` or `target`; info: its
 * structure, of that size, aligned as in the kernel (8 bytes). Takes any bytes. */
void xtables_decode(const char *type, const char *name, const void *info, size_t size, json_t *out);

/* The statements that make up rules; they take over their arguments. */
json_t *xtables_match(bool inverted, json_t *left, json_t *right);
json_t *xtables_payload(const char *protocol, const char *field);
json_t *xtables_meta(const char *key);
bool xtables_append(json_t *out, json_t *statement);

#endif
