/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/watchdog.h"

#include "process/notify.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The manager's limit is met even if one sign of life is lost, and the next one late. */
#define PER_LIMIT 3

/* 0: it is not set, or no number. */
static uint64_t number_of(const char *variable)
{
	const char *text = getenv(variable);
	unsigned long long value;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	return *end || errno ? 0 : value;
}

uint64_t watchdog_interval(void)
{
	uint64_t us = number_of("WATCHDOG_USEC"), ms = us / PER_LIMIT / 1000;

	if (!us || !getenv("NOTIFY_SOCKET"))
		return 0;
	if (getenv("WATCHDOG_PID") && number_of("WATCHDOG_PID") != (uint64_t)getpid())
		return 0;
	return ms ? ms : 1;
}

void watchdog_feed(void)
{
	notify_try("WATCHDOG=1");
}

void watchdog_hand_over(pid_t from)
{
	char own[16];

	if (number_of("WATCHDOG_PID") != (uint64_t)from)
		return;
	snprintf(own, sizeof(own), "%d", (int)getpid());
	setenv("WATCHDOG_PID", own, 1);
}
