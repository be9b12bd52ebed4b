/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slab - many objects of one size, without a header each, and iteration over those in use.
 *
 * Memory grows by 64 KiB at a time and is kept until the slab is freed; freed objects are reused
 * first. For one thread. Under AddressSanitizer a freed object is poisoned.
 */
#ifndef TPROXY_BASE_SLAB_H
#define TPROXY_BASE_SLAB_H

#include <stddef.h>

struct slab_chunk;

struct slab {
	size_t size;		    /* of one object */
	unsigned per_chunk;	    /* objects per chunk */
	struct slab_chunk *chunks;  /* all */
	struct slab_chunk *partial; /* those with room */
	size_t used;		    /* objects in use */
};

/* Objects of at least 64 bytes; aligned to 8. */
void slab_init(struct slab *s, size_t object_size);

/* A zeroed object, or NULL with errno ENOMEM. */
void *slab_get(struct slab *s);
void slab_put(struct slab *s, void *object);

/* The object in use after `object` (NULL: the first), or NULL. The order is unspecified. */
void *slab_next(const struct slab *s, const void *object);

/* Free everything; pointers to objects still in use become invalid. */
void slab_free(struct slab *s);

#endif
