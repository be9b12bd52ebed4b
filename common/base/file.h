/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file - the whole text of a small file.
 */
#ifndef TPROXY_BASE_FILE_H
#define TPROXY_BASE_FILE_H

#include <stddef.h>

/* Read it, as far as it has room in text, which then ends with \0; "" if it cannot be read. The
 * path is relative to that descriptor of a directory (openat(2)). */
void file_read(int directory, const char *path, char *text, size_t size);

#endif
