/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/holder.h"

#include "base/defaults.h"
#include <stdio.h>
#include <string.h>

void holder_refresh(struct holder *h)
{
	char path[40], line[128];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%ld/status", h->pid);
	in = h->pid ? fopen(path, "re") : NULL;
	h->state = '\0';
	while (in && fgets(line, sizeof(line), in)) {
		sscanf(line, "State: %c", &h->state);
		sscanf(line, "Uid: %*u %*u %*u %u", &h->uid);
		sscanf(line, "Gid: %*u %*u %*u %u", &h->gid);
	}
	if (in)
		fclose(in);
}

void holder_find(struct sockowner_list *owners, uint32_t inode, uint32_t uid, struct holder *out)
{
	const struct sockowner *owner = sockowner_find(owners, inode);

	*out = (struct holder){ .pid = owner ? owner->pid : 0 };
	holder_refresh(out);
	sockowner_describe(owners, inode, uid, out->owner);
}

/* The value of --upstream-mark on a command line, or NULL. */
static const char *mark_among(const char *words, const char *end)
{
	for (const char *w = words; w < end; w += strlen(w) + 1) {
		const char *value = !strcmp(w, "--upstream-mark")	  ? w + strlen(w) + 1
				    : !strncmp(w, "--upstream-mark=", 16) ? w + 16
									  : NULL;

		if (value && value < end)
			return value;
	}
	return NULL;
}

bool holder_relay_mark(const struct holder *h, struct mark *mark)
{
	char path[40], words[4096];
	const char *value;
	size_t length = 0;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%ld/cmdline", h->pid);
	in = h->pid && !strncmp(h->owner, "tproxy-relay ", 13) ? fopen(path, "re") : NULL;
	if (in) {
		length = fread(words, 1, sizeof(words) - 1, in);
		fclose(in);
	}
	words[length] = '\0';
	value = mark_among(words, words + length);
	if (value)
		return !quantity_mark(value, mark, NULL);
	*mark = DEFAULT_UPSTREAM_MARK;
	return length;
}
