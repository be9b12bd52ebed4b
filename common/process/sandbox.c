/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * There are two filters, and the kernel applies the stricter result: one knows calls, and kills a
 * process that makes any other; one also knows arguments, and refuses. Both are allow-lists, made
 * from the notes next to the functions that make the calls. The kernel (5.11) has a bitmap of the
 * calls whose arguments do not matter, and runs no filter for them; the rest are made a few times
 * per connection.
 *
 * Calls have libseccomp's names. It leaves out those that an architecture does not have: a 32-bit
 * architecture has other names for some calls, and socketcall(2).
 */
#include "process/sandbox.h"

#include "base/libc.h"
#include "base/sanitized.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Constants that a header may lack; see who notes them. */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

/* The notes of all files. */
#define SANDBOX_BASE 0x80000000U

/* Which bits of an argument count. The kernel looks at 32 of them. */
#define INT_ARGUMENT  0xffffffffU
#define TYPE_ARGUMENT (INT_ARGUMENT & ~(unsigned)(SOCK_NONBLOCK | SOCK_CLOEXEC))
#define OPEN_ARGUMENT \
	((unsigned)(O_ACCMODE | O_CREAT | O_EXCL | O_NOFOLLOW | O_TRUNC | O_APPEND | O_DIRECTORY))
#define PROT_ARGUMENT ((unsigned)PROT_EXEC)

/*
 * In addition, the C library's own calls: threads, memory (none that is executable; malloc counts
 * processors), and exit, including abort(), which prints a message.
 *
 * #syscalls base: futex, writev, brk, munmap, mremap, madvise, mmap(0), mprotect(0)
 * #syscalls base: getrandom, rt_sigreturn, sigreturn, restart_syscall, rt_sigprocmask, rt_sigaction
 * #syscalls base: getpid, gettid, set_robust_list, rseq, exit, exit_group, sched_getaffinity
 *
 * The run-time libraries' own calls in a sanitizer build, most of them for finding leaks, which
 * they do in a separate process that traces this one. (A coverage build writes its counts at the
 * end.) No other build allows these calls.
 *
 * #syscalls sanitizer: mmap, mprotect, clone, clone3, wait4, ptrace, prctl, sigaltstack, openat, open
 * #syscalls sanitizer: readlink, readlinkat, getdents64, fstatat, stat, fstat, lseek, pread64, dup
 * #syscalls sanitizer: sched_yield, sched_getaffinity, nanosleep, clock_nanosleep, gettimeofday
 * #syscalls sanitizer: getrlimit, prlimit64, sysinfo, kill, arch_prctl, process_vm_readv, ioctl
 * #syscalls sanitizer: tgkill, getdents, getppid, fcntl
 */
static const struct note {
	unsigned needs; /* who needs it: any of these */
	int call;
	unsigned count; /* of arguments that matter */
	struct {
		unsigned at, mask, value;
	} argument[3];
} notes[] = {
#include "sandbox_notes.h"
};

/* Allow a call, with these arguments or with any. 0, or a negative errno value. */
static int allow(scmp_filter_ctx filter, const struct note *n, bool arguments)
{
	struct scmp_arg_cmp conditions[3];
	unsigned count = arguments ? n->count : 0;
	int err;

	for (unsigned i = 0; i < count; i++)
		conditions[i] = SCMP_CMP(n->argument[i].at, SCMP_CMP_MASKED_EQ, n->argument[i].mask,
					 n->argument[i].value);
	err = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, n->call, count, conditions);
	return err == -EEXIST ? 0 : err; /* two functions may note the same */
}

/* A signal to itself, as sent by abort(). */
static int allow_abort(scmp_filter_ctx filter, bool arguments)
{
	const struct scmp_arg_cmp self = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid());

	if (SANITIZED)
		return 0;
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), arguments, &self);
}

/*
 * No file can be opened, but trying does not kill: glibc's malloc may look at
 * /proc/sys/vm/overcommit_memory when a thread's heap shrinks, or count processors in /sys, at any
 * time, and copes with a refusal.
 */
static int refuse_to_open(scmp_filter_ctx filter)
{
	int err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);

	return err ? err : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(open), 0);
}

static int add_rules(scmp_filter_ctx filter, unsigned needs, bool arguments)
{
	int err = allow_abort(filter, arguments);

	needs |= SANDBOX_BASE | (SANITIZED ? SANDBOX_SANITIZER : 0);
	for (size_t i = 0; !err && i < sizeof(notes) / sizeof(*notes); i++)
		if (notes[i].needs & needs)
			err = allow(filter, &notes[i], arguments);
	if (!err && !(needs & (SANDBOX_FILE | SANDBOX_COLLECT | SANDBOX_SANITIZER)))
		err = refuse_to_open(filter);
	return err;
}

/* This program does not make calls by the numbers of another architecture either. */
static int set_attributes(scmp_filter_ctx filter, bool first)
{
	int err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, first);
	/* A tree rather than a list, if the library can build one. */
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return err;
}

/* The first one must let the second be loaded, which then refuses a third. */
static int load(unsigned needs, bool first, struct failure *why)
{
	bool kills = first && !(needs & SANDBOX_COLLECT);
	scmp_filter_ctx filter = seccomp_init(kills ? SCMP_ACT_KILL_PROCESS
						    : SCMP_ACT_ERRNO(EPERM));
	int err;

	if (!filter)
		return report_fail(why, ENOMEM, "seccomp_init", "sandbox");
	err = set_attributes(filter, first);
	if (!err)
		err = add_rules(filter, needs, !first);
	if (!err && first)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(seccomp), 0);
	if (err)
		report_fail(why, -err, "seccomp_rule_add", "sandbox");
	else if ((err = seccomp_load(filter)) != 0)
		report_fail(why, -err, "seccomp", "sandbox");
	seccomp_release(filter);
	return err ? -1 : 0;
}

int sandbox_enter(unsigned needs, struct failure *why)
{
	tzset(); /* gmtime_r(3) opens /etc/localtime the first time it is called */
	if (load(needs, true, why) == 0 && load(needs, false, why) == 0)
		return 0;
	return report_hint(why, "--no-sandbox runs without it");
}
