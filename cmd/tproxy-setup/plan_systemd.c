/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/plan_systemd.h"

#include "firewall/xtables_legacy.h"
#include "intercept/spec_text.h"
#include "process/command.h"
#include <stdbool.h>
#include <string.h>

/* Directories that a program of ours writes to: those named /run/tproxyANYTHING/ belong to the
 * unit. */
#define RUN_PREFIX "/run/tproxy"

/* --- words ------------------------------------------------------------------------------------ */

/* Print a character inside systemd's double quotes: % and $ are doubled, a newline becomes \x0a
 * (systemd.service(5), systemd.syntax(7)). */
static void put_quoted(FILE *out, unsigned char c)
{
	if (c < ' ' || c >= 0x7f)
		fprintf(out, "\\x%02x", c);
	else if (c == '%' || c == '$')
		fprintf(out, "%c%c", c, c);
	else if (c == '"' || c == '\\')
		fprintf(out, "\\%c", c);
	else
		fputc(c, out);
}

/* Print a word as systemd reads it, quoted if necessary. */
static void put_word(FILE *out, const char *text)
{
	bool quoted = !*text;

	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		quoted |= *p <= ' ' || *p >= 0x7f || strchr("\"'\\;", *p);
	fputs(quoted ? "\"" : "", out);
	for (; *text; text++)
		put_quoted(out, (unsigned char)*text);
	fputs(quoted ? "\"" : "", out);
}

/* Print words that are quoted for sh: systemd reads them as sh does, except for % and $. */
static void put_words(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '%' || *text == '$')
			fputc(*text, out);
		fputc(*text, out);
	}
}

/* `KEY=PROGRAM COMMAND OPTIONS`; a + before the program: outside of the sandbox. */
static void put_exec(FILE *out, const char *key, const struct plan_systemd *plan,
		     const char *command, const char *options)
{
	fputs(key, out);
	put_word(out, plan->program);
	fprintf(out, " %s ", command);
	put_words(out, options);
}

static void put_down(FILE *out, const char *key, const struct plan_systemd *plan, const char *drain)
{
	char options[64 + INTERCEPT_NAME_MAX];

	snprintf(options, sizeof(options), "--name %s%s\n", plan->spec->name, drain);
	put_exec(out, key, plan, "down", options);
}

/* Print the program with its full path: systemd looks for names in its own list of directories. */
static void put_command(FILE *out, char **command)
{
	struct command found = { 0 };
	bool absolute = command_find(&found, command, NULL) == 0 && *found.path == '/';

	put_word(out, absolute ? found.path : *command);
	while (*++command) {
		fputc(' ', out);
		put_word(out, *command);
	}
	fputc('\n', out);
	command_free(&found);
}

/* --- the sandbox ------------------------------------------------------------------------------ */

/*
 * Remove everything that none of our programs needs. The rest is for netlink, sockets and /proc;
 * they read /proc/sys, so no ProcSubset=pid. A forbidden system call fails instead of killing the
 * process: libraries try newer ones first.
 */
static const char sandbox[] = "DynamicUser=yes\n"
			      "NoNewPrivileges=yes\n"
			      "ProtectSystem=strict\n"
			      "ProtectHome=yes\n"
			      "ProtectProc=invisible\n"
			      "ProtectClock=yes\n"
			      "ProtectHostname=yes\n"
			      "ProtectKernelLogs=yes\n"
			      "ProtectKernelModules=yes\n"
			      "ProtectKernelTunables=yes\n"
			      "ProtectControlGroups=yes\n"
			      "PrivateTmp=yes\n"
			      "PrivateDevices=yes\n"
			      "PrivateMounts=yes\n"
			      "DevicePolicy=closed\n"
			      "RestrictNamespaces=yes\n"
			      "RestrictRealtime=yes\n"
			      "RestrictSUIDSGID=yes\n"
			      "RestrictAddressFamilies=AF_NETLINK AF_INET AF_INET6 AF_UNIX\n"
			      "LockPersonality=yes\n"
			      "MemoryDenyWriteExecute=yes\n"
			      "RemoveIPC=yes\n"
			      "UMask=0077\n"
			      "SystemCallArchitectures=native\n"
			      "SystemCallErrorNumber=EPERM\n"
			      "SystemCallFilter=@system-service\n"
			      "SystemCallFilter=~@resources @privileged\n";

