/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pipes - a pool of 1 MiB pipes for splice(2), lent to whoever has bytes in transit.
 *
 * One pool per thread. A pipe that is given back empty is used again; one that still holds bytes is
 * closed. Pipes are scarce: a process without CAP_SYS_RESOURCE gets 64 of that size
 * (pipe-user-pages-soft), then smaller ones, which are useless here. Whoever gets none copies.
 */
#ifndef TPROXY_RELAY_PIPES_H
#define TPROXY_RELAY_PIPES_H

#include <stdbool.h>
#include <stddef.h>

struct pipe {
	int from, to; /* read end, write end */
	size_t held;  /* bytes in it; kept by the borrower */
	struct pipe *next;
};

/* Zeroed, with a limit, it is an empty pool. */
struct pipes {
	unsigned limit; /* pipes at once */
	unsigned open;	/* pipes that exist now */
	unsigned idle;	/* pipes in the pool */
	struct pipe *pool;
	unsigned backoff; /* the kernel gave none, or a small one: skip this many requests */
};

/* The size of a pipe. */
#define PIPES_SIZE (1 << 20)

/* Borrow an empty pipe, or NULL. */
struct pipe *pipes_take(struct pipes *p);

/* Give a pipe back, whatever it holds. */
void pipes_give(struct pipes *p, struct pipe *pipe);

/* Close all pipes in the pool, to free descriptors. Returns how many were closed. */
unsigned pipes_drop(struct pipes *p);

#endif
