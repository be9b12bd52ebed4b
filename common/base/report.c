/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/report.h"

#include "base/plain.h"
#include <errno.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#undef report_fail
#undef report_refuse

static const char *program = "tproxy";
static int verbosity;
static int output = STDERR_FILENO;

/* Levels of syslog(3). If fd 2 belongs to the journal, a line begins with its level
 * (sd-daemon(3)). */
enum level {
	LEVEL_ERROR = 3,
	LEVEL_WARNING = 4,
	LEVEL_NOTICE = 5,
	LEVEL_INFO = 6,
	LEVEL_DEBUG = 7
};
static bool to_journal;

/* What a refused call needs. The kernel requires CAP_NET_RAW or CAP_NET_ADMIN for IP_TRANSPARENT
 * and SO_MARK (net/ipv4/ip_sockglue.c, net/core/sock.c), CAP_NET_BIND_SERVICE for ports below
 * 1024. */
static const struct {
	const char *call, *hint;
} needs[] = {
	{ "setsockopt(IP_TRANSPARENT)", "needs CAP_NET_RAW or CAP_NET_ADMIN" },
	{ "setsockopt(IPV6_TRANSPARENT)", "needs CAP_NET_RAW or CAP_NET_ADMIN" },
	{ "setsockopt(SO_MARK)", "needs CAP_NET_RAW or CAP_NET_ADMIN" },
	{ "setsockopt(SO_BINDTODEVICE)", "needs CAP_NET_RAW" },
	{ "bind", "a port below 1024 needs CAP_NET_BIND_SERVICE" },
	{ "RTM_", "needs CAP_NET_ADMIN" },
	{ "nft", "needs CAP_NET_ADMIN" },
	{ "SOCK_DESTROY", "needs CAP_NET_ADMIN" },
	{ "IPCTNL_MSG_CT_GET", "needs CAP_NET_ADMIN" },
	{ "setns", "needs CAP_SYS_ADMIN" },
	{ "pidfd_getfd", "needs CAP_SYS_PTRACE" },
	{ "setgroups", "needs CAP_SETGID and CAP_SETUID" },
	{ "setresuid", "needs CAP_SETGID and CAP_SETUID" },
};

static const char *needed_capability(const char *call, int err)
{
	if (err != EPERM && err != EACCES)
		return "";
	for (size_t i = 0; i < sizeof(needs) / sizeof(*needs); i++)
		if (!strncmp(call, needs[i].call, strlen(needs[i].call)))
			return needs[i].hint;
	return "";
}

int report_fail(struct failure *why, int err, const char *call, const char *subject, ...)
{
	va_list ap;

	if (!why)
		return -1;
	memset(why, 0, sizeof(*why));
	why->err = err;
	snprintf(why->call, sizeof(why->call), "%s", call);
	snprintf(why->hint, sizeof(why->hint), "%s", needed_capability(call, err));
	va_start(ap, subject);
	vsnprintf(why->subject, sizeof(why->subject), subject, ap);
	va_end(ap);
	return -1;
}

int report_refuse(struct failure *why, const char *reason, ...)
{
	va_list ap;

	if (!why)
		return -1;
	memset(why, 0, sizeof(*why));
	va_start(ap, reason);
	vsnprintf(why->detail, sizeof(why->detail), reason, ap);
	va_end(ap);
	return -1;
}

int report_about(struct failure *why, const char *subject, ...)
{
	va_list ap;

	if (!why)
		return -1;
	va_start(ap, subject);
	vsnprintf(why->subject, sizeof(why->subject), subject, ap);
	va_end(ap);
	return -1;
}

int report_detail(struct failure *why, const char *detail, ...)
{
	va_list ap;

	if (!why)
		return -1;
	va_start(ap, detail);
	vsnprintf(why->detail, sizeof(why->detail), detail, ap);
	va_end(ap);
	return -1;
}

int report_hint(struct failure *why, const char *hint, ...)
{
	va_list ap;

	if (!why)
		return -1;
	va_start(ap, hint);
	vsnprintf(why->hint, sizeof(why->hint), hint, ap);
	va_end(ap);
	return -1;
}