/* Our programs drop what they no longer need by themselves. */
static const char own_sandbox[] = "SystemCallFilter=capset seccomp landlock_create_ruleset "
				  "landlock_add_rule landlock_restrict_self\n";

static void put_capabilities(FILE *out, const char *list)
{
	fprintf(out, "CapabilityBoundingSet=%s\nAmbientCapabilities=%s\n", list, list);
}

/* Neither multicast nor reserved addresses. */
static void put_addresses(FILE *out)
{
	fputs("# Unicast alone; without these two lines a packet is not looked up.\n"
	      "IPAddressDeny=any\n"
	      "IPAddressAllow=0.0.0.0/1 128.0.0.0/2 192.0.0.0/3 ::/1 8000::/2 c000::/3 e000::/4 "
	      "f000::/5 f800::/6 fc00::/7 fe00::/8\n",
	      out);
}

/* --- programs of ours ------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool plan_systemd_is_ours(char **command)
{
	bool relay = command && !strcmp(base_name(*command), "tproxy-relay");
	bool listen = command && !strcmp(base_name(*command), "tproxy-listen");

	/* What follows -- is another program. */
	for (; listen && *command; command++)
		listen = strcmp(*command, "--") != 0;
	return relay || listen;
}

/* The value of an option, `--NAME VALUE` or `--NAME=VALUE`, in a command; NULL. */
static const char *value_of(char **command, const char *option)
{
	size_t length = strlen(option);

	for (; *command; command++)
		if (!strncmp(*command, option, length)) {
			if ((*command)[length] == '=')
				return *command + length + 1;
			if (!(*command)[length])
				return command[1];
		}
	return NULL;
}

/* Our options that name a path to write to. */
static const char *const writing[] = { "--control", "--metrics-file" };

static int check_paths(char **command, struct failure *why)
{
	for (size_t i = 0; i < sizeof(writing) / sizeof(*writing); i++) {
		const char *path = value_of(command, writing[i]);

		if (path && (*path != '/' || strchr(path, '\n')))
			return report_refuse(why,
					     "plan --format systemd: %s: a unit needs an absolute "
					     "path",
					     writing[i]);
	}
	if (value_of(command, "--user"))
		return report_refuse(why, "plan --format systemd: --user: the unit has a user of "
					  "its own, leave it out");
	if (value_of(command, "--takeover"))
		return report_refuse(why, "plan --format systemd: --takeover: the unit's program "
					  "cannot inspect another process");
	return 0;
}

/* A directory of our own in /run comes and goes with the unit; any other exists already. */
static void put_path(FILE *out, const char *path)
{
	size_t first = strcspn(path + strlen("/run/"), "/"), length;
	char directory[4096];

	if (!strncmp(path, RUN_PREFIX, strlen(RUN_PREFIX)) && path[strlen("/run/") + first]) {
		fprintf(out, "RuntimeDirectory=%.*s\n", (int)first, path + strlen("/run/"));
		return;
	}
	length = (size_t)(strrchr(path, '/') - path);
	snprintf(directory, sizeof(directory), "%.*s", length ? (int)length : 1, path);
	fputs("# The unit's user must be allowed to write there, too.\nReadWritePaths=", out);
	put_word(out, directory);
	fputc('\n', out);
}

static void put_paths(FILE *out, char **command)
{
	for (size_t i = 0; i < sizeof(writing) / sizeof(*writing); i++) {
		const char *path = value_of(command, writing[i]);

		if (path)
			put_path(out, path);
	}
}

/* As with `run`: interception begins when the program is ready, and ends, with a drain, before the
 * program is told to end; it also ends with the program, however that ended. */
