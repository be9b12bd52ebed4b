/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clock - what time it is.
 */
#ifndef TPROXY_BASE_CLOCK_H
#define TPROXY_BASE_CLOCK_H

#include <stdint.h>

/* Since some moment in the past (CLOCK_MONOTONIC), in milliseconds and in microseconds: for times
 * that pass. It is never set back. */
uint64_t clock_ms(void);
uint64_t clock_us(void);

/* Since 1970 (CLOCK_REALTIME), in microseconds: for times that are told. It may be set back. */
uint64_t clock_wall_us(void);

/* What this process has used of processors (CLOCK_PROCESS_CPUTIME_ID), in microseconds. */
uint64_t clock_cpu_us(void);

#endif
