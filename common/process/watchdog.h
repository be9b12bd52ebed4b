/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * watchdog - tells the service manager again and again that this process is alive, if it wants to
 * know (systemd.service(5), WatchdogSec=): what does not is restarted.
 */
#ifndef TPROXY_PROCESS_WATCHDOG_H
#define TPROXY_PROCESS_WATCHDOG_H

#include <stdint.h>
#include <sys/types.h>

/* The interval of signs of life, in milliseconds: a third of WATCHDOG_USEC. 0: nobody waits for
 * any from this process (sd_watchdog_enabled(3)). */
uint64_t watchdog_interval(void);

/* Give a sign of life. Never blocks: if the manager's queue is full, the next one must do. */
void watchdog_feed(void);

/* For a child that is about to become a command: it is to give the signs of life that were asked of
 * its parent, whose pid is given. */
void watchdog_hand_over(pid_t from);

#endif
