/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channel: a request is one byte. The answer is a header with the sizes of the bodies, and the
 * bodies one after the other, in pieces.
 */
#include "tproxy-inspect/export/collector.h"

#include "process/helper.h"
#include "process/sandbox.h"
#include "tproxy-inspect/export/examiner.h"
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PIECE	 32768
#define BODY_MAX (16U << 20) /* of one body: thousands of relays */
#define REQUEST	 'c'

struct header {
	uint32_t healthy;
	uint32_t size[SNAPSHOT_BODIES];
};

struct collector {
	int channel;
	bool begun; /* the header has come */
	struct snapshot snapshot;
	size_t got[SNAPSHOT_BODIES]; /* bytes of each body so far */
};

/* ---- the helper ---- */

static int send_body(int channel, const char *body, size_t size)
{
	for (size_t at = 0; at < size; at += PIECE)
		if (helper_answer(channel, body + at, size - at < PIECE ? size - at : PIECE) < 0)
			return -1;
	return 0;
}

static int send_snapshot(int channel, const struct snapshot *s)
{
	struct header h = { .healthy = s->healthy };

	for (int i = 0; i < SNAPSHOT_BODIES; i++)
		h.size[i] = s->size[i] <= BODY_MAX ? (uint32_t)s->size[i] : 0;
	if (helper_answer(channel, &h, sizeof(h)) < 0)
		return -1;
	for (int i = 0; i < SNAPSHOT_BODIES; i++)
		if (send_body(channel, s->body[i], h.size[i]) < 0)
			return -1;
	return 0;
}

/* What the helper has. */
struct work {
	uint64_t interval; /* of checkups, in milliseconds; 0: none */
	struct examiner *examiner;
};

/* Before the rights are given up that the doctor needs. */
static int prepare(void *context, struct failure *why)
{
	struct work *work = context;
	char text[512];

	if (work->interval && !(work->examiner = examiner_new(work->interval, why)))
		report_warning("%s: the doctor's findings are not exported",
			       report_text(why, text, sizeof(text)));
	return 0;
}

static void run(int channel, void *context)
{
	struct work *work = context;
	char request;
	int result = 0;

	while (result == 0 && helper_receive(channel, &request, 1) == 1 && request == REQUEST) {
		struct snapshot s = { 0 };

		snapshot_take(&s, examiner_results(work->examiner));
		result = send_snapshot(channel, &s);
		snapshot_free(&s);
	}
	examiner_free(work->examiner);
}

/* ---- this side ---- */

struct collector *collector_new(uint64_t interval, bool sandbox, struct failure *why)
{
	static const struct privilege_user same;
	/* The second one for the rules of iptables-legacy. */
	static const int keep[] = { CAP_NET_ADMIN, CAP_NET_RAW };
	const struct helper_role role = {
		.name = "tproxy-collect",
		.user = &same,
		.keep = keep,
		.kept = 2,
		.sandbox = sandbox ? SANDBOX_COLLECT : 0,
		.reads = true,
		.prepare = prepare,
		.run = run,
	};
	struct work work = { .interval = interval };
	struct collector *c = calloc(1, sizeof(*c));

	if (!c) {
		report_fail(why, errno, "malloc", "%s", role.name);
		return NULL;
	}
	c->channel = helper_start(&role, &work, why);
	if (c->channel >= 0)
		return c;
	free(c);
	return NULL;
}

void collector_free(struct collector *c)
{
	if (!c)
		return;
	helper_end(c->channel);
	snapshot_free(&c->snapshot);
	free(c);
}

int collector_fd(const struct collector *c)
{
	return c->channel;
}

/* #syscalls http: send, recv */
int collector_ask(struct collector *c, struct failure *why)
{
	const char request = REQUEST;

	if (send(c->channel, &request, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
		return 0;
	return report_fail(why, errno, "send", "tproxy-collect");
}

static int lose(struct failure *why, const char *what)
{
	report_refuse(why, "%s", what);
	return report_about(why, "tproxy-collect");
}

static int take_header(struct collector *c, const void *message, size_t size, struct failure *why)
{
	struct header h;

	if (size != sizeof(h))
		return lose(why, "no header");
	memcpy(&h, message, sizeof(h));
	c->begun = true;
	c->snapshot.healthy = h.healthy;
	for (int i = 0; i < SNAPSHOT_BODIES; i++) {
		c->got[i] = 0;
		if (!h.size[i])
			continue;
		c->snapshot.body[i] = h.size[i] <= BODY_MAX ? malloc(h.size[i]) : NULL;
		if (!c->snapshot.body[i])
			return report_fail(why, ENOMEM, "malloc", "tproxy-collect");
		c->snapshot.size[i] = h.size[i];
	}
	return 0;
}

static int first_incomplete(const struct collector *c)
{
	int i = 0;

	while (i < SNAPSHOT_BODIES && c->got[i] == c->snapshot.size[i])
		i++;
	return i;
}

static int take_piece(struct collector *c, const void *message, size_t size, struct failure *why)
{
	int i = first_incomplete(c);

	if (i == SNAPSHOT_BODIES || size > c->snapshot.size[i] - c->got[i])
		return lose(why, "a piece that is too long");
	memcpy(c->snapshot.body[i] + c->got[i], message, size);
	c->got[i] += size;
	return 0;
}

int collector_receive(struct collector *c, struct snapshot *s, struct failure *why)
{
	char message[PIECE];
	ssize_t got = recv(c->channel, message, sizeof(message), MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 0
			       : report_fail(why, errno, "recv", "tproxy-collect");
	if (got == 0)
		return lose(why, "it has ended");
	if ((c->begun ? take_piece : take_header)(c, message, (size_t)got, why) < 0)
		return -1;
	if (first_incomplete(c) < SNAPSHOT_BODIES)
		return 0;
	*s = c->snapshot;
	c->snapshot = (struct snapshot){ 0 };
	c->begun = false;
	return 1;
}
