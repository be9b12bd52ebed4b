/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/export/snapshot.h"

#include "base/clock.h"
#include "firewall/drift.h"
#include "intercept/names.h"
#include "tproxy-inspect/export/relay_census.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct state {
	struct names names; /* of the instances */
	struct drift *drifts;
	size_t instances;
	struct relay_census census;
	const struct examiner_results *doctor;
	json_t *reasons; /* NULL: no memory, so that nothing is healthy */
};

/* ---- reasons ---- */

/* One more, as an object of json_pack(). */
static void add_reason(struct state *s, json_t *reason)
{
	if (s->reasons && (!reason || json_array_append_new(s->reasons, reason) < 0)) {
		json_decref(s->reasons);
		s->reasons = NULL;
	}
}

/* What cannot be read at all. */
static void add_failure(struct state *s, const char *type, const struct failure *why)
{
	char text[512];

	report_text(why, text, sizeof(text));
	add_reason(s, json_pack("{s:s,s:s}", "type", type, "evidence", text));
}

static void judge_instance(struct state *s, const char *name, const struct drift *d)
{
	if (d->view.rules.ending)
		add_reason(s, json_pack("{s:s,s:s,s:s}", "type", "instance", "instance", name,
					"state", "ending"));
	for (size_t i = 0; i < d->parts; i++)
		if (d->part[i].state != DRIFT_PRESENT)
			add_reason(s, json_pack("{s:s,s:s,s:s,s:s,s:s}", "type", "instance",
						"instance", name, "check", d->part[i].check,
						"state", drift_word(d->part[i].state), "evidence",
						d->part[i].evidence));
}

static void judge_relay(struct state *s, const struct relay_census_entry *r)
{
	if (relay_census_is_well(r))
		return;
	if (r->known) {
		add_reason(s, json_pack("{s:s,s:s,s:s}", "type", "relay", "relay", r->id, "state",
					r->state));
	} else {
		char text[512];

		report_text(&r->why, text, sizeof(text));
		add_reason(s, json_pack("{s:s,s:s,s:s}", "type", "relay", "relay", r->id,
					"evidence", text));
	}
}

/* A machine that intercepts nothing and relays nothing does not do what it is there for. */
static void judge(struct state *s)
{
	for (size_t i = 0; i < s->instances; i++)
		judge_instance(s, s->names.at[i], &s->drifts[i]);
	for (size_t i = 0; i < s->census.count; i++)
		judge_relay(s, &s->census.at[i]);
	if (!s->instances && !s->census.count && s->reasons && !json_array_size(s->reasons))
		add_reason(s, json_pack("{s:s,s:s}", "type", "nothing", "evidence",
					"no instance is installed, and no relay runs"));
}

static bool is_healthy(const struct state *s)
{
	return s->reasons && !json_array_size(s->reasons);
}

/* ---- reading ---- */

/* An instance that was removed since its name was read is none. */
static int read_instance(struct state *s, struct instance *kernel, size_t at, struct failure *why)
{
	struct drift *d = &s->drifts[s->instances];
	int err = drift_look(kernel, s->names.at[at], NULL, d, why);

	if (err || !d->view.rules.present) {
		drift_free(d);
		return err;
	}
	if (at != s->instances)
		memcpy(s->names.at[s->instances], s->names.at[at], sizeof(*s->names.at));
	s->instances++;
	return 0;
}

static int read_all(struct state *s, struct instance *kernel, struct failure *why)
{
	if (names_read(kernel, &s->names, why))
		return -1;
	s->drifts = calloc(s->names.count + 1, sizeof(*s->drifts));
	if (!s->drifts)
		return report_fail(why, ENOMEM, "calloc", "instances");
	for (size_t i = 0; i < s->names.count; i++)
		if (read_instance(s, kernel, i, why))
			return -1;
	return 0;
}

/* (Opened anew each time, so that no failure outlasts its cause.) */
static void read_instances(struct state *s)
{
	struct instance kernel;
	struct failure why = { 0 };

	if (instance_open(&kernel, &why)) {
		add_failure(s, "instances", &why);
		return;
	}
	if (read_all(s, &kernel, &why))
		add_failure(s, "instances", &why);
	instance_close(&kernel);
}

static void read_relays(struct state *s)
{
	struct failure why = { 0 };

	if (relay_census_take(&s->census, &why))
		add_failure(s, "relays", &why);
}

