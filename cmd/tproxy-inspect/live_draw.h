/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * live_draw - draws the live screen, with ncurses.
 */
#ifndef TPROXY_INSPECT_LIVE_DRAW_H
#define TPROXY_INSPECT_LIVE_DRAW_H

#include "tproxy-inspect/live_rows.h"
#include <stdbool.h>
#include <stddef.h>

/* The smallest screen that it fits on. */
#define LIVE_DRAW_COLUMNS 60
#define LIVE_DRAW_LINES	  10

/* What the screen shows. */
struct live_picture {
	const struct live_rows *rows;
	const struct live_choice *choice;
	size_t top, selected;
	bool frozen, help;
	unsigned long connections; /* that are open */
	double opens, closes;	   /* a second */
	const char *filter;	   /* as typed, or "" */
	const char *message;	   /* in the last line, instead of the keys; or "" */
	const char *typed_line;	   /* what is typed there, and after which word; or NULL */
	bool lost;		   /* events were lost of late */
};

/* Begin and end the use of the terminal. False: the terminal lacks the capabilities. */
bool live_draw_begin(void);
void live_draw_end(void);

/* The number of list rows that fit; 0: the terminal is too small. */
size_t live_draw_room(void);

void live_draw(const struct live_picture *p);

#endif
