/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sysctl - settings of this network namespace, as /proc/sys has them, and the command that changes
 * them.
 *
 * Of net.ipv4.conf most settings count when they are set for all interfaces or for that one; the
 * kernel takes the greater value (IN_DEV_MAXCONF, IN_DEV_ORCONF).
 */
#ifndef TPROXY_NET_SYSCTL_H
#define TPROXY_NET_SYSCTL_H

#include "base/shell.h"
#include <stdbool.h>

/* The number in /proc/sys/PATH, or `otherwise` when it cannot be read (the kernel lacks it). */
long sysctl_read(long otherwise, const char *path, ...) __attribute__((format(printf, 2, 3)));

/* What net.ipv4.conf.*.SETTING comes to for an interface. */
long sysctl_effective(const char *device, const char *setting);

/* `net.ipv4.conf: all.rp_filter=1, eth0.rp_filter=0` into buf. */
void sysctl_where(const char *device, const char *setting, char buf[120]);

/*
 * Are intercepted IPv4 packets refused that come in by that interface? With src_valid_mark the
 * route back to the source of a marked packet is looked up with the mark, and that is our local
 * route: the source seems to be this host's own, which is refused unless accept_local says
 * otherwise (fib_validate_source()); a strict rp_filter then misses the interface in it.
 */
bool sysctl_mark_breaks(const char *device);

/* `sysctl -w net.ipv4.conf.all.x=0 ...` that grows. A zeroed one is empty. */
struct sysctl_fix {
	char text[512];
	struct shell_command command; /* in text, once there is something to set */
};
void sysctl_fix_add(struct sysctl_fix *fix, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Set it for an interface; switch it off for all and for this interface, where it is on. */
void sysctl_fix_device(struct sysctl_fix *fix, const char *device, const char *setting, int value);
void sysctl_fix_off(struct sysctl_fix *fix, const char *device, const char *setting);

/* After which the kernel no longer refuses the source of marked packets that come in there, if it
 * is for these settings. */
void sysctl_fix_source(struct sysctl_fix *fix, const char *device);

#endif
