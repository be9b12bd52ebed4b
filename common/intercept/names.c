/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add(const char *name, void *context)
{
	struct names *names = context;
	void *grown;

	grown = realloc(names->at, (names->count + 1) * sizeof(*names->at));
	if (!grown)
		return ENOMEM;
	names->at = grown;
	strcpy(names->at[names->count++], name);
	return 0;
}

int names_read(struct instance *kernel, struct names *names, struct failure *why)
{
	int err;

	*names = (struct names){ 0 };
	err = nft_each(kernel->rules, add, names, why);
	return err > 0 ? report_fail(why, err, "realloc", "names of instances") : err;
}

void names_free(struct names *names)
{
	free(names->at);
	*names = (struct names){ 0 };
}

const char *names_text(const struct names *names, char *buf, size_t size)
{
	size_t used = (size_t)snprintf(buf, size, "%s",
				       names->count ? "installed:" : "nothing is installed");

	for (size_t i = 0; i < names->count; i++) {
		if (used + strlen(names->at[i]) + sizeof(", ...") >= size) {
			snprintf(buf + used, size - used, " ...");
			break;
		}
		used += (size_t)snprintf(buf + used, size - used, "%s %s", i ? "," : "",
					 names->at[i]);
	}
	return buf;
}
