/* SPDX-License-Identifier: GPL-2.0-or-later */
/* container - from an embedded member back to the structure that contains it. */
#ifndef TPROXY_BASE_CONTAINER_H
#define TPROXY_BASE_CONTAINER_H

#include <stddef.h>

/* The structure of `type` that contains the member that `pointer` points to. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
