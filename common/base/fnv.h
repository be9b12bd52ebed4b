/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fnv - a digest of bytes: FNV-1a, 64 bits. It tells what has changed; nobody is kept from forging
 * it.
 */
#ifndef TPROXY_BASE_FNV_H
#define TPROXY_BASE_FNV_H

#include <stddef.h>
#include <stdint.h>

/* Of no bytes. */
#define FNV_START UINT64_C(0xcbf29ce484222325)

/* The digest of what `digest` is of, followed by these bytes. */
static inline uint64_t fnv_add(uint64_t digest, const void *data, size_t size)
{
	for (const uint8_t *byte = data; size--; byte++)
		digest = (digest ^ *byte) * UINT64_C(0x100000001b3);
	return digest;
}

#endif
