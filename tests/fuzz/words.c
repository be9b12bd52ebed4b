/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every word that a user types: endpoints, prefixes, ports, marks, durations, sizes, columns. What
 * is accepted must read back from its printed form as the same value. */
#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/record.h"
#include "fuzz.h"

static void endpoints(const char *text)
{
	char buf[ENDPOINT_TEXT_MAX];
	struct endpoint a, b;
	struct failure why;

	if (endpoint_parse(text, &a, &why) == 0 && !endpoint_is_any(&a))
		fuzz_holds(endpoint_parse(endpoint_format(&a, buf), &b, &why) == 0 &&
				   endpoint_equal(&a, &b),
			   "endpoint reads back");
}

static void prefixes(const char *text)
{
	char buf[ENDPOINT_TEXT_MAX];
	struct failure why;
	struct cidr a, b;

	if (endpoint_parse_cidr(text, &a, &why) == 0)
		fuzz_holds(endpoint_parse_cidr(endpoint_format_cidr(&a, buf), &b, &why) == 0 &&
				   a.family == b.family && a.length == b.length &&
				   !memcmp(&a.addr, &b.addr, sizeof(a.addr)),
			   "prefix reads back");
}

static void ports(const char *text)
{
	struct port_list list = { 0 };
	struct failure why;

	if (endpoint_parse_ports(text, &list, &why) == 0)
		for (size_t i = 0; i < list.count; i++)
			fuzz_holds(list.at[i].first && list.at[i].first <= list.at[i].last &&
					   (!i || list.at[i - 1].last + 1 < list.at[i].first),
				   "ports are sorted and apart");
	endpoint_ports_free(&list);
}

static void listeners(const char *text)
{
	struct endpoint_list list = { 0 };
	struct failure why;

	if (endpoint_parse_listener(text, ENDPOINT_BARE_LOOPBACK, &list, &why) == 0)
		fuzz_holds(list.count == 1 || list.count == 2, "one or two listeners");
	endpoint_list_free(&list);
}

static void quantities(const char *text)
{
	char mark_text[QUANTITY_MARK_MAX];
	struct mark mark, mark_again;
	uint64_t ms;
	struct failure why;

	if (quantity_mark(text, &mark, &why) == 0)
		fuzz_holds(quantity_mark(quantity_format_mark(&mark, mark_text), &mark_again,
					 &why) == 0 &&
				   mark.value == mark_again.value && mark.mask == mark_again.mask,
			   "mark reads back");
	(void)quantity_duration(text, &ms, &why);
}

static void columns(const char *text)
{
	struct record_columns c = { { RECORD_TYPE }, 1 };
	char line[RECORD_LINE_MAX];
	struct failure why;
	struct record r;
	size_t length;

	record_begin(&r, text);
	record_text(&r, RECORD_PROG, text);
	record_text(&r, RECORD_EVIDENCE, text);
	length = record_print_json(&r, line);
	fuzz_holds(length <= RECORD_LINE_MAX && !memcmp(line + length - 2, "}\n", 2) &&
			   memchr(line, '\n', length) == line + length - 1,
		   "a JSON record is one whole line");
	if (record_parse_columns(text, &c, &why) == 0) {
		length = record_print_text(&r, &c, line);
		fuzz_holds(length <= RECORD_LINE_MAX &&
				   memchr(line, '\n', length) == line + length - 1,
			   "a text record is one line");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size > FUZZ_TEXT_MAX)
		return 0;
	text = fuzz_text(data, size);
	endpoints(text);
	prefixes(text);
	ports(text);
	listeners(text);
	quantities(text);
	columns(text);
	free(text);
	return 0;
}