const char *report_text(const struct failure *why, char *buf, unsigned long size)
{
	bool call = why->call[0], detail = why->detail[0];

	snprintf(buf, size, "%s%s%s%s%s%s%s%s%s", why->subject, why->subject[0] ? ": " : "",
		 why->call, call && (detail || why->err) ? ": " : "", detail ? why->detail : "",
		 detail && call && why->err ? ": " : "",
		 why->err && (call || !detail) ? strerror(why->err) : "", why->hint[0] ? "; " : "",
		 why->hint);
	return buf;
}

/* JOURNAL_STREAM, `DEVICE:INODE`, is inherited even by programs whose stderr has been redirected
 * since (systemd.exec(5)). */
static bool is_journal(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(fd, &st) == 0 &&
	       st.st_dev == device && st.st_ino == inode;
}

void report_init(const char *name)
{
	static char page[1 << 16];

	program = name;
	to_journal = is_journal(STDERR_FILENO);
	/* If a write fails half-way through a page, stdio sets a flag but no errno. Make the buffer
	 * large enough for the output of a one-shot tool, so that report_close_stdout() does the
	 * write and learns why it failed. */
	if (!isatty(STDOUT_FILENO))
		setvbuf(stdout, page, _IOFBF,
			sizeof(page)); /* glibc ignores the size without a buffer */
}

void report_set_verbosity(int level)
{
	verbosity = level;
}

int report_verbosity(void)
{
	return verbosity;
}

void report_to(int fd)
{
	output = fd;
}

/*
 * One write(2) per line, so that lines of several threads and processes do not mix. Other people's
 * words in it are escaped, so that the terminal does not obey them.
 * #syscalls base: write
 */
static void say(enum level level, const char *label, const char *format, va_list ap)
{
	char text[1280], line[1280], prefix[8] = "";
	int saved = errno, start;
	size_t used;

	if (output < 0)
		return;
	vsnprintf(text, sizeof(text), format, ap);
	if (to_journal && output == STDERR_FILENO)
		snprintf(prefix, sizeof(prefix), "<%d>", (int)level);
	start = snprintf(line, sizeof(line) - 1, "%s%s: %s", prefix, program, label);
	used = (size_t)start + plain_copy(line + start, sizeof(line) - 1 - (size_t)start, text);
	line[used++] = '\n';
	/* There is nobody left to tell if stderr itself cannot be written. */
	if (write(output, line, used) < 0)
		errno = saved;
	errno = saved;
}

void report_error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(LEVEL_ERROR, "", format, ap);
	va_end(ap);
}

void report_warning(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(LEVEL_WARNING, "warning: ", format, ap);
	va_end(ap);
}

void report_notice(const char *format, ...)
{
	va_list ap;

	if (verbosity < 0)
		return;
	va_start(ap, format);
	say(LEVEL_NOTICE, "", format, ap);
	va_end(ap);
}

void report_verbose(int level, const char *format, ...)
{
	va_list ap;

	if (verbosity < level)
		return;
	va_start(ap, format);
	say(level > 1 ? LEVEL_DEBUG : LEVEL_INFO, "", format, ap);
	va_end(ap);
}

int report_failure(const struct failure *why, int status)
{
	char text[1024];

	report_error("%s", report_text(why, text, sizeof(text)));
	return status == STATUS_USAGE && why->err == ENOMEM ? STATUS_REFUSED : status;
}

int report_close_stdout(int status)
{
	bool failed = ferror(stdout) != 0;
	int copy;

	errno = 0;
	failed |= fflush(stdout) != 0;
	/* Some file systems report only at close() that a write has failed. */
	copy = failed ? -1 : dup(STDOUT_FILENO);
	failed |= copy >= 0 && close(copy) < 0;
	if (!failed)
		return status;
	failed = errno != EPIPE;
	if (failed)
		report_error("standard output: %s", errno ? strerror(errno) : "write error");
	__fpurge(stdout); /* reported once; exit() must not try again */
	clearerr(stdout);
	return failed ? STATUS_REFUSED : status;
}

enum report_shortage report_shortage(int err)
{
	switch (err) {
	case EMFILE:
	case ENFILE:
		return SHORTAGE_DESCRIPTORS;
	case ENOMEM:
	case ENOBUFS:
		return SHORTAGE_MEMORY;
	default:
		return SHORTAGE_NONE;
	}
}
