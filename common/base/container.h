/* SPDX-License-Identifier: GPL-2.0-or-later */
/* container - from an embedded member back to what it is embedded in. */
#ifndef TPROXY_BASE_CONTAINER_H
#define TPROXY_BASE_CONTAINER_H

#include <stddef.h>

/* The structure of that type whose member the pointer leads to. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
