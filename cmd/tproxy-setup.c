/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-setup - configure the kernel to deliver other hosts' connections to a local listener; show
 * that configuration; remove it.
 */
#include "base/options.h"
#include "base/record_table.h"
#include "base/report.h"
#include "intercept/field.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include "intercept/names.h"
#include "intercept/nft_text.h"
#include "intercept/spec_check.h"
#include "net/listening.h"
#include "net/netns.h"
#include "tproxy-setup/become.h"
#include "tproxy-setup/conf.h"
#include "tproxy-setup/doctor/doctor.h"
#include "tproxy-setup/install.h"
#include "tproxy-setup/keep.h"
#include "tproxy-setup/plan.h"
#include "tproxy-setup/plan_firewall.h"
#include "tproxy-setup/plan_systemd.h"
#include "tproxy-setup/removal.h"
#include "tproxy-setup/status.h"
#include "tproxy-setup/supervise.h"
#include "tproxy-setup/waiting.h"
#include <errno.h>
#include <linux/netfilter.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum command { UP, DOWN, STATUS, PLAN, RUN, KEEP, DOCTOR, CONFIRM, EXEC };

#define ON_UP	  (1U << UP)
#define ON_DOWN	  (1U << DOWN)
#define ON_STATUS (1U << STATUS)
#define ON_PLAN	  (1U << PLAN)
#define ON_RUN	  (1U << RUN)
#define ON_KEEP	  (1U << KEEP)
#define ON_DOCTOR (1U << DOCTOR)
#define ON_EXEC	  (1U << EXEC)
#define ON_SPEC	  (ON_UP | ON_STATUS | ON_PLAN | ON_RUN | ON_KEEP | ON_DOCTOR)

/* Time for connections to finish after a command under `run` has ended. */
#define RUN_DRAIN_MS 30000

enum format {
	FORMAT_NFT,
	FORMAT_IP,
	FORMAT_IPTABLES,
	FORMAT_JSON,
	FORMAT_SYSTEMD,
	FORMAT_FIREWALLD,
	FORMAT_UFW,
	FORMAT_FW4,
};

/* The parsed command line. */
struct setup {
	struct options_common common;
	struct record_style style;
	struct intercept spec;
	const char *netns;
	const char *conf; /* the file with the specification */
	int format;	  /* enum format */
	uint64_t drain_ms;
	bool all;
	bool named;			    /* a name was given */
	bool reject;			    /* --no-listener reject was given */
	bool has_spec;			    /* more than a name was given */
	const volatile sig_atomic_t *hurry; /* `run`: set when there is no time to drain */
	char **command;			    /* `run` */
};

/* --- options ---------------------------------------------------------------------------------- */

/* intercept/field.c has the options that make up a specification; ours come before and after
 * them. */
static const struct option_spec what_else[] = {
	OPTIONS_TCP_UDP_OF(ON_SPEC, struct setup, common),
	OPTION_HEADING("How:"),
	OPTION_END,
};

static const struct option_spec the_rest[] = {
	OPTION("netns", 0, "NAME|PID", "act in that network namespace (this one)", option_text,
	       struct setup, netns),
	OPTION_OF(ON_SPEC | ON_EXEC, "conf", 0, "FILE",
		  "the options are in FILE, as for tproxy@NAME.service;\n"
		  "its name without .conf is the instance's",
		  option_text, struct setup, conf),
	OPTION_HEADING("Per command:"),
	OPTION_OF(ON_DOWN | ON_RUN, "drain", 0, "T",
		  "how long relayed connections may finish before they are\n"
		  "reset (down: 0, run: 30s)",
		  option_duration, struct setup, drain_ms),
	OPTION_OF(ON_UP | ON_PLAN, "confirm-within", 0, "T",
		  "interception ends by itself, in the kernel, unless\n"
		  "`tproxy-setup confirm` is run in time",
		  option_duration, struct setup, spec.confirm_ms),
	OPTION_OF(ON_DOWN, "all", 0, NULL, "every instance", option_flag, struct setup, all),
	OPTION_OF(ON_PLAN, "format", 0, "nft|ip|iptables|json|systemd|firewalld|ufw|fw4",
		  "for which tool (nft); the last three: what makes that\n"
		  "firewall accept intercepted packets for good",
		  option_choice, struct setup, format),
	RECORD_TABLE_OPTIONS_OF(ON_STATUS | ON_DOCTOR, struct setup, style),
	OPTIONS_COMMON_OF(ON_SPEC, ON_STATUS | ON_DOCTOR | ON_PLAN, struct setup, common),
	OPTION_END,
};

