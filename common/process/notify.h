/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify - the service manager is told how this process is, as sd_notify(3) does it.
 */
#ifndef TPROXY_PROCESS_NOTIFY_H
#define TPROXY_PROCESS_NOTIFY_H

#include "base/report.h"

/* Connect to the service manager, if one listens at NOTIFY_SOCKET, while it can be reached: before
 * privileges are given up; else notify_send() does. -1 with *why on failure, after which nothing is
 * sent. */
int notify_open(struct failure *why);

/* Tell it: `READY=1`. -1 with *why on failure; 0 also where there is none. */
int notify_send(const char *state, struct failure *why);

#endif
