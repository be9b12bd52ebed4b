/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * attack - what somebody would try who has taken over a service, or one of its helpers, from
 * inside.
 *
 * `make attack` links tproxy-relay and tproxy-listen a second time, from the same objects, with the
 * linker's --wrap for sandbox_enter(): the moment at which the last rights go. There a copy of the
 * process is made for each of the acts below. It enters the sandbox as the process would, with its
 * descriptors and its user, acts, and tells on stderr how that went:
 *
 *	attack PROCESS ACT RESULT
 *
 * RESULT is the name of an errno, of the signal that killed it, `done` if it has succeeded, or
 * `none` where there was nothing to try it with. Then the process goes on. The environment says
 * what is attacked: TPROXY_ATTACK is a directory with `socket`, `precious` and room for `planted`;
 * TPROXY_VICTIM a pid. Without them nothing happens. TPROXY_ATTACK_BARE: a PROCESS that is without
 * the filter of system calls, to see what holds then.
 */
#include "process/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define NONE		   (-2) /* there is nothing to try it with */
#define IPT_SO_SET_REPLACE 64	/* linux/netfilter_ipv4/ip_tables.h */

int __real_sandbox_enter(unsigned needs, struct failure *why);
int __wrap_sandbox_enter(unsigned needs, struct failure *why);

static const char *directory;
static pid_t victim;
static bool bare;

/* ---- where to ---- */

/* What has this name in the directory; copied before the act, so that none of the C library is
 * needed. */
static const char *path_of(const char *name)
{
	static char path[2][256];
	static int next;

	next = !next;
	snprintf(path[next], sizeof(path[next]), "%s/%s", directory, name);
	return path[next];
}

static struct sockaddr_un address_of(const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path_of(name));
	return at;
}

/* An open socket of the family, and of the protocol unless that is -1; NONE. */
static int open_socket(int family, int protocol)
{
	for (int fd = 0; fd < 64; fd++) {
		int value = -1;
		socklen_t size = sizeof(value);

		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &size) < 0 || value != family)
			continue;
		getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &size);
		if (protocol < 0 || value == protocol)
			return fd;
	}
	return NONE;
}

/* A socket to ask by, an open one or a new one. */
static int any_socket(void)
{
	int fd = open_socket(AF_INET, -1);

	return fd >= 0 ? fd : socket(AF_INET, SOCK_STREAM, 0);
}

/* ---- the acts: -1 with errno, or NONE; anything else has succeeded ---- */

static long local_socket(void)
{
	const struct sockaddr_un at = address_of("socket");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&at, sizeof(at));
}

static long local_pair(void)
{
	int ends[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
}

/* By NOTIFY_SOCKET, which is open. */
static long local_open_socket(void)
{
	const struct sockaddr_un at = address_of("datagrams");

	for (int fd = 0; fd < 64; fd++) {
		struct sockaddr_un own = { 0 };
		int type = -1;
		socklen_t size = sizeof(type), length = sizeof(own);

		if (getsockname(fd, (struct sockaddr *)&own, &length) < 0 ||
		    own.sun_family != AF_UNIX)
			continue;
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_DGRAM)
			continue;
		return sendto(fd, "x", 1, 0, (const struct sockaddr *)&at, sizeof(at));
	}
	return NONE;
}

/* Have the kernel send a signal to others when a pipe becomes readable. */
static long signal_by_owner(void)
{
	int ends[2];

	if (pipe2(ends, 0) < 0)
		ends[0] = ends[1] = any_socket();
	if (ends[0] < 0)
		return -1;
	if (fcntl(ends[0], F_SETOWN, victim) < 0 || fcntl(ends[0], F_SETSIG, SIGKILL) < 0)
		return -1;
	return fcntl(ends[0], F_SETFL, O_ASYNC) < 0 ? -1 : write(ends[1], "x", 1);
}

static long open_shadow(void)
{
	return openat(AT_FDCWD, "/etc/shadow", O_RDONLY);
}

static long open_own(void)
{
	return openat(AT_FDCWD, "/proc/self/mem", O_RDWR);
}

static long plant_file(void)
{
	return openat(AT_FDCWD, path_of("planted"), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
}

static long remove_file(void)
{
	return syscall(SYS_unlinkat, AT_FDCWD, path_of("precious"), 0);
}

static long rename_file(void)
{
	return syscall(SYS_renameat2, AT_FDCWD, path_of("precious"), AT_FDCWD, path_of("planted"),
		       0);
}

static long make_setuid(void)
{
	return syscall(SYS_fchmodat, AT_FDCWD, path_of("precious"), 04777);
}

/* A route by this socket: what the kernel answers. */
static long add_route(int fd)
{
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
		struct rtattr to;
		struct in_addr address;
		struct rtattr by;
		unsigned interface;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = RTM_NEWROUTE,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE },
		.route = { .rtm_family = AF_INET,
			   .rtm_dst_len = 32,
			   .rtm_table = RT_TABLE_MAIN,
			   .rtm_protocol = RTPROT_BOOT,
			   .rtm_scope = RT_SCOPE_LINK,
			   .rtm_type = RTN_UNICAST },
		.to = { sizeof(struct rtattr) + sizeof(struct in_addr), RTA_DST },
		.address = { htonl(0xc0586301) }, /* 192.88.99.1 */
		.by = { sizeof(struct rtattr) + sizeof(unsigned), RTA_OIF },
		.interface = 1,
	};
	struct iovec data = { &request, sizeof(request) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer;

	if (fd < 0)
		return fd;
	if (sendmsg(fd, &message, 0) < 0)
		return -1;
	do {
		if (recv(fd, &answer, sizeof(answer), MSG_DONTWAIT) < 0)
			return -1;
	} while (answer.header.nlmsg_type != NLMSG_ERROR);
	errno = -answer.error.error;
	return errno ? -1 : 0;
}

