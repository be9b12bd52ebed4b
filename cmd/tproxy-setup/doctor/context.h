/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * context - shared by the doctor's checks: the specification, example packets that it covers, and
 * the one way to report.
 *
 * A check is a function of a context. It asks the kernel, and reports what it found with
 * context_report(), or, if there is nothing to complain about, what it looked at with context_ok().
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

/* Maximum number of interfaces to look at: one example of each kind is enough on a big router. */
#define CONTEXT_DEVICES_MAX   32
#define CONTEXT_FLOWS_MAX     (4 * CONTEXT_DEVICES_MAX + 4)
#define CONTEXT_LISTENERS_MAX 64
#define CONTEXT_MARKS_MAX     256

/* A socket that listens on a port that the rules deliver to, on any address. */
struct context_listener {
	struct sockdiag_socket socket;
	bool matches;		/* it is on the address that they deliver to */
	struct endpoint missed; /* if not: where they deliver to */
	struct holder by;
};

/* What those rules do to the example connections; for context_each_step() alone. */
struct context_steps {
	struct packet_path_step *at;
	size_t count, room;
	bool known, failed; /* evaluated; too many to keep */
};

struct doctor_context {
	struct instance *kernel;
	const struct intercept *spec;
	const struct instance_view *view; /* the instance of that name, as installed */
	bool installed;			  /* it can be read back, */
	bool asked;			  /* and the specification was given, not read */
	struct intercept proposed;	  /* combines all fixes that are another `up` */
	struct sockdiag *diag;
	struct firewall *firewall; /* all rules that are not ours */
	struct context_steps steps;
	struct link lo;
	struct link device[CONTEXT_DEVICES_MAX]; /* where packets arrive */
	unsigned devices;
	/* Example connections that the specification covers. Their addresses are from its prefixes,
	 * or, if it has none, from the networks of the interfaces. */
	struct packet_path_flow flow[CONTEXT_FLOWS_MAX];
	unsigned flows;
	struct context_listener listener[CONTEXT_LISTENERS_MAX];
	unsigned listeners;

	/* Marks that a new one must not clash with: both of ours, and those of others' rules and
	 * sockets. */
	struct mark taken[CONTEXT_MARKS_MAX];
	size_t marks;

	/* `check` is the one that is running; it has `count` findings so far. */
	struct findings findings;
	const char *check;
	unsigned count;
};

/* Somebody else uses that mark: choose one for x->proposed that clashes with no known mark. */
void context_take_mark(struct doctor_context *x, const struct mark *mark);
void context_change_mark(struct doctor_context *x, struct mark *mark);

/* Can another `up` be written as a command: is the whole specification known? */
bool context_knows(const struct doctor_context *x);

/* Open what the checks need and choose the flows. 0, or -1 with *why; close the context in any
 * case. */
int context_open(struct doctor_context *x, struct failure *why);
void context_close(struct doctor_context *x);

/* Does the specification include that protocol (IPPROTO_TCP, IPPROTO_UDP)? */
bool context_wants(const struct doctor_context *x, int protocol);

/* Where the rules deliver that family's connections; not set with divert_only. */
const struct endpoint *context_to(const struct doctor_context *x, sa_family_t family);

/* packet_path_each() for all example connections. The rules are evaluated once for all checks:
 * there may be tens of thousands. Call it only after context_open(). */
void context_each_step(struct doctor_context *x, packet_path_judge *judge, void *context);

/* Report a finding of the running check. `why` and `fix` are complete texts; a fix is a command
 * that works on this host as printed. If the fix has to be made elsewhere, or by whoever started a
 * program, `why` says so and `fix` is "". */
void context_report(struct doctor_context *x, enum doctor_severity severity, const char *why,
		    const char *fix, const char *evidence, ...)
	__attribute__((format(printf, 5, 6)));
/* The same for a finding that another `up` fixes: change x->proposed first. `first`: a command to
 * run before it, or "". */
void context_report_up(struct doctor_context *x, enum doctor_severity severity, const char *why,
		       const char *first, const char *evidence, ...)
	__attribute__((format(printf, 5, 6)));
void context_ok(struct doctor_context *x, const char *evidence, ...)
	__attribute__((format(printf, 2, 3)));

/* Longest fix, with the terminating NUL. */
#define CONTEXT_FIX_MAX SPEC_TEXT_COMMAND_MAX

#endif