/* In the order of --help. */
static struct option_spec option_table[OPTIONS_MAX] = { OPTION_HEADING("What to intercept:") };

static void add_rows(const struct option_spec *rows)
{
	size_t used = 0;

	while (option_table[used].name)
		used++;
	while (rows->name)
		option_table[used++] = *rows++;
}

static void add_fields(bool how)
{
	for (size_t i = 0; i < field_count; i++) {
		const struct field *f = &field_table[i];
		const struct option_spec row[] = {
			{ f->name, f->letter, f->arg, f->help, f->kind->set,
			  offsetof(struct setup, spec) + f->offset,
			  f->traits & FIELD_IDENTITY ? 0 : ON_SPEC },
			OPTION_END,
		};

		if (f->kind->set && !!(f->traits & FIELD_HOW) == how)
			add_rows(row);
	}
}

static void make_option_table(void)
{
	add_fields(false);
	add_rows(what_else);
	add_fields(true);
	add_rows(the_rest);
}

static const struct option_command commands[] = {
	[UP] = { "up", "install; replace an instance of the same name" },
	[DOWN] = { "down", "remove the instance and nothing else; none is success" },
	[STATUS] = { "status", "what is intercepted, by whom, and if intact; -v: each part" },
	[PLAN] = { "plan", "print what `up` would do, change nothing" },
	[RUN] = { "run", "up, run a command, down when the command ends" },
	[KEEP] = { "keep", "up, and again whenever other programs change it" },
	[DOCTOR] = { "doctor", "what on this host would break it, with evidence and the fix" },
	[CONFIRM] = { "confirm", "make permanent what `up --confirm-within` installed" },
	[EXEC] = { "exec", "become the COMMAND of --conf, as tproxy@NAME.service does" },
	{ NULL, NULL },
};

static const struct option_conflict conflicts[] = {
	{ "name", "all" },
	{ "name", "conf" },
	{ NULL, NULL },
};

static const struct options_program program = {
	.name = "tproxy-setup",
	.summary = "Redirect other hosts' connections to a local listener, and undo it.",
	.usage = "tproxy-setup up --to [ADDR:]PORT [OPTION]...\n"
		 "tproxy-setup down [--name NAME | --all] [--drain T]\n"
		 "tproxy-setup status [--name NAME | OPTION...]\n"
		 "tproxy-setup plan --to [ADDR:]PORT [OPTION]... [--format FORMAT]\n"
		 "tproxy-setup doctor [--name NAME | OPTION...]\n"
		 "tproxy-setup confirm [--name NAME]\n"
		 "tproxy-setup run --to [ADDR:]PORT [OPTION]... -- COMMAND [ARG]...\n"
		 "tproxy-setup keep [--name NAME | OPTION...]\n"
		 "tproxy-setup exec --conf FILE",
	.commands = commands,
	.default_command = -1,
	.options = option_table,
	.conflicts = conflicts,
	.epilogue = "Examples:\n"
		    "  tproxy-setup up --to 3129 --port 80,443 --iif lan0\n"
		    "  tproxy-setup status\n"
		    "  tproxy-setup down --drain 30s\n"
		    "  tproxy-setup run --to 3129 --port 80 -- tproxy-relay 3129\n"
		    "\n"
		    "See tproxy-setup(8), tproxy-tools(7).",
};

/* --- up --------------------------------------------------------------------------------------- */

static void warn_about_devices(const struct intercept *spec)
{
	for (unsigned i = 0; i < spec->devices; i++)
		if (!strchr(spec->device[i], '*') && !if_nametoindex(spec->device[i]))
			report_warning("--iif %s: no such interface yet", spec->device[i]);
}

