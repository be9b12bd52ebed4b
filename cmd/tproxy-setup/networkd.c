/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/networkd.h"

#include <ctype.h>
#include <dirent.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Truncated, as the kernel does (TASK_COMM_LEN). */
#define PROGRAM "systemd-network"

/* --- the process ------------------------------------------------------------------------------ */

static bool has_name(const char *pid)
{
	char path[64], name[32] = "";
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	in = fopen(path, "re");
	if (in && fgets(name, sizeof(name), in))
		name[strcspn(name, "\n")] = '\0';
	if (in)
		fclose(in);
	return !strcmp(name, PROGRAM);
}

/* Is it in our namespace of that kind? No, if we may not look. */
static bool shares(const char *pid, const char *kind)
{
	char its_path[64], our_path[64];
	struct stat its, ours;

	snprintf(its_path, sizeof(its_path), "/proc/%.16s/ns/%s", pid, kind);
	snprintf(our_path, sizeof(our_path), "/proc/self/ns/%s", kind);
	return !stat(its_path, &its) && !stat(our_path, &ours) && its.st_ino == ours.st_ino;
}

/* May it change the routing of its network namespace? A process in its own user namespace has every
 * capability, but not for that. */
static bool may_route(const char *pid)
{
	unsigned long long capabilities = 0;
	char path[64], line[256];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%.16s/status", pid);
	in = fopen(path, "re");
	while (in && fgets(line, sizeof(line), in))
		if (sscanf(line, "CapEff: %llx", &capabilities) == 1)
			break;
	if (in)
		fclose(in);
	return capabilities >> CAP_NET_ADMIN & 1;
}

/* Any user's process may have this name; only one with these rights can remove rules. */
static bool is_networkd(const char *pid)
{
	return has_name(pid) && shares(pid, "net") && shares(pid, "user") && may_route(pid);
}

static long find_process(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	long pid = 0;

	while (proc && !pid && (entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]) && is_networkd(entry->d_name))
			pid = strtol(entry->d_name, NULL, 10);
	if (proc)
		closedir(proc);
	return pid;
}

/* --- its configuration ------------------------------------------------------------------------ */

static void read_setting(struct networkd_state *state, const char *path, char *line)
{
	char *value = strchr(line, '=');
	bool yes;

	if (!value)
		return;
	*value++ = '\0';
	line += strspn(line, " \t");
	line[strcspn(line, " \t")] = '\0';
	value += strspn(value, " \t");
	value[strcspn(value, " \t\r\n")] = '\0';
	yes = !strcasecmp(value, "yes") || !strcasecmp(value, "true") || !strcasecmp(value, "on") ||
	      !strcasecmp(value, "y") || !strcasecmp(value, "t") || !strcmp(value, "1") || !*value;
	if (strcmp(line, "ManageForeignRoutingPolicyRules"))
		return;
	state->removes_rules = yes;
	snprintf(state->source, sizeof(state->source), "%s", path);
}

static void read_file(struct networkd_state *state, const char *path)
{
	FILE *in = fopen(path, "re");
	bool ours = false;
	char line[512];

	while (in && fgets(line, sizeof(line), in)) {
		if (line[0] == '[')
			ours = !strncmp(line, "[Network]", strlen("[Network]"));
		else if (ours && line[0] != '#' && line[0] != ';')
			read_setting(state, path, line);
	}
	if (in)
		fclose(in);
}

static const char *const roots[] = { "/etc", "/run", "/usr/local/lib", "/usr/lib" };
#define ROOTS (sizeof(roots) / sizeof(*roots))

/* Only the first of these is read. */
static void read_main(struct networkd_state *state)
{
	char path[64];

	for (size_t i = 0; i < ROOTS; i++) {
		struct stat st;

		snprintf(path, sizeof(path), "%s/systemd/networkd.conf", roots[i]);
		if (stat(path, &st))
			continue;
		read_file(state, path);
		return;
	}
}

/* A drop-in's name, and the highest-priority directory that has it. */
struct dropin {
	char name[96];
	size_t root;
};

struct dropins {
	struct dropin at[64];
	size_t count;
};

static void add_dropin(struct dropins *list, const char *name, size_t root)
{
	const char *dot = strrchr(name, '.');

	if (!dot || strcmp(dot, ".conf") || strlen(name) >= sizeof(list->at->name) ||
	    list->count == sizeof(list->at) / sizeof(*list->at))
		return;
	for (size_t i = 0; i < list->count; i++)
		if (!strcmp(list->at[i].name, name))
			return;
	strcpy(list->at[list->count].name, name);
	list->at[list->count++].root = root;
}

static int compare_dropins(const void *a, const void *b)
{
	return strcmp(((const struct dropin *)a)->name, ((const struct dropin *)b)->name);
}

/* As in systemd.conf(5): drop-ins of all directories in the order of their names; for one name, the
 * one in the directory of higher priority. The last setting counts. */
static void read_dropins(struct networkd_state *state)
{
	struct dropins list = { .count = 0 };
	char path[192];

	for (size_t i = 0; i < ROOTS; i++) {
		struct dirent *entry;
		DIR *dir;

		snprintf(path, sizeof(path), "%s/systemd/networkd.conf.d", roots[i]);
		dir = opendir(path);
		while (dir && (entry = readdir(dir)))
			add_dropin(&list, entry->d_name, i);
		if (dir)
			closedir(dir);
	}
	if (list.count)
		qsort(list.at, list.count, sizeof(*list.at), compare_dropins);
	for (size_t i = 0; i < list.count; i++) {
		snprintf(path, sizeof(path), "%s/systemd/networkd.conf.d/%s",
			 roots[list.at[i].root], list.at[i].name);
		read_file(state, path);
	}
}

void networkd_look(struct networkd_state *state)
{
	*state = (struct networkd_state){
		.pid = find_process(),
		.removes_rules = true,
		.source = "the default",
	};
	if (!state->pid)
		return;
	read_main(state);
	read_dropins(state);
}
