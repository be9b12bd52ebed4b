/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * report - what a program tells the person at its terminal, and how it ends.
 *
 * Defines the one form of every diagnostic (`prog: thing: reason`), the exit statuses, the
 * verbosity, and the failure value that carries an error from library code up to the command that
 * prints it. Library code never prints: it fills a struct failure and returns -1.
 */
#ifndef TPROXY_BASE_REPORT_H
#define TPROXY_BASE_REPORT_H

#include <stdarg.h>
#include <stdbool.h>

/* The exit status of every program; 0..3 are verdicts, 125..127 belong to wrapped commands. */
enum report_status {
	STATUS_DONE = 0,	 /* done, or yes */
	STATUS_NO = 1,		 /* no: not installed, drifted, not found, a doctor's failure */
	STATUS_USAGE = 2,	 /* the command line is wrong */
	STATUS_REFUSED = 3,	 /* the system refused */
	STATUS_WRAPPER = 125,	 /* the wrapper of a command itself failed */
	STATUS_CANNOT_RUN = 126, /* the command exists but cannot be executed */
	STATUS_NOT_FOUND = 127,	 /* the command does not exist */
	STATUS_SIGNALLED = 128,	 /* + N: signal N ended the command */
};

/*
 * Why something did not work. Plain data, owns nothing, may be copied; a zeroed one says nothing.
 * A reader sees: `prog: SUBJECT: CALL: DETAIL or strerror(err); HINT`, empty parts left out.
 */
struct failure {
	int err;	   /* errno of the call that failed, 0 when the reason is DETAIL alone */
	char call[48];	   /* what was tried: "bind", "RTM_NEWRULE", "setsockopt(IP_TRANSPARENT)" */
	char subject[160]; /* on what: "127.0.0.1:3129", "table 100" */
	char detail[320];  /* the kernel's (extack) or a library's own words */
	char hint[256];	   /* what would fix it */
};

/*
 * Fill *why with a failed system call: errno value, call and printf-style subject. Detail and hint
 * are cleared; on EPERM and EACCES of calls that need a capability, the hint names it. Returns -1,
 * so that callers can write `return report_fail(...)`. why may be NULL.
 */
int report_fail(struct failure *why, int err, const char *call, const char *subject, ...)
	__attribute__((format(printf, 4, 5)));

/* Fill *why with a reason in words (no system call failed). Returns -1. why may be NULL. */
int report_refuse(struct failure *why, const char *reason, ...)
	__attribute__((format(printf, 2, 3)));

/* Put the subject of the failure (`--mark 0x300/0xff`) in front of a reason. Returns -1. */
int report_about(struct failure *why, const char *subject, ...)
	__attribute__((format(printf, 2, 3)));

/* Add the kernel's or a library's own words to *why. Returns -1. */
int report_detail(struct failure *why, const char *detail, ...)
	__attribute__((format(printf, 2, 3)));

/* Add what would fix it to *why. Returns -1. */
int report_hint(struct failure *why, const char *hint, ...) __attribute__((format(printf, 2, 3)));

/* Compilers and analyzers must see that these return -1; otherwise they think that callers use
 * values that a failed function never set. */
static inline int report_minus_one(int result)
{
	(void)result;
	return -1;
}
#define report_fail(...)   report_minus_one(report_fail(__VA_ARGS__))
#define report_refuse(...) report_minus_one(report_refuse(__VA_ARGS__))

/* Write the failure into buf as one line without prefix; returns buf. */
const char *report_text(const struct failure *why, char *buf, unsigned long size);

/* Set the program's name, the prefix of every diagnostic. Borrowed, normally a literal. If stderr
 * is the journal's, as JOURNAL_STREAM says, each line starts with its level (`<4>`,
 * sd-daemon(3)). */
void report_init(const char *name);

/* -q and -v: notices are printed at 0 and above, details at 1, traces at 2; errors always. */
void report_set_verbosity(int level);
int report_verbosity(void);

/* Print one line to stderr, `prog: ...`. errno is kept. After report_to(-1) nothing is written. */
void report_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void report_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void report_notice(const char *format, ...) __attribute__((format(printf, 1, 2)));
void report_verbose(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print the failure and return the status to exit with, so that `return report_failure(...)` works:
 * `status`, or STATUS_REFUSED if memory ran out, which is not a usage error. */
int report_failure(const struct failure *why, int status);

/* Where diagnostics go: 2 (default), or -1 for nowhere (fd 2 is the client's, as under inetd). */
void report_to(int fd);

/*
 * Flush and check stdout at the end of a one-shot tool; may be called again. Returns status, or
 * STATUS_REFUSED (with a message) if the output could not be written; a reader that went away
 * (EPIPE) is not an error.
 */
int report_close_stdout(int status);

/* Which resource has run out, judging by an errno value: a retry may work later, or with more of
 * it. */
enum report_shortage { SHORTAGE_NONE, SHORTAGE_DESCRIPTORS, SHORTAGE_MEMORY };
enum report_shortage report_shortage(int err);

#endif
