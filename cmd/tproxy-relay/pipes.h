/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pipes - what splice(2) carries bytes in: pipes of 1 MiB, lent to whoever has bytes under way.
 *
 * One pool a thread. A pipe is given back empty and used again; one that still holds bytes is
 * closed. There are few: processes without CAP_SYS_RESOURCE get 64 of that size
 * (pipe-user-pages-soft), then smaller ones, which are worth nothing here. Whoever gets none
 * copies.
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

/* A zeroed one with a limit is an empty pool. */
struct pipes {
	unsigned limit; /* pipes at once */
	unsigned open;	/* of them there are now */
	unsigned idle;	/* of them in the pool */
	struct pipe *pool;
	unsigned backoff; /* the kernel gave none, or a small one: so often it is not asked again */
};

/* The size of a pipe. */
#define PIPES_SIZE (1 << 20)

/* Borrow an empty pipe, or NULL. */
struct pipe *pipes_take(struct pipes *p);

/* Give it back, whatever it holds. */
void pipes_give(struct pipes *p, struct pipe *pipe);

/* Close all that are in the pool: to free descriptors. Returns how many were closed. */
unsigned pipes_drop(struct pipes *p);

#endif