/* "It silently does nothing" is the most common problem of users. */
static int warn_about(int protocol, const struct endpoint *to, const struct listening_state *state,
		      void *context)
{
	static const char *const words[] = {
		[NO_LISTENER_REJECT] = "are rejected",
		[NO_LISTENER_DROP] = "are dropped",
		[NO_LISTENER_PASS] = "pass by",
	};
	const struct intercept *spec = context;
	const char *meanwhile = words[spec->no_listener];
	char text[ENDPOINT_TEXT_MAX];

	endpoint_format(to, text);
	if (!state->count)
		report_notice("%s: nobody listens there yet%s; connections %s", text,
			      protocol == IPPROTO_UDP ? " (UDP)" : "", meanwhile);
	else if (state->nontransparent)
		report_warning("%s: the listener is not transparent (IP_TRANSPARENT); connections "
			       "%s",
			       text, meanwhile);
	return 0;
}

static sa_family_t demanded_family(const struct setup *setup)
{
	if (setup->common.ipv4 == setup->common.ipv6)
		return AF_UNSPEC;
	return setup->common.ipv4 ? AF_INET : AF_INET6;
}

/* Addresses of one family do not affect the other one, which not everybody expects. */
static void tell_family(const struct setup *setup)
{
	const struct intercept *spec = &setup->spec;
	sa_family_t missing = spec->ipv4 ? AF_INET6 : AF_INET;

	if (setup->common.ipv4 || setup->common.ipv6 || (spec->ipv4 && spec->ipv6))
		return;
	if ((spec->src.count && !endpoint_cidrs_have(&spec->src, missing)) ||
	    (spec->dst.count && !endpoint_cidrs_have(&spec->dst, missing)))
		report_notice("%s is not intercepted: --src or --dst has no address of that family",
			      spec->ipv4 ? "IPv6" : "IPv4");
}

static int decide(struct instance *kernel, struct setup *setup, struct failure *why)
{
	char notice[INSTALL_NOTICE_MAX];

	if (install_decide(kernel, &setup->spec, demanded_family(setup), notice, why))
		return -1;
	if (notice[0])
		report_notice("%s", notice);
	return 0;
}

static int up(struct instance *kernel, struct setup *setup, struct failure *why)
{
	static const char *const outcomes[] = {
		[INSTALL_UNCHANGED] = "already in place",
		[INSTALL_NEW] = "installed",
		[INSTALL_REPLACED] = "replaced",
	};
	enum install_outcome outcome;

	if (decide(kernel, setup, why) || install_up(kernel, &setup->spec, &outcome, why))
		return -1;
	report_verbose(1, "%s: %s", setup->spec.name, outcomes[outcome]);
	tell_family(setup);
	warn_about_devices(&setup->spec);
	instance_each_listener(&setup->spec, warn_about, &setup->spec, NULL);
	return STATUS_DONE;
}

/* --- keep ------------------------------------------------------------------------------------- */

/* Without options it is what is installed, also if others have changed parts of it. */
static int read_installed(struct instance *kernel, struct intercept *spec, struct failure *why)
{
	struct instance_view view;
	struct intercept typed = *spec;
	int err = instance_look(kernel, spec->name, NULL, true, &view, why);
	bool present = !err && view.rules.present && view.rules.readable;
	bool probation = present &&
			 (view.rules.lease == LEASE_PENDING || view.rules.lease == LEASE_EXPIRED);

	if (probation) {
		report_error("%s: not confirmed; it would never end by itself if it were kept",
			     spec->name);
	} else if (present) {
		*spec = view.rules.spec;
		view.rules.spec = typed;
	} else if (!err) {
		report_error("%s: not installed; what is to be kept?", spec->name);
	}
	instance_view_free(&view);
	return err ? -1 : present && !probation ? STATUS_DONE : STATUS_NO;
}

/* `up` drops what cannot be used here now, and may be later. If it fails, that is tried again, and
 * told, like any later failure. */
static int keep_specified(struct instance *kernel, struct setup *setup, struct failure *why)
{
	struct intercept wish;
	int err = intercept_copy(&wish, &setup->spec, why);

	if (!err) {
		bool is_up = up(kernel, setup, why) == STATUS_DONE;

		err = keep_run(&wish, is_up ? &setup->spec : NULL, demanded_family(setup), why);
	}
	intercept_free(&wish);
	return err ? -1 : STATUS_DONE;
}

