/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libc - what some C libraries lack (glibc before 2.36, musl), and constants that are missing from
 * headers older than the kernel.
 *
 * Every kernel that the programs support has these system calls.
 */
#ifndef TPROXY_BASE_LIBC_H
#define TPROXY_BASE_LIBC_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#if !defined(__GLIBC__)
#define __GLIBC_PREREQ(major, minor) 0
#endif

/* The header, too, came with 2.36. */
#if __has_include(<sys/pidfd.h>)
#include <sys/pidfd.h>
#else
static inline int pidfd_open(pid_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

static inline int pidfd_getfd(int pidfd, int fd, unsigned flags)
{
	return (int)syscall(SYS_pidfd_getfd, pidfd, fd, flags);
}
#endif

#if !__GLIBC_PREREQ(2, 34)
static inline int close_range(unsigned first, unsigned last, int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}
#endif

/* `ENOENT' and so on; NULL where the library has no names for errors. */
#if !__GLIBC_PREREQ(2, 32)
static inline const char *strerrorname_np(int error)
{
	return NULL;
}
#endif

#ifndef TEMP_FAILURE_RETRY
#define TEMP_FAILURE_RETRY(call)                         \
	(__extension__({                                 \
		ssize_t result_;                         \
		do {                                     \
			result_ = (ssize_t)(call);       \
		} while (result_ < 0 && errno == EINTR); \
		result_;                                 \
	}))
#endif

#ifndef IP_RECVFRAGSIZE
#define IP_RECVFRAGSIZE 25
#endif
#ifndef IPV6_RECVFRAGSIZE
#define IPV6_RECVFRAGSIZE 77
#endif
#ifndef IP_LOCAL_PORT_RANGE /* Linux 6.3 */
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_RCVMARK /* Linux 5.19 */
#define SO_RCVMARK 75
#endif

#endif
