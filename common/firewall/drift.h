/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drift - compare an installed instance with its specification, part by part.
 *
 * `status` shows the result, and the doctor looks at it before everything else: every part of the
 * rules and of the routing, strays, differences from another specification, and who listens.
 */
#ifndef TPROXY_FIREWALL_DRIFT_H
#define TPROXY_FIREWALL_DRIFT_H

#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include "net/listening.h"
#include <stdbool.h>
#include <stddef.h>

/* Longest evidence and longest fix, each with the terminating NUL. */
#define DRIFT_EVIDENCE_MAX 1024
#define DRIFT_FIX_MAX	   1024

enum drift_state { DRIFT_PRESENT, DRIFT_MISSING, DRIFT_CHANGED };

struct drift_part {
	char check[64]; /* `rule:ipv4`, `chain:take`, `listener:tcp` */
	enum drift_state state;
	char evidence[DRIFT_EVIDENCE_MAX]; /* or "" */
	bool is_listener;		   /* we do not install it: its absence is no drift */
	/* For a listener: its endpoint, and who was found there. */
	int protocol;
	struct endpoint at;
	struct listening_state found;
};

struct drift {
	struct instance_view view;
	struct drift_part *part;
	size_t parts;
	bool intact; /* everything of ours is as installed, or as specified */
	bool served; /* and a transparent listener serves everything that is intercepted */
	char fix[DRIFT_FIX_MAX]; /* the command that repairs our parts */
	bool failed;
	struct sockowner_list *owners; /* of sockets; NULL until a listener was found */
};

/*
 * Compare instance `name` with what was installed, and with `asked` (decided; NULL: nothing else).
 * An instance that does not exist has one missing part. 0, or -1 with *why; the caller frees *d in
 * any case.
 */
int drift_look(struct instance *kernel, const char *name, const struct intercept *asked,
	       struct drift *d, struct failure *why);
void drift_free(struct drift *d);

/* `present`, `missing`, `changed`. */
const char *drift_word(enum drift_state state);

#endif
