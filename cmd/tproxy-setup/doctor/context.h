/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * context - what the doctor's checks share: the specification, packets that it is about, and the
 * one way to report.
 *
 * A check is a function over a context. It asks the kernel, and reports what it found by
 * context_report(); if it has nothing to complain of, by context_ok(), which says what was
 * looked at.
 */
#ifndef TPROXY_SETUP_DOCTOR_CONTEXT_H
#define TPROXY_SETUP_DOCTOR_CONTEXT_H

#include "base/endpoint.h"
#include "firewall/firewall.h"
#include "firewall/packet_path.h"
#include "intercept/instance.h"
#include "intercept/spec_text.h"
#include "net/holder.h"
#include "net/link.h"
#include "net/sockdiag.h"
#include "tproxy-setup/doctor/findings.h"
#include <net/if.h>
#include <stdbool.h>

/* Interfaces that are looked at, at most: one example of each kind is enough on a big router. */
#define CONTEXT_DEVICES_MAX   32
#define CONTEXT_FLOWS_MAX     (4 * CONTEXT_DEVICES_MAX + 4)
#define CONTEXT_LISTENERS_MAX 64
#define CONTEXT_MARKS_MAX     256

/* A socket that listens at a port that the rules deliver to, at whatever address. */
struct context_listener {
	struct sockdiag_socket socket;
	bool matches;		/* it is at the address that they deliver to */
	struct endpoint missed; /* else: where they deliver to */
	struct holder by;
};

struct doctor_context {
	struct instance *kernel;
	const struct intercept *spec;
	const struct instance_view *view; /* the instance of that name as it is */
	bool installed;			  /* it can be read back, */
	bool asked;			  /* and the specification was given, not read */
	struct intercept proposed; /* what every remedy that is another `up` asks for together */
	struct sockdiag *diag;
	struct firewall *firewall; /* every rule that is not ours */
	struct link lo;
	struct link device[CONTEXT_DEVICES_MAX]; /* where packets come in */
	unsigned devices;
	/* Example connections that the specification is about. The addresses are of its
	 * prefixes, or of the networks of the interfaces where it has none. */
	struct packet_path_flow flow[CONTEXT_FLOWS_MAX];
	unsigned flows;
	struct context_listener listener[CONTEXT_LISTENERS_MAX];
	unsigned listeners;

	/* Marks that ours must not clash with: both of ours, and those of others' rules and sockets. */
	struct mark taken[CONTEXT_MARKS_MAX];
	size_t marks;

	/* `check` is the one that runs, which has found `count` things. */
	struct findings findings;
	const char *check;
	unsigned count;
};

/* Somebody else uses that mark; choose another one for x->proposed, free of all that are known to be used. */
void context_take_mark(struct doctor_context *x, const struct mark *mark);
void context_change_mark(struct doctor_context *x, struct mark *mark);

/* Is there a command for another `up`: is all known that was asked for? */
bool context_knows(const struct doctor_context *x);

/* Open what the checks need and choose the flows. 0, or -1 with *why; close it in any case. */
int context_open(struct doctor_context *x, struct failure *why);
void context_close(struct doctor_context *x);

/* Does the specification have that protocol (IPPROTO_TCP, IPPROTO_UDP)? */
bool context_wants(const struct doctor_context *x, int protocol);

/* Where the rules deliver that family's connections; not set with divert_only. */
const struct endpoint *context_to(const struct doctor_context *x, sa_family_t family);

/* Report a finding of the check that runs. `why` and `fix` are complete texts; a fix is a command
 * that fixes it on this host when run as printed. When something has to be done elsewhere, or by whoever
 * started a program, `why` says so and the fix is "". */
void context_report(struct doctor_context *x, enum doctor_severity severity, const char *why,
		    const char *fix, const char *evidence, ...)
	__attribute__((format(printf, 5, 6)));
/* The same for what another `up` fixes: change x->proposed first. `first`: a command to run before it, or "". */
void context_report_up(struct doctor_context *x, enum doctor_severity severity, const char *why,
		       const char *first, const char *evidence, ...)
	__attribute__((format(printf, 5, 6)));
void context_ok(struct doctor_context *x, const char *evidence, ...)
	__attribute__((format(printf, 2, 3)));

/* Longest fix, with the terminating NUL. */
#define CONTEXT_FIX_MAX SPEC_TEXT_COMMAND_MAX

/* The address that this host uses towards that one; false when it has no way there. */
bool context_source_to(const struct endpoint *destination, struct endpoint *out);

#endif
