/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/intercept.h"
#include "base/marks.h"
#include "check.h"
#include "intercept/predicate.h"
#include "intercept/spec_check.h"
#include "intercept/spec_text.h"

/* A validated specification from words as on the command line; only what the checks need. */
static struct intercept spec_of(const char *port, const char *not_port, const char *dst,
				const char *not_dst, const char *device)
{
	struct intercept spec;
	struct cidr cidr;
	struct failure why;

	intercept_init(&spec);
	CHECK(intercept_set_to(&spec, "3129", &why) == 0);
	CHECK(!port || endpoint_parse_ports(port, &spec.port, &why) == 0);
	CHECK(!not_port || endpoint_parse_ports(not_port, &spec.not_port, &why) == 0);
	CHECK(!dst || (endpoint_parse_cidr(dst, &cidr, &why) == 0 &&
		       endpoint_cidr_add(&spec.dst, &cidr, &why) == 0));
	CHECK(!not_dst || (endpoint_parse_cidr(not_dst, &cidr, &why) == 0 &&
			   endpoint_cidr_add(&spec.not_dst, &cidr, &why) == 0));
	CHECK(!device || intercept_add_device(&spec, device, &why) == 0);
	CHECK(spec_check(&spec, false, false, &why) == 0);
	return spec;
}

static bool overlap(struct intercept a, struct intercept b)
{
	bool one = predicate_overlaps(&a, &b), other = predicate_overlaps(&b, &a);

	CHECK(one == other);
	intercept_free(&a);
	intercept_free(&b);
	return one;
}

static void check_overlaps(void)
{
	CHECK(overlap(spec_of(NULL, NULL, NULL, NULL, NULL),
		      spec_of("80", NULL, NULL, NULL, NULL)));
	CHECK(!overlap(spec_of("80", NULL, NULL, NULL, NULL),
		       spec_of("81", NULL, NULL, NULL, NULL)));
	CHECK(overlap(spec_of("80-90", NULL, NULL, NULL, NULL),
		      spec_of("90-99", NULL, NULL, NULL, NULL)));
	CHECK(!overlap(spec_of(NULL, "80", NULL, NULL, NULL),
		       spec_of("80", NULL, NULL, NULL, NULL)));
	CHECK(overlap(spec_of(NULL, NULL, "10.0.0.0/8", NULL, NULL),
		      spec_of(NULL, NULL, "10.1.0.0/16", NULL, NULL)));
	CHECK(!overlap(spec_of(NULL, NULL, "10.0.0.0/16", NULL, NULL),
		       spec_of(NULL, NULL, "10.1.0.0/16", NULL, NULL)));
	CHECK(!overlap(spec_of(NULL, NULL, "10.0.0.0/8", NULL, NULL),
		       spec_of(NULL, NULL, "2001:db8::/32", NULL, NULL)));
	/* What one excludes the other may have, but only if all of it is excluded. */
	CHECK(!overlap(spec_of(NULL, NULL, NULL, "10.0.0.0/8", NULL),
		       spec_of(NULL, NULL, "10.1.0.0/16", NULL, NULL)));
	CHECK(overlap(spec_of(NULL, NULL, NULL, "10.1.0.0/16", NULL),
		      spec_of(NULL, NULL, "10.0.0.0/8", NULL, NULL)));
	CHECK(!overlap(spec_of(NULL, NULL, NULL, NULL, "eth0"),
		       spec_of(NULL, NULL, NULL, NULL, "eth1")));
	CHECK(overlap(spec_of(NULL, NULL, NULL, NULL, "eth*"),
		      spec_of(NULL, NULL, NULL, NULL, "eth1")));
	CHECK(!overlap(spec_of(NULL, NULL, NULL, NULL, "eth*"),
		       spec_of(NULL, NULL, NULL, NULL, "wg*")));
	CHECK(overlap(spec_of(NULL, NULL, NULL, NULL, "e*"),
		      spec_of(NULL, NULL, NULL, NULL, "eth*")));
}

static bool matches(const struct intercept *spec, const char *client, const char *destination)
{
	struct endpoint c, d;

	CHECK(endpoint_parse(client, &c, NULL) == 0 && endpoint_parse(destination, &d, NULL) == 0);
	return predicate_matches(spec, &c, &d);
}

static void check_matches(void)
{
	struct intercept spec = spec_of("80,443", "443", "198.51.100.0/24", "198.51.100.7", NULL);

	CHECK(matches(&spec, "192.0.2.1:1000", "198.51.100.1:80"));
	CHECK(!matches(&spec, "192.0.2.1:1000", "198.51.100.1:443"));
	CHECK(!matches(&spec, "192.0.2.1:1000", "198.51.100.1:81"));
	CHECK(!matches(&spec, "192.0.2.1:1000", "198.51.100.7:80"));
	CHECK(!matches(&spec, "192.0.2.1:80", "203.0.113.1:80"));
	CHECK(!matches(&spec, "[2001:db8::1]:1", "[2001:db8::2]:80"));
	intercept_free(&spec);
}

