/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config - what the command line of tproxy-inspect says, and what its commands have in common.
 *
 * Each command is a file with one entry, COMMAND_run(config, operands): operands end with NULL and are as
 * many as the command takes. It returns the status to exit with.
 */
#ifndef TPROXY_INSPECT_CONFIG_H
#define TPROXY_INSPECT_CONFIG_H

#include "base/match.h"
#include "base/options.h"
#include "base/quantity.h"
#include "base/record_table.h"
#include <stdbool.h>
#include <stdint.h>

struct config {
	struct options_common common;
	struct record_style style;
	struct match_list local, peer;
	struct mark mark;
	uint64_t pid;
	const char *prog, *netns;
	uint32_t states; /* bits 1 << TCP_*; 0: all */
	bool all, transparent, by_mark;
};

#endif
