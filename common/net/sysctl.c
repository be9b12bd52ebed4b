/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/sysctl.h"

#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* #syscalls collect: openat(O_RDONLY), fstat, read, lseek, close */
long sysctl_read(long otherwise, const char *path, ...)
{
	char full[160] = "/proc/sys/";
	size_t used = strlen(full);
	long value = otherwise;
	va_list ap;
	FILE *in;

	va_start(ap, path);
	vsnprintf(full + used, sizeof(full) - used, path, ap);
	va_end(ap);
	in = fopen(full, "re");
	if (in && fscanf(in, "%ld", &value) != 1)
		value = otherwise;
	if (in)
		fclose(in);
	return value;
}

long sysctl_effective(const char *device, const char *setting)
{
	long all = sysctl_read(0, "net/ipv4/conf/all/%s", setting);
	long own = sysctl_read(0, "net/ipv4/conf/%s/%s", device, setting);

	return all > own ? all : own;
}

void sysctl_where(const char *device, const char *setting, char buf[SYSCTL_WHERE_MAX])
{
	size_t used = strlen(buf);
	char all[80] = "";
	int length;

	if (!used)
		snprintf(all, sizeof(all), "net.ipv4.conf: all.%s=%ld", setting,
			 sysctl_read(0, "net/ipv4/conf/all/%s", setting));
	length = snprintf(buf + used, SYSCTL_WHERE_MAX - used, "%s, %s.%s=%ld", all, device,
			  setting, sysctl_read(0, "net/ipv4/conf/%s/%s", device, setting));
	if (length < 0 || used + (size_t)length >= SYSCTL_WHERE_MAX)
		buf[used] = '\0';
}

bool sysctl_mark_breaks(const char *device)
{
	return sysctl_effective(device, "src_valid_mark") &&
	       !(sysctl_effective(device, "accept_local") &&
		 sysctl_effective(device, "rp_filter") != 1);
}

void sysctl_fix_add(struct sysctl_fix *fix, const char *format, ...)
{
	char setting[96];
	va_list ap;

	va_start(ap, format);
	vsnprintf(setting, sizeof(setting), format, ap);
	va_end(ap);
	if (strstr(fix->text, setting))
		return;
	if (!fix->command.at) {
		fix->command = shell_command(fix->text, sizeof(fix->text));
		shell_add(&fix->command, "sysctl -w");
	}
	shell_word(&fix->command, setting);
}

/* sysctl(8) wants a slash instead of a dot in an interface's name. */
void sysctl_fix_device(struct sysctl_fix *fix, const char *device, const char *setting, int value)
{
	char name[IFNAMSIZ];

	snprintf(name, sizeof(name), "%s", device);
	for (char *dot = name; (dot = strchr(dot, '.'));)
		*dot = '/';
	sysctl_fix_add(fix, "net.ipv4.conf.%s.%s=%d", name, setting, value);
}

void sysctl_fix_off(struct sysctl_fix *fix, const char *device, const char *setting)
{
	if (sysctl_read(0, "net/ipv4/conf/all/%s", setting))
		sysctl_fix_device(fix, "all", setting, 0);
	if (sysctl_read(0, "net/ipv4/conf/%s/%s", device, setting))
		sysctl_fix_device(fix, device, setting, 0);
}

void sysctl_fix_source(struct sysctl_fix *fix, const char *device)
{
	if (sysctl_mark_breaks(device))
		sysctl_fix_off(fix, device, "src_valid_mark");
	if (sysctl_effective(device, "rp_filter") == 1)
		sysctl_fix_device(fix, device, "rp_filter", 2);
}