static void free_state(struct state *s)
{
	for (size_t i = 0; i < s->instances; i++)
		drift_free(&s->drifts[i]);
	free(s->drifts);
	names_free(&s->names);
	relay_census_free(&s->census);
	json_decref(s->reasons);
}

/* ---- metrics ---- */

static uint64_t is_intact(const struct drift *d)
{
	return d->intact;
}

static uint64_t is_served(const struct drift *d)
{
	return d->served;
}

static uint64_t is_ending(const struct drift *d)
{
	return d->view.rules.ending;
}

static void print_flags(FILE *out, enum relay_stats_format format, const struct state *s)
{
	static const struct {
		const char *family, *help;
		uint64_t (*value)(const struct drift *d);
	} flags[] = {
		{ "tproxy_instance_intact", "1 if rules and routes are as installed, else 0.",
		  is_intact },
		{ "tproxy_instance_served",
		  "1 if a transparent listener serves everything intercepted, else 0.", is_served },
		{ "tproxy_instance_ending", "1 while `tproxy-setup down' drains it, else 0.",
		  is_ending },
	};

	for (size_t f = 0; f < sizeof(flags) / sizeof(*flags); f++) {
		relay_stats_print_head(out, format, flags[f].family, "gauge", flags[f].help);
		for (size_t i = 0; i < s->instances; i++)
			fprintf(out, "%s{name=\"%s\"} %llu\n", flags[f].family, s->names.at[i],
				(unsigned long long)flags[f].value(&s->drifts[i]));
	}
}

/* Parts with the same name, as of several strays, are one sample. */
static bool is_first(const struct drift *d, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (d->part[i].state == d->part[at].state &&
		    strcmp(d->part[i].check, d->part[at].check) == 0)
			return false;
	return true;
}

static void print_failures(FILE *out, enum relay_stats_format format, const struct state *s)
{
	relay_stats_print_head(out, format, "tproxy_instance_failure", "gauge",
			       "1 for each part of `tproxy-setup status' that is not present.");
	for (size_t i = 0; i < s->instances; i++)
		for (size_t p = 0; p < s->drifts[i].parts; p++) {
			const struct drift_part *part = &s->drifts[i].part[p];

			if (part->state != DRIFT_PRESENT && is_first(&s->drifts[i], p))
				fprintf(out,
					"tproxy_instance_failure{name=\"%s\",check=\"%s\","
					"state=\"%s\"} 1\n",
					s->names.at[i], part->check, drift_word(part->state));
		}
}

static void print_counters(FILE *out, enum relay_stats_format format, const struct state *s)
{
	for (int bytes = 0; bytes < 2; bytes++) {
		const char *family = bytes ? "tproxy_instance_bytes" : "tproxy_instance_packets";

		relay_stats_print_head(out, format, family, "counter",
				       bytes ? "Bytes of the packets, by the instance's counter."
					     : "Packets, by the instance's counter.");
		for (size_t i = 0; i < s->instances; i++) {
			const struct nft_state *rules = &s->drifts[i].view.rules;

			for (unsigned c = 0; c < rules->counters; c++)
				fprintf(out, "%s_total{name=\"%s\",counter=\"%s\"} %llu\n", family,
					s->names.at[i], rules->counter[c].name,
					(unsigned long long)(bytes ? rules->counter[c].bytes
								   : rules->counter[c].packets));
		}
	}
}

static void print_relays(FILE *out, enum relay_stats_format format, const struct state *s)
{
	struct relay_stats *known = calloc(s->census.count + 1, sizeof(*known));
	size_t count = 0;

	relay_stats_print_head(out, format, "tproxy_relay_up", "gauge",
			       "1 if the relay has answered, else 0.");
	for (size_t i = 0; i < s->census.count; i++) {
		const struct relay_census_entry *r = &s->census.at[i];

		fprintf(out, "tproxy_relay_up{%s} %d\n", r->label, r->known);
		if (known && r->known)
			known[count++] = (struct relay_stats){ r->label, r->version, r->at };
	}
	if (known)
		relay_stats_print(out, format, known, count);
	free(known);
}

static void print_gauge(FILE *out, enum relay_stats_format format, const char *family,
			const char *help, uint64_t value)
{
	relay_stats_print_head(out, format, family, "gauge", help);
	fprintf(out, "%s %llu\n", family, (unsigned long long)value);
}

