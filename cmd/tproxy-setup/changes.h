/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * changes - waits for changes of rules and routing that may concern an instance, whoever makes
 * them.
 */
#ifndef TPROXY_SETUP_CHANGES_H
#define TPROXY_SETUP_CHANGES_H

#include "base/report.h"
#include "intercept/nft_text.h"
#include <stdbool.h>

/* Whoever listens takes this name (PR_SET_NAME): its own changes of rules are no news to it. */
#define CHANGES_OWN_NAME "tproxy-keep"

struct changes {
	int rules, routing; /* descriptors to poll for input; -1: none */
	char table[NFT_TEXT_TABLE_MAX];
	bool concerned; /* something in the present transaction may concern the instance */
	bool removed;	/* `down` has removed the instance, and no `up` has put it back */
	char who[16];	/* the program, other than ours, that changed rules last, or "" */
};

/* Listen from now on, in this network namespace, for what concerns that instance. 0, or -1 with
 * *why; changes_close() in any case. */
int changes_open(struct changes *c, const char *name, struct failure *why);
void changes_close(struct changes *c);

/* Read all that has come. 1: something may concern the instance; 0; or -1 with *why. */
int changes_read(struct changes *c, struct failure *why);

#endif
