/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * field - one entry for each part of a specification.
 *
 * An entry has the name of the part as typed and stored, its help, where it is kept, and its kind:
 * how its values are parsed, written, read back and shown. The table gives tproxy-setup's options,
 * the canonical text and its reader, the options of a command that fixes something, the comparison
 * of two specifications, and which options contradict --divert-only or need --local.
 *
 * A new option is a member of struct intercept, an entry here, its part of the rules in nft_text,
 * and a paragraph in the man page.
 */
#ifndef TPROXY_INTERCEPT_FIELD_H
#define TPROXY_INTERCEPT_FIELD_H

#include "base/options.h"
#include "base/report.h"
#include "base/shell.h"
#include "intercept/intercept.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest value, including a list as shown, with its \0. */
#define FIELD_VALUE_MAX INTERCEPT_TEXT_MAX

enum field_trait {
	FIELD_NEW = 1,	 /* which new connections are taken, and how: --divert-only takes none */
	FIELD_OWNER = 2, /* selects who opens a connection: known with --local only */
	FIELD_HOW = 4,	 /* listed under `How:` in --help */
	FIELD_PART = 8,	 /* shown as part of another field */
	FIELD_UNSTORED = 16, /* the canonical text has its parts instead */
	FIELD_IDENTITY = 32, /* selects the instance: every command takes it */
};

/* Which kernel state a field affects; the rules by their chains, see nft_text. */
enum field_changes {
	CHANGES_ROUTING = 1,
	CHANGES_SETS = 2,	/* named sets, maps and counters */
	CHANGES_PREROUTING = 4, /* prerouting: which packets are looked at */
	CHANGES_DIVERT = 8,	/* divert, other: packets of sockets on this host */
	CHANGES_TAKE = 16,	/* take: which of the rest are left alone */
	CHANGES_DELIVER = 32,	/* deliver: where they go */
	CHANGES_LOCAL = 64,	/* local, mine, looped: connections that this host opens */
	CHANGES_ZONE = 128,	/* zone-...: connection tracking */
	CHANGES_ASTRAY = 256,	/* ask, asks, answer, astray, refused: strangers' answers */
	CHANGES_ALL = 511,
};

struct field;

struct field_kind {
	/* Parses what the user typed; NULL: it is not an option. */
	option_setter *set;
	/* Writes the nth value, from 0, in the form of the canonical text; false: there are no
	 * more. */
	bool (*write)(const struct intercept *spec, const struct field *field, unsigned n,
		      char *buf, size_t size);
	/* Adds a stored value. Takes any bytes. */
	int (*read)(struct intercept *spec, const struct field *field, const char *value,
		    struct failure *why);
	/* Writes all of it in the form that a person reads and types, cut with `...` if too long;
	 * "": nothing. NULL: the values separated by commas. */
	void (*show)(const struct intercept *spec, const struct field *field, char *buf,
		     size_t size);
	/* Adds the options that set it. NULL: the name with each value, unless it has its
	 * default. */
	void (*type)(const struct intercept *spec, struct shell_command *command);
	/* Brings it into its canonical form. NULL: it always is. */
	void (*settle)(void *place);
	/* Shown where there is no value; NULL: `all`, or `none` for an exception. */
	const char *none;
};

struct field {
	const char *name; /* the long option, and the key in the canonical text */
	char letter;
	const char *arg, *help; /* as in struct option_spec */
	const struct field_kind *kind;
	size_t offset; /* in struct intercept */
	unsigned traits;
	unsigned changes;
	uint32_t most; /* a number's or list's highest value, or which list it is */
};

/* In the order of --help and of the canonical text. */
extern const struct field field_table[];
extern const size_t field_count;

/* All of it, as shown to a person. Returns buf. */
const char *field_show(const struct field *field, const struct intercept *spec,
		       char buf[FIELD_VALUE_MAX]);

/* Do both have the same value? Lists are compared by their digests. */
bool field_equal(const struct field *field, const struct intercept *a, const struct intercept *b);

/* The entry with that name; NULL: none. */
const struct field *field_find(const char *name);

#endif
