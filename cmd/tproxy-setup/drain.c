/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/drain.h"

#include "net/sockdiag.h"
#include <errno.h>

/* What remains of closed connections counts when there is nothing else. */
static void destroy_all(struct sockdiag *diag, const struct legs *legs, struct drain *drain)
{
	struct failure reason = { 0 };

	for (size_t i = 0; i < legs->count; i++) {
		if (!sockdiag_destroy(diag, &legs->at[i].socket, &reason) || reason.err == ENOENT)
			continue;
		drain->why = reason;
		drain->kept += !legs->living || !legs->at[i].remains;
	}
}

int drain_look(const struct legs_question *question, bool destroy, struct drain *drain,
	       struct failure *why)
{
	struct legs legs;
	struct sockdiag *diag = NULL;
	int err = legs_find(question, &legs, why);

	*drain = (struct drain){ .connections = legs.connections, .sockets = legs.living };
	if (!err && legs.count && (destroy || !legs.living)) {
		diag = sockdiag_open(why);
		err = diag ? 0 : -1;
	}
	if (diag)
		destroy_all(diag, &legs, drain);
	sockdiag_close(diag);
	legs_free(&legs);
	return err;
}
