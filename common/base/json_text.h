/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * json_text - a text in an object of jansson.
 */
#ifndef TPROXY_BASE_JSON_TEXT_H
#define TPROXY_BASE_JSON_TEXT_H

#include <jansson.h>

/* The text of that member, borrowed; "" if there is none. */
static inline const char *json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

#endif
