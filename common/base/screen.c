/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/screen.h"

#include <sys/ioctl.h>

/* The width of a screen that does not say; the narrowest width at which lines are folded. */
#define SCREEN_WIDTH 80
#define SCREEN_LEAST 40

unsigned screen_columns(int fd)
{
	struct winsize size = { 0 };

	if (ioctl(fd, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return SCREEN_WIDTH;
	return size.ws_col < SCREEN_LEAST ? SCREEN_LEAST : size.ws_col;
}