static int keep_installed(struct instance *kernel, struct setup *setup, struct failure *why)
{
	int result;

	if (setup->has_spec)
		return keep_specified(kernel, setup, why);
	result = read_installed(kernel, &setup->spec, why);
	if (result != STATUS_DONE)
		return result;
	return keep_run(&setup->spec, &setup->spec, AF_UNSPEC, why) ? -1 : STATUS_DONE;
}

/* --- down ------------------------------------------------------------------------------------- */

/* The user may have meant another name. */
static void tell_absence(struct instance *kernel, const char *name, bool named)
{
	struct names names;
	char text[512];

	if (!names_read(kernel, &names, NULL) && named)
		report_notice("%s: was not installed; %s", name,
			      names_text(&names, text, sizeof(text)));
	else
		report_verbose(1, "%s: was not installed", name);
	names_free(&names);
}

static void tell_removal(struct instance *kernel, const char *name, bool named,
			 const struct removal *removal)
{
	char reason[512];

	if (removal->drain.replaced)
		report_notice("%s: was installed again in the meantime, and is left there", name);
	else if (!removal->found)
		tell_absence(kernel, name, named);
	else
		report_verbose(1, "%s: removed", name);
	if (removal->drain.destroyed)
		report_notice("%s: %zu connection%s reset", name, removal->drain.destroyed,
			      removal->drain.destroyed == 1 ? " was" : "s were");
	if (removal->drain.kept)
		report_warning("%s: %zu socket%s could not be reset (%s); their connections will "
			       "hang until they time out",
			       name, removal->drain.kept, removal->drain.kept == 1 ? "" : "s",
			       report_text(&removal->drain.why, reason, sizeof(reason)));
}

/* Rules from `plan --format iptables`: to `down` they are other programs' rules. */
static void tell_planned(struct instance *kernel, const char *name)
{
	static const uint8_t families[] = { NFPROTO_IPV4, NFPROTO_IPV6 };
	char chain[INTERCEPT_NAME_MAX + 16];

	snprintf(chain, sizeof(chain), "tproxy_%s_div", name);
	for (int i = 0; i < 2; i++)
		if (nft_has_chain(kernel->rules, families[i], "mangle", chain))
			report_warning("%s: rules of a plan for iptables are left (%s -t mangle, "
				       "%s); the same plan shows how to undo them",
				       name, i ? "ip6tables" : "iptables", chain);
}

static int down_one(struct instance *kernel, const struct setup *setup, const char *name,
		    struct failure *why)
{
	struct removal removal;

	if (removal_run(kernel, name, setup->drain_ms, setup->hurry, &removal, why))
		return -1;
	tell_removal(kernel, name, setup->named, &removal);
	tell_planned(kernel, name);
	return STATUS_DONE;
}

static int down(struct instance *kernel, struct setup *setup, struct failure *why)
{
	struct names names = { 0 };
	int err = 0;

	if (!setup->all)
		return down_one(kernel, setup, setup->spec.name, why);
	err = names_read(kernel, &names, why);
	for (size_t i = 0; !err && i < names.count; i++)
		err = down_one(kernel, setup, names.at[i], why);
	/* Also remove what a flushed rule set left behind: routing that belongs to no instance. */
	if (!err && !names.count)
		err = down_one(kernel, setup, setup->spec.name, why);
	names_free(&names);
	return err;
}

/* --- confirm ---------------------------------------------------------------------------------- */

static int confirm(struct instance *kernel, struct setup *setup, struct failure *why)
{
	enum nft_lease lease;

	if (install_confirm(kernel, setup->spec.name, &lease, why))
		return -1;
	if (lease == LEASE_PENDING)
		return STATUS_DONE;
	if (lease == LEASE_EXPIRED)
		report_error("%s: too late, interception has ended; put it in place again with "
			     "`tproxy-setup up`",
			     setup->spec.name);
	else
		report_error("%s: nothing waits for confirmation", setup->spec.name);
	return STATUS_NO;
}

/* --- status ----------------------------------------------------------------------------------- */

