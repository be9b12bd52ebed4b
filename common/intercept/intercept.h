/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * intercept - what to intercept, as plain data.
 *
 * Everything that a user can ask of tproxy-setup is one struct intercept. It knows its defaults and
 * how to parse user input. It knows nothing of netlink and nftables: route and nft turn it into
 * kernel state.
 */
#ifndef TPROXY_INTERCEPT_INTERCEPT_H
#define TPROXY_INTERCEPT_INTERCEPT_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#define INTERCEPT_NAME_MAX    32
#define INTERCEPT_DEVICES_MAX 16
#define INTERCEPT_MARKS_MAX   8
#define INTERCEPT_IDS_MAX     16
#define INTERCEPT_GROUPS_MAX  4
#define INTERCEPT_PATH_MAX    200

/* Highest preference of the routing rule: the next one, 32766, is that of RT_TABLE_MAIN, which
 * matches all traffic. */
#define INTERCEPT_PREF_MAX 32765

/* Longest canonical text with its \0: all scalars, devices and marks at their longest. */
#define INTERCEPT_TEXT_MAX 4096

/* What to do with a packet of the predicate when nobody listens. */
enum intercept_no_listener { NO_LISTENER_REJECT, NO_LISTENER_DROP, NO_LISTENER_PASS };

/* Packets of the predicate that belong to no socket here: reset them, or leave them alone. */
enum intercept_midstream { MIDSTREAM_RESET, MIDSTREAM_PASS };

/* Does each leg get a conntrack zone: as asked, and (off or zone) as installed. ZONE_SNAT is
 * another name for ZONE. */
enum intercept_conntrack { CONNTRACK_AUTO, CONNTRACK_ZONE, CONNTRACK_ZONE_SNAT, CONNTRACK_OFF };

/* The words for the three, separated by |, as in --help. */
#define INTERCEPT_NO_LISTENER_WORDS "reject|drop|pass"
#define INTERCEPT_MIDSTREAM_WORDS   "reset|pass"
#define INTERCEPT_CONNTRACK_WORDS   "auto|zone|zone-snat|off"

/* The lists of a specification that are kept in named sets; see intercept_lists[]. */
enum intercept_list_id {
	LIST_PORT,
	LIST_NOT_PORT,
	LIST_SRC,
	LIST_DST,
	LIST_NOT_SRC,
	LIST_NOT_DST,
	INTERCEPT_LISTS
};

/* Identifies a list in the canonical text, which does not contain it. */
struct intercept_digest {
	uint64_t count, hash;
};

/* Users or groups, by number. */
struct intercept_ids {
	uint32_t at[INTERCEPT_IDS_MAX];
	unsigned count;
};

/* Where version 2 is mounted below /sys/fs/cgroup when version 1 is in use too (systemd's hybrid
 * layout). */
#define INTERCEPT_HYBRID "unified"

/* Control groups (version 2), by the names that nft uses: paths below /sys/fs/cgroup. */
struct intercept_groups {
	char at[INTERCEPT_GROUPS_MAX][INTERCEPT_PATH_MAX];
	unsigned count;
};

struct intercept {
	char name[INTERCEPT_NAME_MAX + 1];
	bool ipv4, ipv6;
	bool tcp, udp;		  /* at least one */
	struct endpoint to4, to6; /* unset: this family is not intercepted (or divert_only) */
	struct port_list port, not_port;		 /* empty port: all */
	struct cidr_list src, dst, not_src, not_dst;	 /* empty src, dst: all */
	struct intercept_digest digest[INTERCEPT_LISTS]; /* as read by spec_text_parse() */
	bool alternate[INTERCEPT_LISTS]; /* the list's set has its second name in the kernel */
	char device[INTERCEPT_DEVICES_MAX][IFNAMSIZ]; /* `eth0`, `eth*` */
	unsigned devices;			      /* 0: all */
	struct mark not_mark[INTERCEPT_MARKS_MAX];
	unsigned not_marks;
	bool include_own, divert_only;
	bool local; /* also connections that this host opens, narrowed by the following */
	struct intercept_ids uid, gid, not_uid, not_gid;
	struct intercept_groups cgroup, not_cgroup;
	int no_listener; /* enum intercept_no_listener */
	int midstream;	 /* enum intercept_midstream */
	int conntrack;	 /* enum intercept_conntrack, as asked */
	int zone;	 /* CONNTRACK_OFF or CONNTRACK_ZONE: what was decided */
	struct mark mark, upstream_mark;
	uint32_t table, pref, ct_zone;
	uint64_t confirm_ms; /* 0: permanent; else a lease that the kernel ends. Not in the text */
};

/* --local: are connections that this host opens intercepted; or, with --divert-only, do answers of
 * servers on its loopback addresses reach the transparent sockets that they are for? */
bool intercept_takes_own(const struct intercept *spec);
bool intercept_keeps_answers(const struct intercept *spec);

/* Where a list is in struct intercept, and the names of its option and its sets. */
struct intercept_list {
	const char *name; /* `not-src`; sets: not-src4, not-src6 */
	bool is_ports;
	size_t offset;
};
extern const struct intercept_list intercept_lists[INTERCEPT_LISTS];

struct port_list *intercept_ports(const struct intercept *spec, enum intercept_list_id id);
struct cidr_list *intercept_cidrs(const struct intercept *spec, enum intercept_list_id id);

/* Set the shared defaults: name `default`, all TCP, marks, table, preference, zone. */
void intercept_init(struct intercept *spec);
void intercept_free(struct intercept *spec);

/* A copy with lists of its own; free it in any case. 0, or -1 with *why (ENOMEM). */
int intercept_copy(struct intercept *copy, const struct intercept *spec, struct failure *why);

/* Add user input to a specification; 0, or -1 with *why saying what would be right. */
int intercept_check_name(const char *text, struct failure *why); /* can an instance have it? */
int intercept_set_name(struct intercept *spec, const char *text, struct failure *why);
int intercept_set_to(struct intercept *spec, const char *text, struct failure *why);
int intercept_add_device(struct intercept *spec, const char *text, struct failure *why);
int intercept_add_not_mark(struct intercept *spec, const char *text, struct failure *why);

/* Add the name or number of a user (group: of a group) to one of a specification's lists; or a
 * control group of version 2 that must exist, by its own path or that of its directory. 0, or -1
 * with *why. */
int intercept_add_id(struct intercept_ids *ids, bool group, const char *text, struct failure *why);
int intercept_add_group(struct intercept_groups *groups, const char *text, struct failure *why);

/* Add a stored control group by its path below /sys/fs/cgroup; it need not exist. */
int intercept_add_group_path(struct intercept_groups *groups, const char *path,
			     struct failure *why);

/* The depth of a stored group below the root of its hierarchy: it contains everything below it. */
unsigned intercept_group_level(const char *path);

/* The number by which the kernel's rules know it; 0 if it does not exist. */
uint64_t intercept_group_number(const char *path);

/* Count and hash of a list in its current form; equality of two digests. */
struct intercept_digest intercept_digest_of(const struct intercept *spec,
					    enum intercept_list_id id);
bool intercept_digest_equal(const struct intercept_digest *a, const struct intercept_digest *b);

/* A list for a person to read, shortened with `...` to fit. Returns buf. */
const char *intercept_list_text(const struct intercept *spec, enum intercept_list_id id, char *buf,
				size_t size);

/* Does the specification have that family? */
bool intercept_wants(const struct intercept *spec, sa_family_t family);

#endif
