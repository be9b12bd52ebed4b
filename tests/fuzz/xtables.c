/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iptables' binary structures, of which the length of everything stands in the data: one extension,
 * or a whole table of iptables-legacy. */
#include "firewall/xtables.h"
#include "firewall/xtables_legacy.h"
#include "fuzz.h"
#include <sys/socket.h>

/* A copy whose end is the end of its memory, aligned as the kernel's. */
static char *copy_of(const uint8_t *data, size_t size)
{
	char *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	return copy;
}

static const char *const extensions[][2] = {
	{ "match", "tcp" },	 { "match", "conntrack" }, { "match", "state" },
	{ "match", "mark" },	 { "match", "multiport" }, { "match", "addrtype" },
	{ "match", "socket" },	 { "match", "rpfilter" },  { "match", "comment" },
	{ "target", "MARK" },	 { "target", "TPROXY" },   { "target", "REJECT" },
	{ "target", "unknown" },
};
#define EXTENSIONS (sizeof(extensions) / sizeof(*extensions))

static void extension(unsigned which, const uint8_t *data, size_t size)
{
	const char *const *e = extensions[which % EXTENSIONS];
	json_t *out = json_array();
	char *info = copy_of(data, size);

	xtables_decode(e[0], e[1], info, size, out);
	json_decref(out);
	free(info);
}

static int count_use(const struct xtables_legacy_use *use, void *context)
{
	unsigned *count = context;

	fuzz_holds(use->extension[0] && use->rule > 0, "a use has a name and a rule");
	++*count;
	return 0;
}

static unsigned take(const uint8_t **data)
{
	unsigned value = (unsigned)(*data)[0] << 8 | (*data)[1];

	*data += 2;
	return value;
}

/* A table that is not sound has neither rules nor uses. */
static void table(int domain, const uint8_t *data, size_t size)
{
	const size_t head = 2 + 4 * XTABLES_LEGACY_HOOKS;
	struct xtables_legacy_table t = { .domain = domain, .name = "mangle" };
	unsigned uses = 0;
	json_t *objects;
	char *entries;

	if (size < head)
		return;
	objects = json_array();
	t.valid_hooks = take(&data);
	for (unsigned i = 0; i < XTABLES_LEGACY_HOOKS; i++)
		t.hook_entry[i] = take(&data);
	for (unsigned i = 0; i < XTABLES_LEGACY_HOOKS; i++)
		t.underflow[i] = take(&data);
	t.size = size - head;
	t.entries = entries = copy_of(data, t.size);
	xtables_legacy_add_table(&t, objects);
	xtables_legacy_each_use_of(&t, count_use, &uses);
	fuzz_holds(json_array_size(objects) || !uses, "no use without a rule");
	json_decref(objects);
	free(entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] < 2)
		table(data[0] ? AF_INET6 : AF_INET, data + 1, size - 1);
	else
		extension(data[0], data + 1, size - 1);
	return 0;
}
