/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spec_json - a specification as a JSON object.
 *
 * The members are the keywords of the canonical text (spec_text()), with the lists instead of their
 * digests.
 */
#ifndef TPROXY_SETUP_SPEC_JSON_H
#define TPROXY_SETUP_SPEC_JSON_H

#include "intercept/intercept.h"
#include <jansson.h>

/* The caller releases it; NULL: no memory. The lists must be loaded. */
json_t *spec_json(const struct intercept *spec);

#endif