static void check_canonical(void)
{
	struct intercept spec = spec_of("80,443", NULL, "10.0.0.0/8", NULL, "wg*"), back, more;
	char once[INTERCEPT_TEXT_MAX], again[INTERCEPT_TEXT_MAX], diff[256];
	struct failure why = { 0 };

	spec.udp = spec.local = true;
	CHECK(intercept_add_id(&spec.uid, false, "1000", &why) == 0);
	spec_text(&spec, once);
	CHECK(spec_text_parse(once, &back, &why) == 0);
	CHECK(back.udp && back.tcp && back.local && back.uid.count == 1 && back.uid.at[0] == 1000);
	CHECK(back.devices == 1 && !strcmp(back.device[0], "wg*") && back.ipv4 && !back.ipv6);
	/* Lists come back as digests: equal to what they are made of, and to nothing else. */
	for (int id = 0; id < INTERCEPT_LISTS; id++) {
		struct intercept_digest digest = intercept_digest_of(&spec, id);

		CHECK(intercept_digest_equal(&digest, &back.digest[id]));
	}
	CHECK(endpoint_parse_ports("8080", &spec.port, &why) == 0);
	CHECK(strcmp(once, spec_text(&spec, again)) != 0);
	more = spec;
	more.table = 101;
	CHECK(spec_text_diff(&spec, &more, diff, sizeof(diff)) == 1);
	CHECK_TEXT(diff, "table 101 (was 100)");
	intercept_free(&spec);
	intercept_free(&back);
}

static void check_refused(void)
{
	static const char *const wrong[] = { "",
					     "name=x",
					     "v=1 nonsense",
					     "v=1 future=yes",
					     "v=999 name=x",
					     "v=1 name=../x",
					     "v=1 mark=0x300/0xff",
					     "v=1 mark=0",
					     "v=1 mark=1 upstream-mark=1",
					     "v=1 table=254",
					     "v=1 port=x",
					     "v=1 conntrack=perhaps",
					     "v=1 cgroup=a\"b" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct intercept spec;
		struct failure why = { 0 };

		CHECK(spec_text_parse(wrong[i], &spec, &why) == -1);
		CHECK(why.detail[0]);
		intercept_free(&spec);
	}
}

static void check_marks(void)
{
	static const struct {
		struct mark a, b;
		bool clash;
	} pairs[] = {
		{ { 1, 0xff }, { 2, 0xff }, false },
		{ { 1, 0xff }, { 1, 0xff }, true },
		{ { 1, 0xf }, { 0x10, 0xf0 }, true },
		{ { 1, 0x1 }, { 2, 0xff }, false },
		{ { 0x100, 0xff00 }, { 0x1, 0xffffffff }, false },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
		CHECK(marks_clash(&pairs[i].a, &pairs[i].b) == pairs[i].clash);
}

static void check_free_marks(void)
{
	static const struct {
		struct mark like, taken[3], free; /* free 0: none */
	} cases[] = {
		{ { 1, 0xff }, { { 1, 0xff }, { 2, 0xff }, { 3, 0xff } }, { 4, 0xff } },
		/* Values stand where the mask's bits are, with holes or not. */
		{ { 0x10000, 0xff0000 }, { { 0x10000, 0xff0000 } }, { 0x20000, 0xff0000 } },
		{ { 1, 0x5 }, { { 1, 0x5 }, { 4, 0x5 } }, { 5, 0x5 } },
		/* Under a mask without bits of the others' no value is free: under theirs. */
		{ { 0x100, 0xff00 }, { { 1, 0xff }, { 2, 0xff } }, { 3, 0xff } },
		/* A single bit has a single value. */
		{ { 1, 1 }, { { 1, 1 } }, { 0, 0 } },
		{ { 0, UINT32_MAX }, { { 0, 0x80000000 } }, { 0x80000000, 0x80000000 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct mark *taken = cases[i].taken;
		struct mark free = { 0 };
		size_t count = 0;

		while (count < 3 && taken[count].mask)
			count++;
		CHECK(marks_find_free(&cases[i].like, taken, count, &free) == !!cases[i].free.mask);
		if (cases[i].free.mask)
			CHECK(free.value == cases[i].free.value && free.mask == cases[i].free.mask);
	}
}

int main(void)
{
	check_free_marks();
	check_overlaps();
	check_matches();
	check_canonical();
	check_refused();
	check_marks();
	return check_done();
}
