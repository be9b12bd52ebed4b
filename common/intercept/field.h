/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * field - one entry for each thing that a specification says.
 *
 * An entry has the name by which it is typed and stored, its help, where it is kept, and its kind:
 * how its values are typed, written, read back and shown. From the table come tproxy-setup's
 * options, the canonical text and its reader, the options of a command that fixes something, the
 * comparison of two specifications, and what contradicts --divert-only or lacks --local.
 *
 * A new option is a member of struct intercept, an entry here, what nft_text makes of it, and a
 * paragraph in the man page.
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

/* Longest value, also of a list as shown, and its end. */
#define FIELD_VALUE_MAX INTERCEPT_TEXT_MAX

enum field_trait {
	FIELD_NEW = 1, /* says which new connections are taken, and how: --divert-only takes none */
	FIELD_OWNER = 2,     /* says who opens a connection: known with --local only */
	FIELD_HOW = 4,	     /* stands under `How:` in --help */
	FIELD_PART = 8,	     /* shown as part of another */
	FIELD_UNSTORED = 16, /* its parts are in the canonical text, not it */
	FIELD_IDENTITY = 32, /* says which instance is meant: every command takes it */
};

/* What of the kernel's state a field decides about; the rules by their chains, see nft_text. */
enum field_changes {
	CHANGES_ROUTING = 1,
	CHANGES_SETS = 2,	/* named sets, maps and counters */
	CHANGES_PREROUTING = 4, /* prerouting: which packets are looked at */
	CHANGES_DIVERT = 8,	/* divert, other: packets of sockets that are here */
	CHANGES_TAKE = 16,	/* take: which of the rest are left alone */
	CHANGES_DELIVER = 32,	/* deliver: to whom they go */
	CHANGES_LOCAL = 64,	/* local, mine, looped: what this host opens */
	CHANGES_ZONE = 128,	/* zone-...: connection tracking */
	CHANGES_ALL = 255,
};

struct field;

struct field_kind {
	/* As it is typed; NULL: it is not. */
	option_setter *set;
	/* The nth value, from 0, as the canonical text has it; false: there are no more. */
	bool (*write)(const struct intercept *spec, const struct field *field, unsigned n,
		      char *buf, size_t size);
	/* Add a stored value. Takes any bytes. */
	int (*read)(struct intercept *spec, const struct field *field, const char *value,
		    struct failure *why);
	/* All of it as a person reads and types it, cut with `...` where it is too long; "":
	 * nothing. NULL: the values with commas between them. */
	void (*show)(const struct intercept *spec, const struct field *field, char *buf,
		     size_t size);
	/* Add the options that give it. NULL: the name with each value, unless it is as by
	 * default. */
	void (*type)(const struct intercept *spec, struct shell_command *command);
	/* Bring it into its canonical form. NULL: it always is. */
	void (*settle)(void *place);
	/* What is shown where there is no value; NULL: `all`, or of an exception `none`. */
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
	uint32_t most; /* of a number or a list: the highest value, or which list it is */
};

/* In the order of --help, and of the canonical text. */
extern const struct field field_table[];
extern const size_t field_count;

/* All of it, as shown. Returns buf. */
const char *field_show(const struct field *field, const struct intercept *spec,
		       char buf[FIELD_VALUE_MAX]);

/* Do the two say the same? Lists by their digests. */
bool field_equal(const struct field *field, const struct intercept *a, const struct intercept *b);

/* The entry of that name; NULL: there is none. */
const struct field *field_find(const char *name);

#endif
