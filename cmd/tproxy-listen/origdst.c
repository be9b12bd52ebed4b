/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/origdst.h"

#include "net/conntrack.h"
#include "process/helper.h"
#include "process/sandbox.h"
#include <linux/capability.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

struct origdst {
	int channel; /* -1: the helper is gone */
};

struct request {
	struct endpoint local, client;
};

/* ---- the helper ---- */

static bool is_request(const struct request *r, size_t size)
{
	return size == sizeof(*r) && r->local.family == r->client.family &&
	       (r->local.family == AF_INET || r->local.family == AF_INET6);
}

static int prepare(void *context, struct failure *why)
{
	struct conntrack **conntrack = context;

	*conntrack = conntrack_open(why);
	return *conntrack ? 0 : -1;
}

static void run(int channel, void *context)
{
	struct conntrack **conntrack = context;
	struct request request;

	while (is_request(&request, helper_receive(channel, &request, sizeof(request)))) {
		struct endpoint origdst = { 0 };

		if (conntrack_origdst(*conntrack, IPPROTO_UDP, &request.local, &request.client,
				      &origdst, NULL) <= 0)
			origdst = (struct endpoint){ 0 };
		if (helper_answer(channel, &origdst, sizeof(origdst)) < 0)
			return;
	}
}

/* ---- this side ---- */

struct origdst *origdst_new(const struct privilege_user *user, bool sandbox)
{
	static const int keep[] = { CAP_NET_ADMIN };
	const struct helper_role role = {
		.name = "tproxy-origdst",
		.prepare = prepare,
		.user = user,
		.keep = keep,
		.kept = 1,
		.sandbox = sandbox ? SANDBOX_NETLINK : 0,
		.run = run,
	};
	struct conntrack *conntrack = NULL;
	struct origdst *o = privilege_has(CAP_NET_ADMIN) ? malloc(sizeof(*o)) : NULL;

	if (!o)
		return NULL;
	o->channel = helper_start(&role, &conntrack, NULL);
	if (o->channel >= 0)
		return o;
	free(o);
	return NULL;
}

bool origdst_find(struct origdst *o, const struct endpoint *local, const struct endpoint *client,
		  struct endpoint *origdst)
{
	const struct request request = { *local, *client };

	if (o->channel < 0)
		return false;
	if (helper_ask(o->channel, &request, sizeof(request), origdst, sizeof(*origdst)) ==
	    (ssize_t)sizeof(*origdst))
		return endpoint_is_set(origdst) && !endpoint_equal(origdst, local);
	close(o->channel);
	o->channel = -1;
	return false;
}

void origdst_free(struct origdst *o)
{
	if (!o)
		return;
	helper_end(o->channel);
	free(o);
}
