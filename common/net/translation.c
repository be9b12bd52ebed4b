/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A question costs a message to the helper, one to the kernel, and both answers. So it is only
 * asked if there may be something to learn: if a rule of nf_tables translates sources (the rules
 * are read again when their generation has changed), or iptables-legacy has a table `nat`. If the
 * rules cannot be read (no CAP_NET_ADMIN; those of iptables-legacy in a user namespace), it is
 * enough that connections are tracked: otherwise the kernel's count of them, which anybody may
 * read, is 0.
 *
 * Our zones: the upstream leg begins in one, by the rules of tproxy-setup, and the client's leg
 * with the same addresses and ports in zone 0. So zones that rules set come first.
 */
#include "net/translation.h"

#include "net/conntrack.h"
#include "net/rule_use.h"
#include "process/helper.h"
#include "process/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netfilter.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAMILIES    2 /* IPv4, IPv6 */
#define ZONES_MAX   8
#define ATTEMPTS    10 /* at reading rules that change meanwhile */
#define INTERVAL_MS 250

enum question { QUESTION_FAMILIES, QUESTION_ORIGDST, QUESTION_SOURCE };

struct request {
	enum question question;
	int protocol;
	struct endpoint local, peer;
};

struct answer {
	enum translation_verdict verdict;
	unsigned families;    /* bits 1 << index_of() */
	struct endpoint seen; /* or the original destination */
};

static unsigned index_of(int family)
{
	return family == AF_INET6;
}

/* ---- the helper: files of the kernel ---- */

/* A file that may only appear with a module, when nothing can be opened any more. */
struct file {
	const char *name;
	int fd, error; /* of opening it */
};

enum { FILE_COUNT, FILE_NAMES, FILES = FILE_NAMES + FAMILIES };

struct helper {
	const char *name;
	struct conntrack *conntrack;
	struct netlink *rules;
	int root; /* /proc */
	struct file file[FILES];
	bool known; /* everything below belongs to this generation of the rules */
	uint32_t generation;
	bool translates[FAMILIES];
	uint16_t zone[ZONES_MAX];
	unsigned zones;
};

static const char *const names[FILES] = {
	"sys/net/netfilter/nf_conntrack_count",
	"self/net/ip_tables_names",
	"self/net/ip6_tables_names",
};

static void open_files(struct helper *h)
{
	h->root = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < FILES; i++) {
		int fd = openat(h->root, names[i], O_RDONLY | O_CLOEXEC);

		h->file[i] = (struct file){ names[i], fd, fd < 0 ? errno : 0 };
	}
}

/*
 * Returns its length; 0 if there is no such file, -1 if it cannot be read, or has appeared since.
 * #syscalls netlink: pread64, faccessat
 */
static ssize_t read_file(const struct helper *h, unsigned which, char *text, size_t size)
{
	const struct file *f = &h->file[which];
	ssize_t length;

	if (f->fd < 0)
		return f->error == ENOENT && faccessat(h->root, f->name, F_OK, 0) < 0 ? 0 : -1;
	length = pread(f->fd, text, size - 1, 0);
	text[length > 0 ? length : 0] = '\0';
	return length;
}

/* Is any connection tracked? The one in question would be. */
static bool is_tracking(const struct helper *h)
{
	char text[32];
	ssize_t length = read_file(h, FILE_COUNT, text, sizeof(text));

	return length < 0 || (length > 0 && atoi(text) > 0);
}

/* ---- the helper: rules ---- */

static void visit_rule(const struct rule_use *use, void *context)
{
	struct helper *h = context;

	h->translates[0] |= use->translates && use->family != NFPROTO_IPV6;
	h->translates[1] |= use->translates && use->family != NFPROTO_IPV4;
	for (unsigned i = 0; i < h->zones; i++)
		if (h->zone[i] == use->zone)
			return;
	if (use->zone && h->zones < ZONES_MAX)
		h->zone[h->zones++] = use->zone;
}

static void read_rules(struct helper *h)
{
	int err = -EAGAIN;

	for (int i = 0; i < ATTEMPTS && err == -EAGAIN; i++) {
		h->translates[0] = h->translates[1] = false;
		h->zones = 0;
		err = rule_use_each(h->rules, visit_rule, h);
	}
	h->known = err == 0;
}

/* If they change while they are read, their generation differs from this one, and they are read
 * again next time. */
static void look_at_rules(struct helper *h)
{
	uint32_t generation = 0;

	if (rule_use_generation(h->rules, &generation))
		h->known = false;
	else if (!h->known || generation != h->generation)
		read_rules(h);
	h->generation = generation;
}

static bool may_translate(const struct helper *h, unsigned family)
{
	char text[512];
	ssize_t length;

	if (h->known && h->translates[family])
		return true;
	length = read_file(h, FILE_NAMES + family, text, sizeof(text));
	if (length > 0 && (!strncmp(text, "nat\n", 4) || strstr(text, "\nnat\n")))
		return true;
	return (!h->known || length < 0) && is_tracking(h);
}

/* ---- the helper: answers ---- */

