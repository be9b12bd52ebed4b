/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config - the parsed command line of tproxy-inspect, shared by its commands.
 *
 * Each command is a file with one entry, COMMAND_run(config, operands): operands end with NULL and
 * are as many as the command takes. It returns the status to exit with.
 */
#ifndef TPROXY_INSPECT_CONFIG_H
#define TPROXY_INSPECT_CONFIG_H

#include "base/options.h"
#include "base/record_table.h"
#include "process/privilege.h"
#include "tproxy-inspect/filter.h"

struct config {
	struct options_common common;
	struct record_style style;
	struct filter filter;
	const char *netns;
	const char *listen;	  /* export */
	uint64_t doctor_interval; /* export: milliseconds; 0: never */
	struct privilege_user user;
	bool no_sandbox;
	bool stuck;	   /* pairs */
	bool dry_run;	   /* kill */
	const char *until; /* watch */
	uint64_t timeout;  /* watch: milliseconds; 0: none */
	const char *iif;   /* explain */
	uint64_t live;	   /* explain: milliseconds; 0: nothing is watched */
};

#endif
