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

/* The value of an option on a command line, or NULL. */
static const char *value_among(const char *words, const char *end, const char *option)
{
	size_t length = strlen(option);

	for (const char *w = words; w < end; w += strlen(w) + 1) {
		const char *value = !strcmp(w, option) ? w + length + 1
				    : !strncmp(w, option, length) && w[length] == '='
					    ? w + length + 1
					    : NULL;

		if (value && value < end)
			return value;
	}
	return NULL;
}

#define COMMAND_LINE_MAX 4096

/* The command line of a relay of ours, each word with its end; 0: it is none. */
static size_t read_relay_command(const struct holder *h, char words[COMMAND_LINE_MAX])
{
	char path[40];
	size_t length = 0;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%ld/cmdline", h->pid);
	in = h->pid && !strncmp(h->owner, "tproxy-relay ", 13) ? fopen(path, "re") : NULL;
	if (in) {
		length = fread(words, 1, COMMAND_LINE_MAX - 1, in);
		fclose(in);
	}
	words[length] = '\0';
	return length;
}

bool holder_relay_mark(const struct holder *h, struct mark *mark)
{
	char words[COMMAND_LINE_MAX];
	size_t length = read_relay_command(h, words);
	const char *value = value_among(words, words + length, "--upstream-mark");

	if (value)
		return !quantity_mark(value, mark, NULL);
	*mark = DEFAULT_UPSTREAM_MARK;
	return length;
}

/* In another network namespace the same port is free. */
bool holder_relay_takes_ports(const struct holder *h)
{
	char words[COMMAND_LINE_MAX];
	size_t length = read_relay_command(h, words);
	const char *end = words + length, *source = value_among(words, end, "--source");

	return length && (!source || !strcmp(source, "client")) &&
	       !value_among(words, end, "--upstream-netns");
}
