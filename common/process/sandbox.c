/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * One allow-list a need, by libseccomp's names, of which it leaves out what an architecture does not
 * have: a 32-bit one has other names for some calls, and socketcall(2). Most calls are allowed whatever
 * their arguments are; the kernel (5.11) knows those by a bitmap and runs no filter for them. Arguments
 * are looked at only where a call is rare and may do much: socket, ioctl, mmap, mprotect, tgkill.
 */
#include "process/sandbox.h"

#include <errno.h>
#include <net/if.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define COUNT(list) (sizeof(list) / sizeof(*(list)))

/* The loop, the threads, memory (malloc counts processors), the clock (where the vDSO has none), and an
 * end, also by abort(), which has something to say. */
static const int base_calls[] = {
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(close),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(ppoll_time64),
	SCMP_SYS(fcntl),
	SCMP_SYS(fcntl64),
	SCMP_SYS(futex),
	SCMP_SYS(futex_time64),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_gettime64),
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(getrandom),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigreturn),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(sched_getaffinity),
};

static const int socket_calls[] = {
	SCMP_SYS(recvfrom),   SCMP_SYS(recv),	  SCMP_SYS(sendto),	     SCMP_SYS(send),
	SCMP_SYS(splice),     SCMP_SYS(accept4),  SCMP_SYS(getsockname),     SCMP_SYS(setsockopt),
	SCMP_SYS(getsockopt), SCMP_SYS(bind),	  SCMP_SYS(connect),	     SCMP_SYS(shutdown),
	SCMP_SYS(recvmsg),    SCMP_SYS(sendmsg),  SCMP_SYS(getpeername),     SCMP_SYS(pipe2),
	SCMP_SYS(recvmmsg),   SCMP_SYS(sendmmsg), SCMP_SYS(recvmmsg_time64),
};

static const int remove_calls[] = {
	SCMP_SYS(newfstatat), SCMP_SYS(fstatat64), SCMP_SYS(stat),	 SCMP_SYS(stat64),
	SCMP_SYS(lstat),      SCMP_SYS(lstat64),   SCMP_SYS(statx),	 SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),   SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
};

static const int write_calls[] = {
	SCMP_SYS(openat), SCMP_SYS(open),   SCMP_SYS(fstat),	SCMP_SYS(fstat64),
	SCMP_SYS(fchmod), SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2),
};

/* What the run-time libraries of a sanitizer build do of their own, most of it when they look for leaks:
 * with a process of their own, which traces this one. No other build allows them. */
static const int sanitizer_calls[] = {
	SCMP_SYS(mmap),
	SCMP_SYS(mmap2),
	SCMP_SYS(mprotect),
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(wait4),
	SCMP_SYS(ptrace),
	SCMP_SYS(prctl),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(openat),
	SCMP_SYS(open),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(newfstatat),
	SCMP_SYS(stat),
	SCMP_SYS(fstat),
	SCMP_SYS(lseek),
	SCMP_SYS(pread64),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrlimit),
	SCMP_SYS(prlimit64),
	SCMP_SYS(sysinfo),
	SCMP_SYS(kill),
	SCMP_SYS(arch_prctl),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(ioctl),
	SCMP_SYS(tgkill),
	SCMP_SYS(getdents),
	SCMP_SYS(dup),
	SCMP_SYS(getppid),
};

/* 0, or a negative errno value. */
static int allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int err = 0;

	for (size_t i = 0; !err && i < count; i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return err;
}

static int allow_if(scmp_filter_ctx filter, int call, struct scmp_arg_cmp condition)
{
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &condition);
}

/* Local sockets: NOTIFY_SOCKET. Not AF_NETLINK, not AF_PACKET: what is needed of them is open. */
static int allow_socket(scmp_filter_ctx filter)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	int err = 0;

	for (size_t i = 0; !err && i < COUNT(families); i++)
		err = allow_if(filter, SCMP_SYS(socket),
			       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
	return err;
}

/* No memory that can be executed; names of interfaces; signals to itself, as abort() sends one. */
static int allow_base(scmp_filter_ctx filter)
{
	static const int mapping[] = { SCMP_SYS(mmap), SCMP_SYS(mmap2), SCMP_SYS(mprotect) };
	int err = allow(filter, base_calls, COUNT(base_calls));

	if (!err && SANITIZED)
		return allow(filter, sanitizer_calls, COUNT(sanitizer_calls));
	for (size_t i = 0; !err && i < COUNT(mapping); i++)
		err = allow_if(filter, mapping[i], SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!err)
		err = allow_if(filter, SCMP_SYS(tgkill),
			       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	return err;
}

/*
 * No file is opened, but asking does not kill: glibc's malloc may look at /proc/sys/vm/overcommit_memory
 * when a thread's heap shrinks, or count processors in /sys, at any time, and lives with a refusal.
 */
static int refuse_to_open(scmp_filter_ctx filter)
{
	int err;

	if (SANITIZED)
		return 0;
	err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(open), 0);
	return err;
}

static int add_rules(scmp_filter_ctx filter, unsigned needs)
{
	int err = allow_base(filter);

	if (!err)
		err = allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, SIOCGIFNAME));
	if (!err && needs & SANDBOX_SOCKETS)
		err = allow(filter, socket_calls, COUNT(socket_calls));
	if (!err && needs & SANDBOX_SOCKETS)
		err = allow_socket(filter);
	if (!err && needs & (SANDBOX_REMOVE | SANDBOX_WRITE))
		err = allow(filter, remove_calls, COUNT(remove_calls));
	if (!err)
		err = needs & SANDBOX_WRITE ? allow(filter, write_calls, COUNT(write_calls))
					    : refuse_to_open(filter);
	return err;
}

/* Calls by the numbers of another architecture are not what this program makes either. */
static int set_attributes(scmp_filter_ctx filter)
{
	int err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* A tree rather than a list, where the library can make one. */
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return err;
}

int sandbox_enter(unsigned needs, struct failure *why)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err;

	if (!filter)
		return report_fail(why, ENOMEM, "seccomp_init", "sandbox");
	tzset(); /* gmtime_r(3) opens /etc/localtime the first time it is called */
	err = set_attributes(filter);
	if (!err)
		err = add_rules(filter, needs);
	if (err)
		report_fail(why, -err, "seccomp_rule_add", "sandbox");
	else if ((err = seccomp_load(filter)) != 0)
		report_fail(why, -err, "seccomp", "sandbox");
	if (err)
		report_hint(why, "--no-sandbox does without it");
	seccomp_release(filter);
	return err ? -1 : 0;
}
