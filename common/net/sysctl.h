/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sysctl - settings of this network namespace in /proc/sys, and the command that changes them.
 *
 * Most settings of net.ipv4.conf apply if they are set for all interfaces or for the interface
 * itself; the kernel takes the greater value (IN_DEV_MAXCONF, IN_DEV_ORCONF).
 */
#ifndef TPROXY_NET_SYSCTL_H
#define TPROXY_NET_SYSCTL_H

#include "base/shell.h"
#include <stdbool.h>

/* The number in /proc/sys/PATH, or `otherwise` if it cannot be read (the kernel lacks it). */
long sysctl_read(long otherwise, const char *path, ...) __attribute__((format(printf, 2, 3)));

/* The effective value of net.ipv4.conf.*.SETTING for an interface. */
long sysctl_effective(const char *device, const char *setting);

/* Add an interface to `net.ipv4.conf: all.rp_filter=1, eth0.rp_filter=0` in buf, which is "" before
 * the first one. One that does not fit is left out. */
#define SYSCTL_WHERE_MAX 400
void sysctl_where(const char *device, const char *setting, char buf[SYSCTL_WHERE_MAX]);

/*
 * Does the kernel refuse intercepted IPv4 packets that come in on that interface? With
 * src_valid_mark the route back to the source of a marked packet is looked up with the mark, which
 * finds our local route. The source then looks like this host's own, which is refused unless
 * accept_local allows it (fib_validate_source()); a strict rp_filter does not find the interface in
 * the route.
 */
bool sysctl_mark_breaks(const char *device);

/* A growing command `sysctl -w net.ipv4.conf.all.x=0 ...`. A zeroed one is empty. */
#define SYSCTL_FIX_MAX 2048 /* some dozens of interfaces */
struct sysctl_fix {
	char text[SYSCTL_FIX_MAX];
	struct shell_command command; /* in text, once there is something to set */
};
void sysctl_fix_add(struct sysctl_fix *fix, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Set a setting for an interface; switch it off for all and for this interface, wherever it is
 * on. */
void sysctl_fix_device(struct sysctl_fix *fix, const char *device, const char *setting, int value);
void sysctl_fix_off(struct sysctl_fix *fix, const char *device, const char *setting);

/* Change the settings so that they no longer make the kernel refuse the source of marked packets
 * that come in on that interface. */
void sysctl_fix_source(struct sysctl_fix *fix, const char *device);

#endif
