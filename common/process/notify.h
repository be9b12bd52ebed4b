/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify - the service manager is told how this process is, as sd_notify(3) does it.
 */
#ifndef TPROXY_PROCESS_NOTIFY_H
#define TPROXY_PROCESS_NOTIFY_H

#include "base/report.h"
#include <stdint.h>

/* Connect to the service manager, if one listens at NOTIFY_SOCKET, while it can be reached: before
 * privileges are given up; else notify_send() does. -1 with *why on failure, after which nothing is
 * sent. */
int notify_open(struct failure *why);

/* Can --ready-fd be that descriptor? -1 with *why, to be called before descriptors_guard(). */
int notify_check_fd(uint32_t fd, struct failure *why);

/* Whoever waits at the other end of --ready-fd gets a newline, and then the end; 0 is none. */
void notify_ready(uint32_t fd);

/* Tell it: `READY=1`. -1 with *why on failure; 0 also where there is none. */
int notify_send(const char *state, struct failure *why);

#endif
