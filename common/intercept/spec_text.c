/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/spec_text.h"

#include "base/quantity.h"
#include "base/shell.h"
#include "intercept/field.h"
#include "intercept/spec_check.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Version of the canonical text and of the rules made from it: increase it when either changes, so
 * that `up` replaces what an older version installed. */
#define TEXT_VERSION 1

/* Text that grows in a bounded buffer; what does not fit is cut. */
struct text {
	char *at;
	size_t size, used;
};

static void put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *text, const char *format, ...)
{
	va_list ap;
	int length;

	va_start(ap, format);
	length = vsnprintf(text->at + text->used, text->size - text->used, format, ap);
	va_end(ap);
	if (length > 0)
		text->used += (size_t)length;
	if (text->used >= text->size)
		text->used = text->size - 1;
}

const char *spec_text(const struct intercept *spec, char buf[INTERCEPT_TEXT_MAX])
{
	struct text text = { buf, INTERCEPT_TEXT_MAX, 0 };
	char value[FIELD_VALUE_MAX];

	put(&text, "v=%d", TEXT_VERSION);
	for (size_t i = 0; i < field_count; i++) {
		const struct field *f = &field_table[i];

		if (f->traits & FIELD_UNSTORED)
			continue;
		for (unsigned n = 0; f->kind->write(spec, f, n, value, sizeof(value)); n++)
			put(&text, " %s=%s", f->name, value);
	}
	return buf;
}

/* --- reading it back -------------------------------------------------------------------------- */

static int check_version(const char *value, struct failure *why)
{
	uint64_t version;

	if (quantity_number(value, 1, UINT32_MAX, &version, why))
		return -1;
	if (version > TEXT_VERSION)
		return report_refuse(why, "made by a newer version of tproxy-setup (%s)", value);
	return 0;
}

static int read_word(struct intercept *spec, const char *key, const char *value,
		     struct failure *why)
{
	const struct field *f = field_find(key);

	if (!strcmp(key, "v"))
		return check_version(value, why);
	if (!f || f->traits & FIELD_UNSTORED)
		return report_refuse(why, "`%s` is not known to this version of tproxy-setup", key);
	return f->kind->read(spec, f, value, why);
}

int spec_text_parse(const char *text, struct intercept *spec, struct failure *why)
{
	char copy[INTERCEPT_TEXT_MAX], *rest = copy, *token;

	intercept_init(spec);
	if (strlen(text) >= sizeof(copy))
		return report_refuse(why, "specification longer than %zu", sizeof(copy));
	if (strncmp(text, "v=", 2))
		return report_refuse(why, "no specification: does not begin with v=");
	strcpy(copy, text);
	while ((token = strsep(&rest, " "))) {
		char *value = strchr(token, '=');

		if (!value)
			return report_refuse(why, "`%s` without =", token);
		*value++ = '\0';
		if (read_word(spec, token, value, why))
			return -1;
	}
	return spec_check_numbers(spec, why);
}

/* --- as options ------------------------------------------------------------------------------- */

/* ` --name VALUE`, or ` --name` alone. */
static void add_option(struct shell_command *c, const char *name, const char *value)
{
	shell_add(c, "%s--%s", c->used ? " " : "", name);
	if (value)
		shell_word(c, value);
}

static void add_field(struct shell_command *c, const struct intercept *spec, const struct field *f)
{
	char value[FIELD_VALUE_MAX];

	if (f->kind->show) {
		add_option(c, f->name, field_show(f, spec, value));
		if (strstr(value, "..."))
			shell_give_up(c);
		return;
	}
	for (unsigned n = 0; f->kind->write(spec, f, n, value, sizeof(value)); n++)
		add_option(c, f->name, f->arg ? value : NULL);
}

const char *spec_text_options(const struct intercept *spec, char *buf, size_t size)
{
	struct shell_command c = shell_command(buf, size);
	struct intercept usual;

	intercept_init(&usual);
	for (size_t i = 0; i < field_count; i++) {
		const struct field *f = &field_table[i];

		if (f->kind->type)
			f->kind->type(spec, &c);
		else if (f->kind->set && !field_equal(f, spec, &usual))
			add_field(&c, spec, f);
	}
	intercept_free(&usual);
	return buf;
}

const char *spec_text_up_command(const struct intercept *spec, char buf[SPEC_TEXT_COMMAND_MAX])
{
	struct shell_command c = shell_command(buf, SPEC_TEXT_COMMAND_MAX);
	char options[SPEC_TEXT_COMMAND_MAX];

	if (*spec_text_options(spec, options, sizeof(options)))
		shell_add(&c, "tproxy-setup up %s", options);
	return buf;
}

/* --- two specifications ----------------------------------------------------------------------- */

/* As much of a value as a person wants to read in a line. */
#define SHOWN_MAX 200

static const char *show(const struct field *f, const struct intercept *spec, char shown[SHOWN_MAX])
{
	const char *none = !strncmp(f->name, "not-", 4) ? "none" : "all";
	char value[FIELD_VALUE_MAX];

	field_show(f, spec, value);
	if (!*value)
		snprintf(shown, SHOWN_MAX, "%s", f->kind->none ? f->kind->none : none);
	else if (snprintf(shown, SHOWN_MAX, "%s", value) >= SHOWN_MAX)
		strcpy(shown + SHOWN_MAX - sizeof("..."), "...");
	return shown;
}

unsigned spec_text_diff(const struct intercept *was, const struct intercept *now, char *buf,
			size_t size)
{
	struct text out = { buf, size, 0 };
	char before[SHOWN_MAX], after[SHOWN_MAX];
	unsigned count = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < field_count; i++) {
		const struct field *f = &field_table[i];

		if (f->traits & FIELD_PART || field_equal(f, was, now))
			continue;
		put(&out, "%s%s %s (was %s)", count++ ? ", " : "", f->name, show(f, now, after),
		    show(f, was, before));
	}
	return count;
}
