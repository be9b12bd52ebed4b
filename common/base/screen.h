/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * screen - how wide a terminal is.
 */
#ifndef TPROXY_BASE_SCREEN_H
#define TPROXY_BASE_SCREEN_H

/* Characters in a line of the terminal on fd: 80 when it does not say, and not fewer than 40. */
unsigned screen_columns(int fd);

#endif
