/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The conditions of `tproxy-inspect watch --until`. */
#include "tproxy-inspect/condition.h"
#include "check.h"
#include <stdlib.h>

#define KNOWN                                                                                   \
	(RECORD_BIT(RECORD_EVENT) | RECORD_BIT(RECORD_CLIENT) | RECORD_BIT(RECORD_BYTES_DOWN) | \
	 RECORD_BIT(RECORD_DURATION_MS) | RECORD_BIT(RECORD_PROG))

/* A closed connection of 192.0.2.2:40000, 5000 bytes down, after 1.5 seconds, without a program. */
static bool holds(const char *text)
{
	struct failure why = { 0 };
	struct condition *c = condition_parse(text, KNOWN, &why);
	struct endpoint client;
	struct record r;
	bool result;

	CHECK_TEXT(why.detail, "");
	CHECK(endpoint_parse("192.0.2.2:40000", &client, NULL) == 0);
	record_begin(&r, "connection");
	record_text(&r, RECORD_EVENT, "close");
	record_endpoint(&r, RECORD_CLIENT, &client);
	record_number(&r, RECORD_BYTES_DOWN, 5000);
	record_duration(&r, 1500000);
	result = condition_holds(c, &r);
	condition_free(c);
	return c && result;
}

static void test_operators(void)
{
	CHECK(holds("event=close") && !holds("event=open"));
	CHECK(holds("event!=open") && !holds("event!=close"));
	CHECK(holds("bytes_down=5000") && !holds("bytes_down=5001"));
	CHECK(holds("bytes_down<5001") && !holds("bytes_down<5000"));
	CHECK(holds("bytes_down<=5000") && !holds("bytes_down<=4999"));
	CHECK(holds("bytes_down>4999") && !holds("bytes_down>5000"));
	CHECK(holds("bytes_down>=5000") && !holds("bytes_down>=5001"));
	CHECK(holds("bytes_down>4K") && !holds("bytes_down>5K") && !holds("bytes_down>=1M"));
	CHECK(holds("duration_ms>1s") && !holds("duration_ms>1501ms") &&
	      holds("duration_ms=1500ms"));
	CHECK(holds("client=192.0.2.0/24") && !holds("client=192.0.2.0/24:80"));
	CHECK(holds("client=*:40000") && holds("client!=2001:db8::/32"));
}

/* All terms must hold; a field that is not there matches != alone. */
static void test_terms(void)
{
	CHECK(holds("event=close bytes_down>1K") && !holds("event=close bytes_down>1M"));
	CHECK(holds("  event=close\tbytes_down>1K \n"));
	CHECK(holds("prog!=nginx") && !holds("prog=nginx"));
	CHECK(condition_holds(NULL, NULL));
}

static void refused(const char *text, const char *reason)
{
	struct failure why = { 0 };
	struct condition *c = condition_parse(text, KNOWN, &why);

	CHECK(!c);
	CHECK_TEXT(strstr(why.detail, reason) ? reason : why.detail, reason);
	condition_free(c);
}

static void test_refusals(void)
{
	char *large = malloc(100001);

	refused("", "needs at least one term");
	refused(" \t\n", "needs at least one term");
	refused("pear=1", "'pear' is no field here");
	refused("upstream=*", "is no field here");
	refused("event", "needs one of = !=");
	refused("event!close", "needs one of = !=");
	refused("event=", "needs a value");
	refused("=close", "is no field here");
	refused("event<close", "is no number");
	refused("client>192.0.2.0/24", "is no number");
	refused("client=nonsense", "nonsense");
	refused("bytes_down>many", "not a number");
	refused("bytes_down>K", "not a number");
	refused("bytes_down>-1", "not a number");
	refused("bytes_down>99999999999999999999G", "not a number");
	refused("duration_ms<soon", "not a duration");
	refused("event=close pear=1", "'pear' is no field here");
	CHECK(large != NULL);
	if (!large)
		return;
	memset(large, 'x', 100000);
	large[100000] = '\0';
	refused(large, "'xxx");
	memcpy(large, "event=", 6);
	refused(large, "is too long");
	free(large);
}

int main(void)
{
	test_operators();
	test_terms();
	test_refusals();
	return check_done();
}
