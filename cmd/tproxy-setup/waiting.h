/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * waiting - describe what a command does that is not yet ready for connections.
 */
#ifndef TPROXY_SETUP_WAITING_H
#define TPROXY_SETUP_WAITING_H

#include "intercept/intercept.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Longest text of waiting_describe(), with the terminating NUL. */
#define WAITING_TEXT_MAX 320

/* Say where the specification needs a listener, and what the descendants of `root` have instead:
 * `nothing listens yet`, `haproxy listens at 127.0.0.1:3129, not 3130`. Returns buf. */
const char *waiting_describe(const struct intercept *spec, pid_t root, char buf[WAITING_TEXT_MAX]);

/* Does a descendant of `root` listen for what the specification intercepts? */
bool waiting_is_served(const struct intercept *spec, pid_t root);

#endif