static void find_families(struct helper *h, struct answer *answer)
{
	look_at_rules(h);
	for (unsigned i = 0; i < FAMILIES; i++)
		answer->families |= may_translate(h, i) ? 1U << i : 0;
}

static void find_origdst(struct helper *h, const struct request *r, struct answer *answer)
{
	if (conntrack_origdst(h->conntrack, r->protocol, &r->local, &r->peer, &answer->seen,
			      NULL) <= 0)
		answer->seen = (struct endpoint){ 0 };
}

static void find_source(struct helper *h, const struct request *r, struct answer *answer)
{
	int found = 0;

	for (unsigned i = 0; i <= h->zones && found == 0; i++)
		found = conntrack_source(h->conntrack, r->protocol, i < h->zones ? h->zone[i] : 0,
					 &r->local, &r->peer, &answer->seen, NULL);
	answer->verdict = TRANSLATION_UNKNOWN;
	if (found > 0)
		answer->verdict = endpoint_equal(&answer->seen, &r->local) ? TRANSLATION_NONE
									   : TRANSLATION_DONE;
}

static bool is_request(const struct request *r, size_t size)
{
	return size == sizeof(*r) &&
	       (r->question == QUESTION_FAMILIES ||
		(r->local.family == r->peer.family &&
		 (r->local.family == AF_INET || r->local.family == AF_INET6)));
}

static struct answer answer_to(struct helper *h, const struct request *r)
{
	struct answer answer = { .verdict = TRANSLATION_UNKNOWN };

	if (r->question == QUESTION_FAMILIES)
		find_families(h, &answer);
	else if (r->question == QUESTION_ORIGDST)
		find_origdst(h, r, &answer);
	else
		find_source(h, r, &answer);
	return answer;
}

static int prepare(void *context, struct failure *why)
{
	struct helper *h = context;

	open_files(h);
	h->conntrack = conntrack_open(why);
	if (!h->conntrack)
		return -1;
	h->rules = netlink_open(NETLINK_NETFILTER, why);
	return h->rules ? 0 : -1;
}

static void run(int channel, void *context)
{
	struct helper *h = context;
	struct request request;

	while (is_request(&request, helper_receive(channel, &request, sizeof(request)))) {
		struct answer answer = answer_to(h, &request);

		if (helper_answer(channel, &answer, sizeof(answer)) < 0)
			return;
	}
}

/* ---- this side ---- */

struct translation {
	struct helper_link helper;
	_Atomic uint64_t looked; /* at the rules: when, in INTERVAL_MS; 0: never */
	_Atomic unsigned families;
};

struct translation *translation_new(const char *name, const struct privilege_user *user,
				    bool sandbox, struct failure *why)
{
	static const int keep[] = { CAP_NET_ADMIN };
	const struct helper_role role = {
		.name = name,
		.prepare = prepare,
		.user = user,
		.keep = keep,
		.kept = 1,
		.sandbox = sandbox ? SANDBOX_NETLINK : 0,
		.run = run,
	};
	struct translation *t = calloc(1, sizeof(*t));
	struct helper helper = { .root = -1 };

	if (!t) {
		report_fail(why, errno, "malloc", "%s", role.name);
		return NULL;
	}
	if (!helper_link_start(&t->helper, &role, &helper, why))
		return t;
	translation_free(t);
	return NULL;
}

void translation_free(struct translation *t)
{
	if (!t)
		return;
	helper_link_end(&t->helper);
	free(t);
}

static bool ask(struct translation *t, const struct request *request, struct answer *answer)
{
	return helper_link_ask(&t->helper, request, sizeof(*request), answer, sizeof(*answer));
}

bool translation_origdst(struct translation *t, const struct endpoint *local,
			 const struct endpoint *client, struct endpoint *origdst)
{
	const struct request request = { QUESTION_ORIGDST, IPPROTO_UDP, *local, *client };
	struct answer answer;

	if (!ask(t, &request, &answer))
		return false;
	*origdst = answer.seen;
	return endpoint_is_set(origdst) && !endpoint_equal(origdst, local);
}

/* Without a helper nothing is known: then every answer is `unknown', which costs nothing. */
bool translation_is_possible(struct translation *t, int family, uint64_t now)
{
	const struct request request = { .question = QUESTION_FAMILIES };
	uint64_t interval = now / INTERVAL_MS + 1;
	struct answer answer;

	if (t->looked != interval) {
		t->families = ask(t, &request, &answer) ? answer.families : ~0U;
		t->looked = interval;
	}
	return t->families >> index_of(family) & 1;
}

enum translation_verdict translation_source(struct translation *t, int protocol,
					    const struct endpoint *local,
					    const struct endpoint *peer, uint64_t now,
					    struct endpoint *seen)
{
	const struct request request = { QUESTION_SOURCE, protocol, *local, *peer };
	struct answer answer;

	if (!translation_is_possible(t, local->family, now))
		return TRANSLATION_NONE;
	if (!ask(t, &request, &answer))
		return TRANSLATION_UNKNOWN;
	*seen = answer.seen;
	return answer.verdict;
}