static int status(struct instance *kernel, struct setup *setup, struct failure *why)
{
	const struct status_question question = {
		.name = setup->named || setup->has_spec ? setup->spec.name : NULL,
		.asked = setup->has_spec ? &setup->spec : NULL,
		.style = &setup->style,
		.parts = report_verbosity() > 0 || setup->style.columns,
	};

	setup->style.json = setup->common.json;
	if (setup->has_spec && decide(kernel, setup, why))
		return -1;
	return status_print(kernel, &question, why);
}

/* --- plan ------------------------------------------------------------------------------------- */

static int print_nft(const struct intercept *spec, struct failure *why)
{
	char *text = nft_text_install(spec, why);

	if (!text)
		return -1;
	fputs(text, stdout);
	free(text);
	return 0;
}

/* The unit names the binary that printed it. */
static int print_unit(const struct setup *setup, struct failure *why)
{
	char self[4096];
	const struct plan_systemd plan = { &setup->spec, self, setup->netns, setup->command };
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	snprintf(self + (length > 0 ? length : 0), sizeof(self) - (length > 0 ? (size_t)length : 0),
		 "%s", length > 0 ? "" : "/usr/sbin/tproxy-setup");
	return plan_systemd(&plan, stdout, why);
}

static int print_firewall(const struct setup *setup, enum plan_firewall_tool tool,
			  struct failure *why)
{
	if (plan_firewall(&setup->spec, tool, stdout, why))
		return options_misuse(&program, "%s", why->detail);
	return 0;
}

static int plan(struct instance *kernel, struct setup *setup, struct failure *why)
{
	int err = 0;

	if (decide(kernel, setup, why))
		return -1;
	if (setup->common.json)
		setup->format = FORMAT_JSON;
	switch ((enum format)setup->format) {
	case FORMAT_NFT:
		err = print_nft(&setup->spec, why);
		break;
	case FORMAT_IP:
		if (plan_ip(&setup->spec, stdout, why))
			return options_misuse(&program, "%s", why->detail);
		break;
	case FORMAT_IPTABLES:
		if (plan_iptables(&setup->spec, setup->reject, stdout, why))
			return options_misuse(&program, "%s", why->detail);
		break;
	case FORMAT_JSON:
		err = plan_json(&setup->spec, stdout, why);
		break;
	case FORMAT_SYSTEMD:
		if (print_unit(setup, why))
			return options_misuse(&program, "%s", why->detail);
		break;
	case FORMAT_FIREWALLD:
		return print_firewall(setup, PLAN_FIREWALLD, why);
	case FORMAT_UFW:
		return print_firewall(setup, PLAN_FIREWALL_UFW, why);
	case FORMAT_FW4:
		return print_firewall(setup, PLAN_FIREWALL_FW4, why);
	}
	return err ? -1 : STATUS_DONE;
}

/* --- run -------------------------------------------------------------------------------------- */

/* The supervisor opens its own channels for each action: those from before the fork would be shared
 * with the parent. */
static int keep(int (*act)(struct instance *kernel, struct setup *setup, struct failure *why),
		struct setup *setup)
{
	struct instance kernel;
	struct failure why;
	int err = instance_open(&kernel, &why);

	if (!err)
		err = act(&kernel, setup, &why);
	instance_close(&kernel);
	if (err < 0)
		report_failure(&why, STATUS_WRAPPER);
	return err < 0 ? -1 : 0;
}

static int ready(void *context)
{
	struct setup *setup = context;
	struct failure why;
	int result = instance_ready(&setup->spec, &why);

	if (result < 0)
		report_failure(&why, STATUS_WRAPPER);
	return result;
}

static void describe(void *context, pid_t root, char *buf, size_t size)
{
	const struct setup *setup = context;
	char text[WAITING_TEXT_MAX];

	snprintf(buf, size, "%s", waiting_describe(&setup->spec, root, text));
}

static bool left_behind(void *context, pid_t root)
{
	const struct setup *setup = context;

	return waiting_is_served(&setup->spec, root);
}

static int install(void *context)
{
	return keep(up, context);
}

static int end(struct instance *kernel, struct setup *setup, struct failure *why)
{
	return removal_end_interception(kernel, setup->spec.name, setup->drain_ms, why);
}

static int end_interception(void *context)
{
	return keep(end, context);
}

