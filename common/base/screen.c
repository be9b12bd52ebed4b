/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/screen.h"

#include <sys/ioctl.h>

/* What a screen has when it does not say; the narrowest that a line is folded for. */
#define SCREEN_WIDTH 80
#define SCREEN_LEAST 40

unsigned screen_columns(int fd)
{
	struct winsize size = { 0 };

	if (ioctl(fd, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return SCREEN_WIDTH;
	return size.ws_col < SCREEN_LEAST ? SCREEN_LEAST : size.ws_col;
}
