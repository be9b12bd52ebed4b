/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * examination - what the doctor's checks share: the specification, packets that it is about, and the
 * one way to report.
 *
 * A check is a function over an examination. It asks the kernel, and reports what it found by
 * examination_report(); if it has nothing to complain of, by examination_ok(), which says what was
 * looked at.
 */
#ifndef TPROXY_EXAMINATION_H
#define TPROXY_EXAMINATION_H

#include <net/if.h>
#include <stdbool.h>
#include "doctor.h"
#include "endpoint.h"
#include "firewall.h"
#include "link.h"
#include "sockdiag.h"

/* Interfaces that are looked at, at most: one example of each kind is enough on a big router. */
#define EXAMINATION_DEVICES_MAX	  32
#define EXAMINATION_FLOWS_MAX	  (4 * EXAMINATION_DEVICES_MAX + 4)
#define EXAMINATION_LISTENERS_MAX 64

/* A connection that the specification is about: an example, of one protocol, family and interface. The
 * addresses are of its prefixes, or of the networks of the interfaces where it has none. */
struct examination_flow {
	uint8_t protocol;	   /* IPPROTO_TCP or IPPROTO_UDP */
	bool own;		   /* opened by this host itself (--local): it comes in by lo */
	const struct link *device; /* where it comes in */
	struct link upstream;	   /* by which it goes on; no name: unknown */
	struct endpoint client, destination;
	const struct endpoint *to; /* the listener of this family; not set with divert_only */
};

/* A socket that listens at a port that the rules deliver to, at whatever address. */
struct examination_listener {
	struct sockdiag_socket socket;
	bool hears;		/* it is at the address that they deliver to */
	struct endpoint missed; /* else: where they deliver to */
	long pid;		/* 0: unknown */
	char program[SOCKDIAG_NAME_MAX];
	char owner[48]; /* `nginx (pid 123)`, `a process of uid 33` */
};

struct examination {
	struct instance *kernel;
	const struct intercept *spec;
	bool installed;
	struct sockdiag *diag;
	struct firewall *firewall; /* every rule that is not ours */
	struct link lo;
	struct link device[EXAMINATION_DEVICES_MAX]; /* where packets come in */
	unsigned devices;
	struct examination_flow flow[EXAMINATION_FLOWS_MAX];
	unsigned flows;
	struct examination_listener listener[EXAMINATION_LISTENERS_MAX];
	unsigned listeners;

	/* Where findings go; `check` is the one that runs. */
	const char *check;
	unsigned findings;
	doctor_listener *report;
	void *context;
};

/* Open what the checks need and choose the flows. 0, or -1 with *why; close it in any case. */
int examination_open(struct examination *x, struct failure *why);
void examination_close(struct examination *x);

/* Does the specification have that protocol (IPPROTO_TCP, IPPROTO_UDP)? */
bool examination_wants(const struct examination *x, int protocol);

/* Report a finding of the check that runs. `why` and `fix` are complete texts. */
void examination_report(struct examination *x, enum doctor_severity severity, const char *why,
			const char *fix, const char *evidence, ...)
	__attribute__((format(printf, 5, 6)));
void examination_ok(struct examination *x, const char *evidence, ...)
	__attribute__((format(printf, 2, 3)));

/* Longest command that mends something, and its end. */
#define EXAMINATION_FIX_MAX 512

/* `tproxy-setup up` with the options that make up the specification. Returns buf. */
const char *examination_up(const struct intercept *spec, char buf[EXAMINATION_FIX_MAX]);

/* The address that this host uses towards that one; false when it has no way there. */
bool examination_source_to(const struct endpoint *destination, struct endpoint *out);

/* The number in /proc/sys/PATH, or `otherwise` when it cannot be read (the kernel lacks it). */
long examination_sysctl(long otherwise, const char *path, ...)
	__attribute__((format(printf, 2, 3)));

#endif
