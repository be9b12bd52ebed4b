/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "intercept/nft_text.h"
#include <stdio.h>
#include <string.h>

/* As much text as a person reads in a line. */
#define PARTS_MAX 300

static const char AGAIN[] = "what was asked for is not done; nobody else's rules are the cause";

static void report_absent(struct doctor_context *x)
{
	const char *name = x->spec->name;

	if (x->asked)
		context_report_up(x, DOCTOR_FAIL, "nothing is intercepted until it is installed",
				  "", "instance `%s` is not installed", name);
	else
		context_report(x, DOCTOR_FAIL,
			       "nothing is intercepted; give a specification (tproxy-setup doctor "
			       "--to PORT ...) to have that checked",
			       "", "instance `%s` is not installed", name);
}

static void report_drift(struct doctor_context *x)
{
	char parts[PARTS_MAX];

	if (nft_drift(&x->view->rules, parts, sizeof(parts)))
		context_report_up(
			x, DOCTOR_FAIL,
			context_knows(x)
				? "somebody changed our rules after `up`, and they no longer do "
				  "what was asked for"
				: "somebody changed our rules and what is in our sets: install it "
				  "again with the same options",
			"", "table inet " NFT_TEXT_PREFIX "%s: %s", x->spec->name, parts);
}

static void report_state(struct doctor_context *x, const struct nft_state *rules)
{
	const char *name = x->spec->name;

	if (rules->dormant)
		context_report_up(
			x, DOCTOR_FAIL,
			"the kernel runs none of its rules, and everything bypasses the proxy", "",
			"table inet " NFT_TEXT_PREFIX "%s has flags dormant", name);
	if (rules->ending)
		context_report_up(x, DOCTOR_FAIL,
				  "relayed connections continue, but nothing new is intercepted: a "
				  "`tproxy-setup down` is running, or was killed",
				  "", "the interception of `%s` was ended by `down`", name);
	if (rules->lease == LEASE_EXPIRED)
		context_report_up(
			x, DOCTOR_FAIL,
			"nobody confirmed it in time, and interception has ended by itself", "",
			"--confirm-within of `%s` has expired", name);
}

/* The installed instance differs from the given specification. */
static void report_difference(struct doctor_context *x, const struct nft_state *rules)
{
	char text[600];

	if (x->asked && rules->readable &&
	    spec_text_diff(&rules->spec, x->spec, text, sizeof(text)))
		context_report_up(x, DOCTOR_FAIL, AGAIN, "",
				  "instance `%s` is installed with other options: %s",
				  x->spec->name, text);
}

void check_installed(struct doctor_context *x)
{
	const struct nft_state *rules = &x->view->rules;

	if (!rules->present) {
		report_absent(x);
		return;
	}
	if (!rules->readable || !rules->checksummed)
		context_report_up(x, DOCTOR_FAIL,
				  "the specification cannot be read any more: install it again "
				  "with the same options",
				  "", "table inet " NFT_TEXT_PREFIX "%s is not as `up` leaves it",
				  x->spec->name);
	report_state(x, rules);
	report_drift(x);
	report_difference(x, rules);
	context_ok(x, "table inet " NFT_TEXT_PREFIX "%s is as it was installed", x->spec->name);
}
