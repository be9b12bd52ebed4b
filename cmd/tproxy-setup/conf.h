/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conf - /etc/tproxy/NAME.conf: what tproxy@NAME.service intercepts, and what serves it.
 *
 * 	# a comment
 * 	SETUP = --to 3129 --port 80,443 \
 * 		--iif eth1
 * 	COMMAND = tproxy-relay --log errors 3129
 *
 * Two variables, each at most once: the options of `tproxy-setup up`, and the command with its
 * options. A value is split into words as sh(1) does it: blanks, '...', "..." and \; nothing is
 * expanded, and no comment begins inside a value. Quotes around a whole value are removed first, so
 * that a file written for a shell or for systemd's EnvironmentFile= means the same. A line that
 * ends with \ continues on the next.
 */
#ifndef TPROXY_SETUP_CONF_H
#define TPROXY_SETUP_CONF_H

#include "base/report.h"
#include <stddef.h>

#define CONF_SIZE_MAX  65536
#define CONF_WORDS_MAX 1024 /* of one value */

/* The words of a value and the line that each is on. at[0] is the variable's name, as argv[0] is a
 * program's; NULL ends the list. count 0: the variable is missing. */
struct conf_words {
	char **at;
	unsigned *line;
	int count;  /* with at[0] */
	char *text; /* what they point into */
};

struct conf {
	struct conf_words setup, command;
};

/* Read the file. 0, or -1 with *why, which names the file, the line and the word. conf_free() in
 * any case. */
int conf_read(const char *path, struct conf *conf, struct failure *why);

/* The same for a text; path is for messages only. *conf is empty. */
int conf_parse(const char *text, const char *path, struct conf *conf, struct failure *why);

void conf_free(struct conf *conf);

#endif
