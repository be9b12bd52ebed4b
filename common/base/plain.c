/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/plain.h"

#include <stdio.h>
#include <string.h>

size_t plain_length(const unsigned char *p)
{
	unsigned low = 0x80, high = 0xbf;
	size_t length;

	if (*p < 0x80)
		return 1;
	if (*p < 0xc2 || *p > 0xf4)
		return 0;
	length = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
	if (*p == 0xe0)
		low = 0xa0;
	else if (*p == 0xed)
		high = 0x9f;
	else if (*p == 0xf0)
		low = 0x90;
	else if (*p == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

bool plain_may_show(const unsigned char *p, size_t length)
{
	if (length == 1)
		return *p >= ' ' && *p != 0x7f;
	if (length == 2)
		return p[0] != 0xc2 || p[1] >= 0xa0;
	if (length != 3 || p[0] != 0xe2)
		return true;
	if (p[1] == 0x80)
		return p[2] != 0x8e && p[2] != 0x8f && (p[2] < 0xaa || p[2] > 0xae);
	return p[1] != 0x81 || p[2] < 0xa6 || p[2] > 0xa9;
}

size_t plain_copy(char *buf, size_t room, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t used = 0;

	while (*p) {
		size_t length = plain_length(p);
		bool show = length && plain_may_show(p, length);
		size_t needed = show ? length : 4;

		if (used + needed >= room)
			break;
		if (show)
			memcpy(buf + used, p, length);
		else
			snprintf(buf + used, room - used, "\\%03o", *p);
		used += needed;
		p += show ? length : 1;
	}
	buf[used] = '\0';
	return used;
}