static int remove_all(void *context, const volatile sig_atomic_t *hurry)
{
	struct setup *setup = context;

	setup->hurry = hurry;
	return keep(down, setup);
}

static int check_run(struct instance *kernel, struct setup *setup, struct failure *why)
{
	struct nft_state state;
	char *text;
	int err;

	if (decide(kernel, setup, why) ||
	    nft_read(kernel->rules, setup->spec.name, false, &state, why))
		return -1;
	nft_state_free(&state);
	if (state.present) {
		report_refuse(why,
			      "instance `%s` is installed already, and would be removed when "
			      "the command ends",
			      setup->spec.name);
		return report_hint(why, "tproxy-setup down --name %s, or another --name",
				   setup->spec.name);
	}
	text = nft_text_install(&setup->spec, why);
	err = text ? nft_check(kernel->rules, text, why) : -1;
	free(text);
	return err;
}

static int run(struct setup *setup)
{
	const struct supervise_work work = { .ready = ready,
					     .describe = describe,
					     .left = left_behind,
					     .install = install,
					     .end = end_interception,
					     .remove = remove_all,
					     .context = setup };

	if (keep(check_run, setup))
		return STATUS_WRAPPER;
	return supervise_run(setup->command, &work);
}

/* --- doctor ----------------------------------------------------------------------------------- */

#define DIAGNOSIS_TEXT_MAX 4096

struct diagnosis {
	struct record_table table;
	const char *name;
	unsigned count[DOCTOR_FAIL + 1];
	bool json;
	char told[DIAGNOSIS_TEXT_MAX]; /* the last explanation printed, and its fix */
};

/* A row has room for one text; a person wants to know the rest, too. What consecutive findings have
 * in common is printed once. */
static void explain(struct diagnosis *d, const struct doctor_finding *finding)
{
	char text[DIAGNOSIS_TEXT_MAX];

	snprintf(text, sizeof(text), "%s\n%s", finding->why, finding->fix);
	if (!strcmp(text, d->told))
		return;
	snprintf(d->told, sizeof(d->told), "%s", text);
	record_table_flush(&d->table);
	report_notice("%s: %s", finding->check, finding->why);
	if (*finding->fix)
		report_notice("%s: fix: %s", finding->check, finding->fix);
}

static void put_finding(const struct doctor_finding *finding, void *context)
{
	struct diagnosis *d = context;
	struct record r;

	record_begin(&r, "check");
	record_text(&r, RECORD_INSTANCE, d->name);
	record_text(&r, RECORD_CHECK, finding->check);
	record_text(&r, RECORD_SEVERITY, doctor_severity_name(finding->severity));
	record_text(&r, RECORD_EVIDENCE, finding->evidence);
	record_text(&r, RECORD_FIX, finding->fix);
	record_text(&r, RECORD_WHY, finding->why);
	d->count[finding->severity]++;
	if (finding->severity == DOCTOR_OK && !d->json && report_verbosity() < 1)
		return;
	record_table_put(&d->table, &r);
	if (finding->severity != DOCTOR_OK && !d->json)
		explain(d, finding);
}

/* Without options the input is the installed instance. */
static void choose_spec(struct setup *setup, struct instance_view *view)
{
	struct intercept typed = setup->spec;

	if (setup->has_spec)
		return;
	if (view->rules.present && view->rules.readable) {
		setup->spec = view->rules.spec;
		view->rules.spec = typed;
		return;
	}
	/* Examine what the specification leaves out, too. */
	setup->spec.ipv4 = route_family_usable(AF_INET);
	setup->spec.ipv6 = route_family_usable(AF_INET6);
}

static void summarize(const struct diagnosis *d)
{
	unsigned bad = d->count[DOCTOR_FAIL], odd = d->count[DOCTOR_WARN],
		 fine = d->count[DOCTOR_OK];

	if (bad)
		report_notice(
			"%s: %u thing%s break%s it, %u more to know, %u check%s found nothing",
			d->name, bad, bad == 1 ? "" : "s", bad == 1 ? "s" : "", odd, fine,
			fine == 1 ? "" : "s");
	else
		report_notice("%s: nothing breaks it, %u thing%s to know, %u check%s found nothing",
			      d->name, odd, odd == 1 ? "" : "s", fine, fine == 1 ? "" : "s");
}

