/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/waiting.h"

#include "base/plain.h"
#include "intercept/field.h"
#include "net/listening.h"
#include "net/sockdiag.h"
#include "net/sockowner.h"
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* No process tree is deeper; in one that changes meanwhile a loop does not last. */
#define DEPTH_MAX 64

/* What was found, in ascending order of quality. */
enum found { FOUND_NOTHING, FOUND_ELSEWHERE, FOUND_NONTRANSPARENT, FOUND_RIGHT };

struct search {
	const struct intercept *spec;
	pid_t root;
	struct sockowner_list *owners;
	enum found found;
	struct endpoint at;
	char name[4 * SOCKOWNER_NAME_MAX];
};

/* 0: unknown. */
static pid_t parent_of(pid_t pid)
{
	char path[32], line[512], *end;
	int parent = 0;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	in = fopen(path, "re");
	if (!in)
		return 0;
	/* The name, in parentheses, may contain any bytes. */
	line[fread(line, 1, sizeof(line) - 1, in)] = '\0';
	end = strrchr(line, ')');
	if (!end || sscanf(end + 1, " %*c %d", &parent) != 1)
		parent = 0;
	fclose(in);
	return parent;
}

static bool descends(pid_t pid, pid_t root)
{
	for (int i = 0; pid > 0 && i < DEPTH_MAX; i++, pid = parent_of(pid))
		if (pid == root)
			return true;
	return false;
}

static bool is_wanted(const struct intercept *spec, const struct sockdiag_socket *s)
{
	return (endpoint_is_set(&spec->to4) && listening_matches(s, &spec->to4)) ||
	       (endpoint_is_set(&spec->to6) && listening_matches(s, &spec->to6));
}

static int look(const struct sockdiag_socket *s, void *context)
{
	struct search *search = context;
	const struct sockowner *owner = sockowner_find(search->owners, s->inode);
	enum found found = !is_wanted(search->spec, s)	   ? FOUND_ELSEWHERE
			   : s->transparent == SOCKDIAG_NO ? FOUND_NONTRANSPARENT
							   : FOUND_RIGHT;

	if (!owner || found <= search->found || !descends(owner->pid, search->root))
		return 0;
	search->found = found;
	search->at = s->local;
	if (s->dual_stack) /* *:PORT */
		search->at.family = AF_UNSPEC;
	plain_copy(search->name, sizeof(search->name), owner->name);
	return 0;
}

static void run_search(struct search *search)
{
	const int protocols[] = { search->spec->tcp ? IPPROTO_TCP : 0,
				  search->spec->udp ? IPPROTO_UDP : 0 };
	struct sockdiag *diag = sockdiag_open(NULL);

	search->owners = sockowner_read(NULL, NULL);
	for (int i = 0; diag && search->owners && i < 2; i++)
		if (protocols[i])
			listening_each(diag, protocols[i], look, search, NULL);
	sockowner_free(search->owners);
	sockdiag_close(diag);
}

#define MISSING_TEXT_MAX (ENDPOINT_TEXT_MAX + sizeof("UDP "))

/* The endpoints that nobody serves yet. */
static const char *missing(const struct intercept *spec, char buf[MISSING_TEXT_MAX])
{
	const struct endpoint *to[] = { &spec->to4, &spec->to6, &spec->to4, &spec->to6 };
	const bool wanted[] = { spec->tcp, spec->tcp, spec->udp, spec->udp };
	struct listening_state state;
	char text[ENDPOINT_TEXT_MAX];

	for (int i = 0; i < 4; i++) {
		bool udp = i >= 2;

		if (!wanted[i] || !endpoint_is_set(to[i]) ||
		    listening_look(udp ? IPPROTO_UDP : IPPROTO_TCP, to[i], &state, NULL) ||
		    state.count)
			continue;
		snprintf(buf, MISSING_TEXT_MAX, "%s%s", udp ? "UDP " : "",
			 endpoint_format(to[i], text));
		return buf;
	}
	return "";
}

const char *waiting_describe(const struct intercept *spec, pid_t root, char buf[WAITING_TEXT_MAX])
{
	struct search search = { .spec = spec, .root = root };
	char to[FIELD_VALUE_MAX], at[ENDPOINT_TEXT_MAX], rest[MISSING_TEXT_MAX];
	const char *wanted = field_show(field_find("to"), spec, to), *gap;

	run_search(&search);
	if (search.at.family == AF_UNSPEC)
		snprintf(at, sizeof(at), "*:%u", search.at.port);
	else
		endpoint_format(&search.at, at);
	gap = missing(spec, rest);
	switch (search.found) {
	case FOUND_NOTHING:
		snprintf(buf, WAITING_TEXT_MAX, "nobody listens at %.80s yet", wanted);
		break;
	case FOUND_ELSEWHERE:
		snprintf(buf, WAITING_TEXT_MAX, "%s listens at %s, not %.80s", search.name, at,
			 wanted);
		break;
	case FOUND_NONTRANSPARENT:
		snprintf(buf, WAITING_TEXT_MAX,
			 "%s listens at %s, but is not transparent: it needs REDIRECT, or an "
			 "option that makes it transparent",
			 search.name, at);
		break;
	case FOUND_RIGHT:
		snprintf(buf, WAITING_TEXT_MAX, "%s listens at %s%s%s", search.name, at,
			 *gap ? ", nobody at " : "", gap);
		break;
	}
	return buf;
}

bool waiting_is_served(const struct intercept *spec, pid_t root)
{
	struct search search = { .spec = spec, .root = root };

	run_search(&search);
	return search.found >= FOUND_NONTRANSPARENT;
}