static void print_findings(FILE *out, const struct checkup *x)
{
	for (uint32_t i = 0; i < x->count; i++)
		fprintf(out,
			"tproxy_doctor_findings{name=\"%s\",check=\"%s\",severity=\"%s\"} %u\n",
			x->name, x->at[i].check, x->at[i].severity, (unsigned)x->at[i].number);
}

static void print_seconds(FILE *out, enum relay_stats_format format, const char *family,
			  const char *help, bool known, uint64_t ms)
{
	relay_stats_print_head(out, format, family, "gauge", help);
	if (known)
		fprintf(out, "%s %llu.%03u\n", family, (unsigned long long)(ms / 1000),
			(unsigned)(ms % 1000));
}

static void print_doctor(FILE *out, enum relay_stats_format format,
			 const struct examiner_results *doctor)
{
	relay_stats_print_head(out, format, "tproxy_doctor_findings", "gauge",
			       "What `tproxy-setup doctor' found, by check and severity.");
	for (size_t i = 0; i < doctor->count; i++)
		print_findings(out, &doctor->at[i]);
	relay_stats_print_head(out, format, "tproxy_doctor_up", "gauge",
			       "1 if the doctor could examine the instance, else 0.");
	for (size_t i = 0; i < doctor->count; i++)
		fprintf(out, "tproxy_doctor_up{name=\"%s\"} %d\n", doctor->at[i].name,
			doctor->at[i].answered);
	print_seconds(out, format, "tproxy_doctor_age_seconds",
		      "Time since the doctor was done with all instances.", doctor->known,
		      clock_ms() - doctor->ended);
	print_seconds(out, format, "tproxy_doctor_duration_seconds", "How long that took.",
		      doctor->known, doctor->took);
}

static void print_metrics(FILE *out, enum relay_stats_format format, const struct state *s)
{
	print_gauge(out, format, "tproxy_healthy", "1 if /healthz answers 200, else 0.",
		    is_healthy(s));
	print_gauge(out, format, "tproxy_instances", "Instances installed.", s->instances);
	print_flags(out, format, s);
	print_failures(out, format, s);
	print_counters(out, format, s);
	print_doctor(out, format, s->doctor);
	print_gauge(out, format, "tproxy_relays", "Relays that run.", s->census.count);
	print_gauge(out, format, "tproxy_relays_untrusted",
		    "Processes of other users that listen where relays do; they are not asked.",
		    s->census.untrusted);
	print_relays(out, format, s);
	if (format == RELAY_STATS_OPENMETRICS)
		fprintf(out, "# EOF\n");
}

/* ---- texts ---- */

/* NULL: no memory. */
static char *metrics_text(const struct state *s, enum relay_stats_format format, size_t *size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);
	bool failed;

	if (!out)
		return NULL;
	print_metrics(out, format, s);
	failed = ferror(out);
	if (fclose(out) == 0 && !failed)
		return text;
	free(text);
	*size = 0;
	return NULL;
}

static char *health_text(const struct state *s, size_t *size)
{
	json_t *object = s->reasons ? json_pack("{s:b,s:O}", "healthy", is_healthy(s), "reasons",
						s->reasons)
				    : NULL;
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	*size = text ? strlen(text) : 0;
	return text;
}

void snapshot_take(struct snapshot *s, const struct examiner_results *doctor)
{
	struct state state = { .reasons = json_array(), .doctor = doctor };

	*s = (struct snapshot){ 0 };
	read_instances(&state);
	read_relays(&state);
	judge(&state);
	s->healthy = is_healthy(&state);
	s->body[SNAPSHOT_TEXT] = metrics_text(&state, RELAY_STATS_TEXT, &s->size[SNAPSHOT_TEXT]);
	s->body[SNAPSHOT_OPENMETRICS] = metrics_text(&state, RELAY_STATS_OPENMETRICS,
						     &s->size[SNAPSHOT_OPENMETRICS]);
	s->body[SNAPSHOT_HEALTH] = health_text(&state, &s->size[SNAPSHOT_HEALTH]);
	free_state(&state);
}

void snapshot_free(struct snapshot *s)
{
	for (int i = 0; i < SNAPSHOT_BODIES; i++)
		free(s->body[i]);
	*s = (struct snapshot){ 0 };
}