static int diagnose(struct instance *kernel, struct setup *setup, struct diagnosis *d,
		    struct failure *why)
{
	struct instance_view view = { 0 };
	const struct doctor_input input = { kernel, &setup->spec, setup->has_spec, &view };
	int err = setup->has_spec ? decide(kernel, setup, why) : 0;

	if (!err)
		err = instance_look(kernel, setup->spec.name, setup->has_spec ? &setup->spec : NULL,
				    true, &view, why);
	if (!err) {
		choose_spec(setup, &view);
		err = doctor_run(&input, put_finding, d, why);
	}
	instance_view_free(&view);
	return err;
}

static int doctor(struct instance *kernel, struct setup *setup, struct failure *why)
{
	static const enum record_field columns[] = { RECORD_SEVERITY, RECORD_CHECK,
						     RECORD_EVIDENCE };
	struct diagnosis d = { .name = setup->spec.name, .json = setup->common.json };
	int err;

	setup->style.json = setup->common.json;
	if (record_table_init(&d.table, &setup->style, columns, sizeof(columns) / sizeof(*columns),
			      RECORD_BIT(RECORD_INSTANCE) | RECORD_BIT(RECORD_WHY) |
				      RECORD_BIT(RECORD_FIX),
			      why))
		return report_failure(why, STATUS_USAGE);
	record_table_fit(&d.table);
	err = diagnose(kernel, setup, &d, why);
	record_table_end(&d.table);
	if (err)
		return -1;
	if (!d.json)
		summarize(&d);
	return d.count[DOCTOR_FAIL] ? STATUS_NO : STATUS_DONE;
}

/* --- the story -------------------------------------------------------------------------------- */

static bool is_field(const struct option_spec *o)
{
	size_t begin = offsetof(struct setup, spec);

	return o->set && o->commands == ON_SPEC && o->offset >= begin &&
	       o->offset < begin + sizeof(struct intercept);
}

/* More than a name was given: the options that make up a specification. */
static bool has_spec(const struct options_rest *rest)
{
	for (const struct option_spec *o = option_table; o->name; o++)
		if (is_field(o) && options_given(&program, rest, o->name))
			return true;
	return false;
}

/* Refuse what a file cannot contain: its name is the instance's, systemd has namespaces, and nobody
 * confirms at boot. */
static int check_file(const struct options_file *file, const struct options_rest *rest)
{
	static const char *const absent[] = { "name", "netns", "confirm-within", "conf" };

	for (size_t i = 0; i < sizeof(absent) / sizeof(*absent); i++)
		if (options_given(&program, rest, absent[i]))
			return options_misuse(&program, "--%s: not in a file", absent[i]);
	return OPTIONS_GO_ON;
}

/* /etc/tproxy/web.conf is the file of instance `web`. */
static int name_after(struct setup *setup, struct failure *why)
{
	const char *slash = strrchr(setup->conf, '/'), *base = slash ? slash + 1 : setup->conf;
	size_t length = strlen(base), suffix = strlen(".conf");
	char name[INTERCEPT_NAME_MAX + 2];

	if (length > suffix && !strcmp(base + length - suffix, ".conf"))
		length -= suffix;
	snprintf(name, sizeof(name), "%.*s", (int)length, base);
	if (!intercept_set_name(&setup->spec, name, why))
		return 0;
	report_about(why, "--conf %s", setup->conf);
	return -1;
}

/* Read the specification from --conf, and the command, for subcommands that take one. */
static int read_conf(struct setup *setup, struct conf *conf, struct options_rest *rest)
{
	static struct options_file file; /* later messages name it */
	struct options_rest inside = { .command = UP };
	struct failure why = { 0 };
	int status;

	if (!setup->conf)
		return rest->command == EXEC ? options_misuse(&program, "exec: --conf is missing")
					     : OPTIONS_GO_ON;
	if (has_spec(rest))
		return options_misuse(&program, "--conf: the file has the options of `up`; leave "
						"out the others");
	if (name_after(setup, &why) || conf_read(setup->conf, conf, &why))
		return report_failure(&why, STATUS_USAGE);
	file = (struct options_file){ setup->conf, UP, conf->setup.count, conf->setup.at,
				      conf->setup.line };
	status = options_parse_file(&program, &file, setup, &inside);
	if (status == OPTIONS_GO_ON)
		status = check_file(&file, &inside);
	for (size_t i = 0; i < sizeof(inside.given) / sizeof(*inside.given); i++)
		rest->given[i] |= inside.given[i];
	if (conf->command.count > 1 && !rest->wrapped &&
	    (rest->command == RUN || (rest->command == PLAN && setup->format == FORMAT_SYSTEMD)))
		rest->wrapped = conf->command.at + 1;
	return status;
}

