/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * origdst - where a redirected datagram was going: only conntrack knows, and asking it takes
 * CAP_NET_ADMIN. So a helper does, and the service need not have it.
 */
#ifndef TPROXY_LISTEN_ORIGDST_H
#define TPROXY_LISTEN_ORIGDST_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>

struct origdst;

/* Start it, as that user, while there is one thread and before privileges are dropped. NULL: conntrack may
 * not be asked, or is not there. */
struct origdst *origdst_new(const struct privilege_user *user, bool sandbox);

/* False: what came from that client was going to the local end itself, as far as is known. */
bool origdst_find(struct origdst *o, const struct endpoint *local, const struct endpoint *client,
		  struct endpoint *origdst);

void origdst_free(struct origdst *o);

#endif
