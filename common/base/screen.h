/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * screen - the width of a terminal.
 */
#ifndef TPROXY_BASE_SCREEN_H
#define TPROXY_BASE_SCREEN_H

/* Characters per line of the terminal on fd: 80 if it does not say, and at least 40. */
unsigned screen_columns(int fd);

#endif