static int check(struct setup *setup, const struct options_rest *rest)
{
	bool takes_spec = rest->command != DOWN && rest->command != CONFIRM &&
			  ((rest->command != STATUS && rest->command != DOCTOR &&
			    rest->command != KEEP) ||
			   has_spec(rest));
	struct failure why;

	if (rest->count && rest->command == RUN && !rest->wrapped)
		return options_misuse(&program,
				      "`%s` is not understood here; put -- before the command",
				      rest->operands[0]);
	if (rest->count)
		return options_misuse(&program, "`%s` is not understood here", rest->operands[0]);
	if (rest->wrapped && rest->command != RUN &&
	    !(rest->command == PLAN && setup->format == FORMAT_SYSTEMD))
		return options_misuse(&program, "a command after -- is not understood here");
	if (rest->command == RUN && (!rest->wrapped || !*rest->wrapped))
		return options_misuse(&program, "run: a command after -- is missing");
	if (rest->command == RUN && !options_given(&program, rest, "drain"))
		setup->drain_ms = RUN_DRAIN_MS;
	setup->command = rest->wrapped;
	setup->has_spec = takes_spec;
	setup->named = options_given(&program, rest, "name");
	setup->reject = options_given(&program, rest, "no-listener") &&
			setup->spec.no_listener == NO_LISTENER_REJECT;
	if (options_given(&program, rest, "confirm-within") && !setup->spec.confirm_ms)
		return options_misuse(&program, "--confirm-within 0: that would never intercept");
	setup->spec.tcp = options_wants_tcp(&setup->common);
	setup->spec.udp = options_wants_udp(&setup->common);
	if (takes_spec && spec_check(&setup->spec, setup->common.ipv4, setup->common.ipv6, &why))
		return options_misuse(&program, "%s", why.detail);
	return OPTIONS_GO_ON;
}

static int perform(struct setup *setup, int command)
{
	static int (*const verbs[])(struct instance *, struct setup *, struct failure *) = {
		[UP] = up,	   [DOWN] = down,	[STATUS] = status,	 [PLAN] = plan,
		[DOCTOR] = doctor, [CONFIRM] = confirm, [KEEP] = keep_installed,
	};
	struct instance kernel = { 0 };
	struct failure why = { 0 };
	int result = -1;

	if (setup->netns && netns_enter(setup->netns, &why))
		return report_failure(&why, command == RUN ? STATUS_WRAPPER : STATUS_REFUSED);
	if (command == RUN)
		return run(setup);
	/* A plan can be made without the right to install it. */
	if (!instance_open(&kernel, &why) || (command == PLAN && why.err == EPERM))
		result = verbs[command](&kernel, setup, &why);
	instance_close(&kernel);
	return result < 0 ? report_failure(&why, STATUS_REFUSED) : result;
}

int main(int argc, char **argv)
{
	struct setup setup = { 0 };
	char *no_command[] = { NULL };
	struct conf conf = { 0 };
	struct options_rest rest;
	int result;

	report_init("tproxy-setup");
	intercept_init(&setup.spec);
	make_option_table();
	result = options_parse(&program, argc, argv, &setup, &rest);
	if (result == OPTIONS_GO_ON)
		result = read_conf(&setup, &conf, &rest);
	if (result == OPTIONS_GO_ON)
		result = check(&setup, &rest);
	if (result == OPTIONS_GO_ON && rest.command == EXEC)
		result = become_command(conf.command.count ? conf.command.at + 1 : no_command);
	else if (result == OPTIONS_GO_ON)
		result = perform(&setup, rest.command);
	conf_free(&conf);
	intercept_free(&setup.spec);
	return report_close_stdout(result);
}
