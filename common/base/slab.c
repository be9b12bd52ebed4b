/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/slab.h"
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

/*
 * A chunk is aligned to its own size, so an object finds its chunk by masking its address; a bit
 * per object says whether it is in use.
 */
#define CHUNK_SIZE 65536
#define WORDS	   16 /* 1024 bits: enough for objects of 64 bytes */

struct slab_chunk {
	uint64_t used[WORDS];
	unsigned count;
	struct slab_chunk *next;	 /* in slab.chunks */
	struct slab_chunk *next_partial; /* in slab.partial, while count < per_chunk */
	unsigned char objects[] __attribute__((aligned(64)));
};

void slab_init(struct slab *s, size_t object_size)
{
	size_t size = (object_size + 7) & ~(size_t)7;

	*s = (struct slab){ .size = size };
	s->per_chunk = (unsigned)((CHUNK_SIZE - sizeof(struct slab_chunk)) / size);
	if (s->per_chunk > WORDS * 64)
		s->per_chunk = WORDS * 64;
}

/* mmap() only aligns to pages: map twice as much and cut off the excess. */
static void *map_chunk(void)
{
	uintptr_t start, chunk;
	void *map = mmap(NULL, 2 * CHUNK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	start = (uintptr_t)map;
	chunk = (start + CHUNK_SIZE - 1) & ~(uintptr_t)(CHUNK_SIZE - 1);
	if (chunk > start)
		munmap(map, chunk - start);
	munmap((void *)(chunk + CHUNK_SIZE), start + CHUNK_SIZE - chunk);
	return (void *)chunk;
}

static struct slab_chunk *add_chunk(struct slab *s)
{
	struct slab_chunk *c = map_chunk();

	if (!c)
		return NULL;
	c->next = s->chunks;
	c->next_partial = s->partial;
	s->chunks = s->partial = c;
	ASAN_POISON_MEMORY_REGION(c->objects, s->per_chunk * s->size);
	return c;
}

static unsigned first_free(const struct slab_chunk *c)
{
	unsigned word = 0;

	while (!~c->used[word])
		word++;
	return word * 64 + (unsigned)__builtin_ctzll(~c->used[word]);
}

void *slab_get(struct slab *s)
{
	struct slab_chunk *c = s->partial ? s->partial : add_chunk(s);
	unsigned index;
	void *object;

	if (!c)
		return NULL;
	index = first_free(c);
	c->used[index / 64] |= 1ULL << (index % 64);
	if (++c->count == s->per_chunk)
		s->partial = c->next_partial;
	s->used++;
	object = c->objects + index * s->size;
	ASAN_UNPOISON_MEMORY_REGION(object, s->size);
	return memset(object, 0, s->size);
}

static struct slab_chunk *chunk_of(const void *object)
{
	return (struct slab_chunk *)((uintptr_t)object & ~(uintptr_t)(CHUNK_SIZE - 1));
}

static unsigned index_of(const struct slab *s, const void *object)
{
	const struct slab_chunk *c = chunk_of(object);

	return (unsigned)((size_t)((const unsigned char *)object - c->objects) / s->size);
}

void slab_put(struct slab *s, void *object)
{
	struct slab_chunk *c = chunk_of(object);
	unsigned index = index_of(s, object);

	c->used[index / 64] &= ~(1ULL << (index % 64));
	if (c->count-- == s->per_chunk) {
		c->next_partial = s->partial;
		s->partial = c;
	}
	s->used--;
	ASAN_POISON_MEMORY_REGION(object, s->size);
}

static void *find_from(const struct slab *s, struct slab_chunk *c, unsigned index)
{
	for (; c; c = c->next, index = 0)
		for (; index < s->per_chunk; index++)
			if (c->used[index / 64] >> (index % 64) & 1)
				return c->objects + index * s->size;
	return NULL;
}

void *slab_next(const struct slab *s, const void *object)
{
	if (!object)
		return find_from(s, s->chunks, 0);
	return find_from(s, chunk_of(object), index_of(s, object) + 1);
}

void slab_free(struct slab *s)
{
	while (s->chunks) {
		struct slab_chunk *c = s->chunks;

		s->chunks = c->next;
		ASAN_UNPOISON_MEMORY_REGION(c, CHUNK_SIZE);
		munmap(c, CHUNK_SIZE);
	}
	s->partial = NULL;
	s->used = 0;
}
