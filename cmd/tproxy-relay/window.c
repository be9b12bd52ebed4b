/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/window.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* asm-generic/socket.h, since Linux 5.15; the value is of net/sock.h's sk_userlocks */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#define RCVBUF_LOCK 2

/*
 * #syscalls upstream: setsockopt(SOL_TCP, TCP_NOTSENT_LOWAT), setsockopt(SOL_SOCKET, SO_RCVBUF)
 * #syscalls upstream: setsockopt(SOL_SOCKET, SO_BUF_LOCK)
 */
static void set_int(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

void window_limit_unsent(int fd)
{
	set_int(fd, SOL_TCP, TCP_NOTSENT_LOWAT, WINDOW_UNSENT);
}

/* The kernel doubles the size, and locks it. TCP_WINDOW_CLAMP does not work here: it bounds what
 * may be sent beyond what has arrived, not beyond what was read. */
void window_shrink(int fd)
{
	set_int(fd, SOL_SOCKET, SO_RCVBUF, WINDOW_SMALL / 2);
}

/* A locked buffer is not enlarged by tcp_rcv_space_adjust(). */
void window_hold(int fd)
{
	set_int(fd, SOL_SOCKET, SO_BUF_LOCK, RCVBUF_LOCK);
}

void window_release(int fd)
{
	set_int(fd, SOL_SOCKET, SO_BUF_LOCK, 0);
}