static void put_ours(FILE *out, const struct plan_systemd *plan, const char *options)
{
	fputs("Type=notify\nExecStart=", out);
	put_command(out, plan->command);
	put_exec(out, "ExecStartPost=+", plan, "up", options);
	put_exec(out, "\nExecReload=+", plan, "up", options);
	put_down(out, "\nExecStop=+", plan, " --drain 30s");
	put_down(out, "ExecStopPost=+", plan, "");
	fputs("TimeoutStopSec=60\nRestart=on-failure\nRestartSec=1\nLimitNOFILE=1048576\n"
	      "WatchdogSec=30\nTimeoutAbortSec=10\n",
	      out);
	put_paths(out, plan->command);
	/* CAP_NET_ADMIN would only serve for TIME_WAIT sockets of clients without TCP
	 * timestamps. */
	put_capabilities(out, "CAP_NET_RAW CAP_NET_BIND_SERVICE");
	fputs(sandbox, out);
	fputs(own_sandbox, out);
	put_addresses(out);
}

/* --- the other two ---------------------------------------------------------------------------- */

/* We do not know what a sandbox would break in another program. The rules live as long as the
 * command; the supervisor survives the first signal, to drain. */
static void put_run(FILE *out, const struct plan_systemd *plan, const char *options)
{
	fputs("Type=notify\nNotifyAccess=main\n", out);
	put_exec(out, "ExecStart=", plan, "run", options);
	fputs(" -- ", out);
	put_command(out, plan->command);
	fputs("KillMode=mixed\nTimeoutStopSec=60\nRestart=on-failure\nRestartSec=1\n"
	      "LimitNOFILE=1048576\n"
	      "# Add what the command can do with: NoNewPrivileges=yes, ProtectSystem=full, ...\n",
	      out);
}

static void put_up(FILE *out, const struct plan_systemd *plan, const char *options)
{
	char tables[256];

	fputs("Type=oneshot\nRemainAfterExit=yes\n", out);
	put_exec(out, "ExecStart=", plan, "up", options);
	put_exec(out, "\nExecReload=", plan, "up", options);
	put_down(out, "\nExecStop=", plan, " --drain 30s");
	fputs("TimeoutStopSec=60\n", out);
	put_capabilities(out, "CAP_NET_ADMIN CAP_NET_RAW");
	if (plan->spec->conntrack == CONNTRACK_AUTO &&
	    xtables_legacy_names(tables, sizeof(tables)) > 0)
		fprintf(out,
			"# iptables-legacy has tables here (%s), whose list is for root's group.\n"
			"SupplementaryGroups=root\n",
			tables);
	fputs(sandbox, out);
	put_addresses(out);
}

/* --- the unit --------------------------------------------------------------------------------- */

static void put_head(FILE *out, const struct plan_systemd *plan)
{
	fprintf(out,
		"[Unit]\nDescription=Transparent interception (%s)\n"
		"Documentation=man:tproxy-setup(8)\n"
		"After=network.target nftables.service firewalld.service ufw.service\n\n"
		"[Service]\n",
		plan->spec->name);
	if (plan->netns) {
		fputs("NetworkNamespacePath=/run/netns/", out);
		put_word(out, plan->netns);
		fputc('\n', out);
	}
}

int plan_systemd(const struct plan_systemd *plan, FILE *out, struct failure *why)
{
	bool ours = plan_systemd_is_ours(plan->command);
	char options[8192];

	if (plan->spec->confirm_ms)
		return report_refuse(why,
				     "plan --format systemd: --confirm-within: nobody confirms at "
				     "boot");
	if (!*spec_text_options(plan->spec, options, sizeof(options)))
		return report_refuse(why, "plan --format systemd: a list is too long for a command "
					  "line; use `nft` and `ip`");
	if (plan->netns && strspn(plan->netns, "0123456789") == strlen(plan->netns))
		return report_refuse(why,
				     "plan --format systemd: --netns %s: a process does not last "
				     "for ever; use a namespace that has a name",
				     plan->netns);
	if (ours && check_paths(plan->command, why))
		return -1;
	put_head(out, plan);
	if (ours)
		put_ours(out, plan, options);
	else if (plan->command)
		put_run(out, plan, options);
	else
		put_up(out, plan, options);
	fputs("\n[Install]\nWantedBy=multi-user.target\n", out);
	return 0;
}
