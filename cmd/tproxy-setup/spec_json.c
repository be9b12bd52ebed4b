/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/spec_json.h"

#include "intercept/spec_text.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_repeatable(const char *key)
{
	static const char *const keys[] = { "iif",     "not-mark", "uid",    "gid",
					    "not-uid", "not-gid",  "cgroup", "not-cgroup" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

/* The canonical text's keywords as members; repeatable ones as arrays. */
static json_t *words_json(const struct intercept *spec)
{
	char text[INTERCEPT_TEXT_MAX], *rest = text, *token;
	json_t *object = json_object();

	spec_text(spec, text);
	while ((token = strsep(&rest, " "))) {
		char *value = strchr(token, '=');
		json_t *list;

		if (!value)
			continue;
		*value++ = '\0';
		if (!strcmp(token, "v"))
			continue;
		list = json_object_get(object, token);
		if (is_repeatable(token)) {
			if (!list) {
				list = json_array();
				json_object_set_new(object, token, list);
			}
			json_array_append_new(list, json_string(value));
		} else {
			json_object_set_new(object, token, json_string(value));
		}
	}
	return object;
}

static json_t *list_json(const struct intercept *spec, enum intercept_list_id id)
{
	json_t *list = json_array();
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; intercept_lists[id].is_ports && i < intercept_ports(spec, id)->count;
	     i++) {
		const struct port_range *r = &intercept_ports(spec, id)->at[i];

		snprintf(text, sizeof(text), r->first == r->last ? "%u" : "%u-%u", r->first,
			 r->last);
		json_array_append_new(list, json_string(text));
	}
	for (size_t i = 0; !intercept_lists[id].is_ports && i < intercept_cidrs(spec, id)->count;
	     i++)
		json_array_append_new(list, json_string(endpoint_format_cidr(
						    &intercept_cidrs(spec, id)->at[i], text)));
	return list;
}

json_t *spec_json(const struct intercept *spec)
{
	json_t *object = words_json(spec);

	for (int id = 0; id < INTERCEPT_LISTS; id++)
		if (intercept_digest_of(spec, id).count)
			json_object_set_new(object, intercept_lists[id].name, list_json(spec, id));
	return object;
}