/* The socket that is told of changes is not asked by: any of NETLINK_ROUTE is as good. */
static long route_by_open_socket(void)
{
	return add_route(open_socket(AF_NETLINK, NETLINK_ROUTE));
}

static long route_by_new_socket(void)
{
	return add_route(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
}

static long set_iptables(void)
{
	char table[96] = "filter";
	int fd = any_socket();

	return fd < 0 ? -1 : setsockopt(fd, SOL_IP, IPT_SO_SET_REPLACE, table, sizeof(table));
}

static long packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0x0300);
}

static long raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
}

static long bring_down(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = any_socket();

	return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &request);
}

static long type_at_terminal(void)
{
	return ioctl(STDERR_FILENO, TIOCSTI, "x");
}

static long map_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	return p == MAP_FAILED ? -1 : 0;
}

static long trace(void)
{
	return ptrace(PTRACE_ATTACH, victim, NULL, NULL);
}

static long read_memory(void)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { (void *)&directory, 1 };

	return process_vm_readv(victim, &here, 1, &there, 1, 0);
}

static long take_descriptor(void)
{
	int process = (int)syscall(SYS_pidfd_open, victim, 0);

	return process < 0 ? -1 : syscall(SYS_pidfd_getfd, process, 2, 0);
}

static long become_program(void)
{
	char *none[] = { NULL };

	return execve("/bin/true", none, none);
}

static long mount_something(void)
{
	return mount("none", directory, "tmpfs", 0, NULL);
}

static long listen_anew(void)
{
	int fd = any_socket();

	return fd < 0 ? -1 : listen(fd, 1);
}

static long send_signal(void)
{
	return kill(victim, SIGKILL);
}

static long send_signal_to_thread(void)
{
	return syscall(SYS_tgkill, victim, victim, SIGKILL);
}

static long become_root(void)
{
	return syscall(SYS_setresuid, 0, 0, 0);
}

static long new_namespace(void)
{
	return unshare(CLONE_NEWUSER | CLONE_NEWNET);
}

static long start_process(void)
{
	return fork();
}

static long load_bpf(void)
{
	char attributes[128] = { 0 };

	return syscall(SYS_bpf, 5 /* BPF_PROG_LOAD */, attributes, sizeof(attributes));
}

static long use_io_uring(void)
{
	char parameters[128] = { 0 };

	return syscall(SYS_io_uring_setup, 1, parameters);
}

static const struct {
	const char *name;
	long (*act)(void);
} acts[] = {
	{ "local-socket", local_socket },
	{ "local-pair", local_pair },
	{ "local-open-socket", local_open_socket },
	{ "signal-by-owner", signal_by_owner },
	{ "signal", send_signal },
	{ "signal-to-thread", send_signal_to_thread },
	{ "open-shadow", open_shadow },
	{ "open-own-memory", open_own },
	{ "plant-file", plant_file },
	{ "remove-file", remove_file },
	{ "rename-file", rename_file },
	{ "make-setuid", make_setuid },
	{ "route-by-open-socket", route_by_open_socket },
	{ "route-by-new-socket", route_by_new_socket },
	{ "iptables", set_iptables },
	{ "packet-socket", packet_socket },
	{ "raw-socket", raw_socket },
	{ "interface", bring_down },
	{ "terminal", type_at_terminal },
	{ "map-code", map_code },
	{ "trace", trace },
	{ "read-memory", read_memory },
	{ "take-descriptor", take_descriptor },
	{ "exec", become_program },
	{ "mount", mount_something },
	{ "become-root", become_root },
	{ "listen", listen_anew },
	{ "namespace", new_namespace },
	{ "fork", start_process },
	{ "bpf", load_bpf },
	{ "io-uring", use_io_uring },
};

/* ---- one after the other ---- */

/* Exit status of a copy: how it went. */
enum { DONE = 200, NOTHING, NOT_ENTERED };

static _Noreturn void act_inside(long (*act)(void), unsigned needs)
{
	long result;

	if (!bare && __real_sandbox_enter(needs, NULL) < 0)
		_exit(NOT_ENTERED);
	errno = 0;
	result = act();
	_exit(result == NONE ? NOTHING : result != -1 ? DONE : errno);
}

static const char *outcome(int status)
{
	static char number[32];

	if (WIFSIGNALED(status)) {
		snprintf(number, sizeof(number), "SIG%s", sigabbrev_np(WTERMSIG(status)));
		return number;
	}
	switch (WEXITSTATUS(status)) {
	case 0: /* it has become /bin/true, or a second child */
	case DONE:
		return "done";
	case NOTHING:
		return "none";
	case NOT_ENTERED:
		return "not-entered";
	default:
		return strerrorname_np(WEXITSTATUS(status));
	}
}

int __wrap_sandbox_enter(unsigned needs, struct failure *why)
{
	char process[16] = "";
	const char *pid = getenv("TPROXY_VICTIM"), *naked = getenv("TPROXY_ATTACK_BARE");

	directory = getenv("TPROXY_ATTACK");
	victim = pid ? (pid_t)strtol(pid, NULL, 10) : 0;
	prctl(PR_GET_NAME, process);
	bare = naked && strcmp(naked, process) == 0;
	for (size_t i = 0; directory && victim > 1 && i < sizeof(acts) / sizeof(*acts); i++) {
		int status = 0;
		pid_t child = fork();

		if (child == 0)
			act_inside(acts[i].act, needs);
		waitpid(child, &status, 0);
		dprintf(STDERR_FILENO, "attack %s %s %s\n", process, acts[i].name, outcome(status));
	}
	return __real_sandbox_enter(needs, why);
}
