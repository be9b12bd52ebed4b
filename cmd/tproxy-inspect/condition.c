/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/condition.h"

#include "base/match.h"
#include "base/quantity.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum comparison { IS, IS_NOT, LESS, LESS_OR_EQUAL, MORE, MORE_OR_EQUAL };

/* Two characters first: < begins <=. */
static const struct {
	const char *text;
	enum comparison comparison;
} operators[] = {
	{ "!=", IS_NOT }, { "<=", LESS_OR_EQUAL }, { ">=", MORE_OR_EQUAL },
	{ "=", IS },	  { "<", LESS },	   { ">", MORE },
};

#define VALUE_MAX 128

struct term {
	enum record_field field;
	enum comparison comparison;
	char text[VALUE_MAX];
	uint64_t number;
	struct match_list match;
};

struct condition {
	struct term *term;
	size_t count;
};

/* ---- parsing ---- */

static bool is_number(enum record_kind kind)
{
	return kind == KIND_NUMBER || kind == KIND_DURATION;
}

/* `10`, `64K`, `1M`, `2G`. */
static int parse_size(const char *text, uint64_t *out, struct failure *why)
{
	static const char units[] = "KMG";
	size_t length = strlen(text);
	const char *unit = length ? strchr(units, text[length - 1]) : NULL;
	char digits[VALUE_MAX];

	snprintf(digits, sizeof(digits), "%.*s", (int)(unit ? length - 1 : length), text);
	if (quantity_number(digits, 0, UINT64_MAX >> 30, out, why) < 0)
		return -1;
	if (unit)
		*out <<= 10 * (unit - units + 1);
	return 0;
}

static int parse_value(struct term *t, struct failure *why)
{
	enum record_kind kind = record_fields[t->field].kind;
	int err = 0;

	if (!is_number(kind) && t->comparison > IS_NOT)
		return report_refuse(why, "%s is no number: = and != are understood",
				     record_field_name(t->field));
	if (kind == KIND_ENDPOINT)
		return match_list_add(&t->match, t->text, why);
	if (kind == KIND_NUMBER)
		return parse_size(t->text, &t->number, why);
	if (kind == KIND_DURATION) {
		err = quantity_duration(t->text, &t->number, why);
		t->number *= 1000; /* records have microseconds */
	}
	return err;
}

/* `'pear' is no field here; there are time, event, ...` */
static int refuse_field(const char *name, int length, uint64_t known, struct failure *why)
{
	char list[sizeof(why->detail)];

	return report_refuse(why, "'%.*s' is no field here; there are %s", length, name,
			     record_fields_list(known, list, sizeof(list)));
}

static int parse_term(const char *text, uint64_t known, struct term *t, struct failure *why)
{
	size_t length = strcspn(text, "=!<>"), i = 0;
	int field = record_field_find(text, length);
	const char *value = text + length;

	if (field < 0 || !(known >> field & 1))
		return refuse_field(text, (int)length, known, why);
	while (i < sizeof(operators) / sizeof(*operators) &&
	       strncmp(value, operators[i].text, strlen(operators[i].text)) != 0)
		i++;
	if (i == sizeof(operators) / sizeof(*operators))
		return report_refuse(why, "needs one of = != < <= > >= and a value");
	value += strlen(operators[i].text);
	if (!*value || strlen(value) >= VALUE_MAX)
		return report_refuse(why, *value ? "is too long" : "needs a value");
	*t = (struct term){ .field = (enum record_field)field,
			    .comparison = operators[i].comparison };
	strcpy(t->text, value);
	return parse_value(t, why);
}

static int add_term(struct condition *c, const char *text, uint64_t known, struct failure *why)
{
	struct term *grown = realloc(c->term, (c->count + 1) * sizeof(*grown));

	if (!grown)
		return report_fail(why, ENOMEM, "malloc", "condition");
	c->term = grown;
	c->term[c->count] = (struct term){ .field = RECORD_V };
	if (parse_term(text, known, &c->term[c->count], why) < 0) {
		match_list_free(&c->term[c->count].match);
		return report_about(why, "%s", text);
	}
	c->count++;
	return 0;
}

struct condition *condition_parse(const char *text, uint64_t known, struct failure *why)
{
	struct condition *c = calloc(1, sizeof(*c));
	char *copy = strdup(text), *rest = NULL;
	int err = c && copy ? 0 : report_fail(why, ENOMEM, "malloc", "condition");

	for (char *term = err ? NULL : strtok_r(copy, " \t\n", &rest); term && !err;
	     term = strtok_r(NULL, " \t\n", &rest))
		err = add_term(c, term, known, why);
	if (!err && !c->count)
		err = report_refuse(why, "needs at least one term, as event=close");
	free(copy);
	if (!err)
		return c;
	condition_free(c);
	return NULL;
}

void condition_free(struct condition *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->count; i++)
		match_list_free(&c->term[i].match);
	free(c->term);
	free(c);
}

/* ---- comparing ---- */

static bool compare_numbers(uint64_t a, enum comparison comparison, uint64_t b)
{
	switch (comparison) {
	case IS:
		return a == b;
	case IS_NOT:
		return a != b;
	case LESS:
		return a < b;
	case LESS_OR_EQUAL:
		return a <= b;
	case MORE:
		return a > b;
	default:
		return a >= b;
	}
}

static bool is_equal(const struct term *t, const struct record *r)
{
	char text[RECORD_LINE_MAX];

	if (record_fields[t->field].kind == KIND_ENDPOINT)
		return match_list_has(&t->match, &r->value[t->field].endpoint);
	record_print_column(r, t->field, text, sizeof(text));
	return strcmp(text, t->text) == 0;
}

static bool term_holds(const struct term *t, const struct record *r)
{
	if (!(r->present >> t->field & 1))
		return t->comparison == IS_NOT;
	if (is_number(record_fields[t->field].kind))
		return compare_numbers(record_get_number(r, t->field), t->comparison, t->number);
	return is_equal(t, r) == (t->comparison == IS);
}

bool condition_holds(const struct condition *c, const struct record *r)
{
	for (size_t i = 0; c && i < c->count; i++)
		if (!term_holds(&c->term[i], r))
			return false;
	return true;
}
