/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify - tells the service manager about this process's state, like sd_notify(3).
 */
#ifndef TPROXY_PROCESS_NOTIFY_H
#define TPROXY_PROCESS_NOTIFY_H

#include "base/report.h"
#include <stdint.h>

/* Connect to the service manager, if one listens at NOTIFY_SOCKET, while it can be reached: before
 * privileges are given up; otherwise notify_send() connects. -1 with *why on failure, after which
 * nothing is sent. */
int notify_open(struct failure *why);

/* Is that descriptor valid for --ready-fd? -1 with *why. Call it before descriptors_guard(). */
int notify_check_fd(uint32_t fd, struct failure *why);

/* Write a newline to --ready-fd for whoever waits at its other end, then close it; 0: no
 * --ready-fd. */
void notify_ready(uint32_t fd);

/* Send it a message: `READY=1`. -1 with *why on failure; 0 also if there is no manager. */
int notify_send(const char *state, struct failure *why);

/* Send what may be lost: if the manager does not read, or is gone. Never blocks. */
void notify_try(const char *state);

#endif
