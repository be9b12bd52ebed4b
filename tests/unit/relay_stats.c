/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/relay_stats.h"
#include "check.h"
#include <stdlib.h>
#include <string.h>

/* Every name finds its number, so no two are the same. */
static void test_names(void)
{
	unsigned named = 0;

	for (unsigned i = 0; i < STATS_COUNT; i++) {
		const char *name = relay_stats_name(i);

		if (!name)
			continue;
		named++;
		CHECK(relay_stats_find(name) == (int)i);
	}
	CHECK(named == STATS_COUNT - 1); /* all but REASON_NONE */
	CHECK(relay_stats_find("of-tomorrow") == -1);
	CHECK(relay_stats_find("") == -1);
}

static void test_buckets(void)
{
	CHECK(relay_stats_bucket(COUNTER_CONNECT, 0) == COUNTER_CONNECT);
	CHECK(relay_stats_bucket(COUNTER_CONNECT, 1000) == COUNTER_CONNECT);
	CHECK(relay_stats_bucket(COUNTER_CONNECT, 1001) == COUNTER_CONNECT + 1);
	CHECK(relay_stats_bucket(COUNTER_CONNECT, UINT64_MAX) == COUNTER_CONNECT_SUM - 1);
	CHECK(relay_stats_bucket(COUNTER_DURATION, 0) == COUNTER_DURATION);
	CHECK(relay_stats_bucket(COUNTER_DURATION, 3600000001) == COUNTER_DURATION_SUM - 1);
}

static char *print(enum relay_stats_format format, const struct relay_stats *relays, size_t count)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	relay_stats_print(out, format, relays, count);
	fclose(out);
	return text;
}

/* Two relays: the samples of a family stand together; buckets add up. */
static void test_print(void)
{
	uint64_t one[STATS_COUNT] = { [STATS_CONNECT] = 2, [STATS_CONNECT + 2] = 1 };
	uint64_t two[STATS_COUNT] = { [STATS_COUNTER + COUNTER_ACCEPTED] = 7,
				      [STATS_COUNTER + COUNTER_CONNECT_SUM] = 1500000 };
	const struct relay_stats relays[] = { { "relay=\"1\"", "1.0", one },
					      { "relay=\"2\"", "1.0", two } };
	char *text = print(RELAY_STATS_OPENMETRICS, relays, 2);

	CHECK(strstr(text, "# TYPE tproxy_relay_accepted counter\n"
			   "tproxy_relay_accepted_total{relay=\"1\"} 0\n"
			   "tproxy_relay_accepted_total{relay=\"2\"} 7\n# HELP") != NULL);
	CHECK(strstr(text,
		     "connect_seconds_bucket{relay=\"1\",le=\"0.005\"} 2\n"
		     "tproxy_relay_connect_seconds_bucket{relay=\"1\",le=\"0.02\"} 3\n") != NULL);
	CHECK(strstr(text, "connect_seconds_count{relay=\"1\"} 3\n") != NULL);
	CHECK(strstr(text, "connect_seconds_sum{relay=\"2\"} 1.500000\n") != NULL);
	free(text);
	text = print(RELAY_STATS_TEXT, relays, 1);
	CHECK(strstr(text, "# TYPE tproxy_relay_accepted_total counter\n") != NULL);
	free(text);
	text = print(RELAY_STATS_BOTH, &(struct relay_stats){ "", "1.0", one }, 1);
	CHECK(!strstr(text, " counter\n"));
	CHECK(strstr(text, "\ntproxy_relay_accepted_total 0\n") != NULL);
	free(text);
}

int main(void)
{
	test_names();
	test_buckets();
	test_print();
	return check_done();
}
