/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 *	tproxy-inspect watch   12 connections  +3.1/s -2.9/s   up 1.2M/s  down 30M/s
 *	[connections] clients destinations   sort rate   filter client=192.0.2.2
 *	CLIENT                 ORIGDST                STATE      UP/s  DOWN/s   IDLE
 *	...
 *	(the selected one in full)
 *	q quit  s sort ...
 *
 * Everything is redrawn each time; ncurses sends what has changed. Foreign texts (names of programs
 * and interfaces) are sanitised before they get here, or on the way.
 */
#include "tproxy-inspect/live_draw.h"

#include "base/clock.h"
#include "base/plain.h"
#include <curses.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_LINES 3
#define FOOT_LINES 3
#define TEXT_MAX   256

enum { COLOUR_WELL = 1, COLOUR_STUCK, COLOUR_NAME };

static SCREEN *screen;

bool live_draw_begin(void)
{
	const char *no = getenv("NO_COLOR");

	setlocale(LC_CTYPE, "");
	screen = newterm(NULL, stdout, stdin);
	if (!screen)
		return false;
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(50);
	curs_set(0);
	if (!(no && *no) && has_colors()) {
		start_color();
		use_default_colors();
		init_pair(COLOUR_WELL, COLOR_GREEN, -1);
		init_pair(COLOUR_STUCK, COLOR_RED, -1);
		init_pair(COLOUR_NAME, COLOR_CYAN, -1);
	}
	return true;
}

void live_draw_end(void)
{
	if (!screen)
		return;
	endwin();
	delscreen(screen);
	screen = NULL;
}

size_t live_draw_room(void)
{
	if (COLS < LIVE_DRAW_COLUMNS || LINES < LIVE_DRAW_LINES)
		return 0;
	return (size_t)(LINES - HEAD_LINES - FOOT_LINES);
}

/* Without colours the pair is plain text. */
static int colour(int pair)
{
	return has_colors() && COLOR_PAIRS > COLOUR_NAME ? COLOR_PAIR(pair) : 0;
}

static const char *name_view(enum live_view view)
{
	static const char *const names[] = { "connections", "clients", "destinations" };

	return names[view];
}

static const char *name_order(enum live_order order)
{
	static const char *const names[] = { "rate", "bytes", "idle", "age", "name" };

	return names[order];
}

/* `999`, `1.2K`, `34M`: at most 5 characters. */
static const char *format_size(double n, char buf[16])
{
	static const char units[] = " KMGTP";
	size_t unit = 0;

	while (n >= 999.5 && unit + 2 < sizeof(units)) {
		n /= 1024;
		unit++;
	}
	if (!unit)
		snprintf(buf, 16, "%.0f", n);
	else
		snprintf(buf, 16, n < 9.95 ? "%.1f%c" : "%.0f%c", n, units[unit]);
	return buf;
}

/* `850ms`, `12s`, `5m`, `3h`, `2d`. */
static const char *format_time(uint64_t ms, char buf[16])
{
	if (ms < 1000)
		snprintf(buf, 16, "%ums", (unsigned)ms);
	else if (ms < 100 * 1000)
		snprintf(buf, 16, "%us", (unsigned)(ms / 1000));
	else if (ms < 100 * 60000)
		snprintf(buf, 16, "%um", (unsigned)(ms / 60000));
	else if (ms < 48 * 3600000ULL)
		snprintf(buf, 16, "%uh", (unsigned)(ms / 3600000));
	else
		snprintf(buf, 16, "%ud", (unsigned)(ms / 86400000));
	return buf;
}

/* The name of an interface may be anything. Without a port the address alone. */
static const char *format_end(const struct endpoint *e, char buf[TEXT_MAX])
{
	char raw[ENDPOINT_TEXT_MAX];

	if (!endpoint_is_set(e))
		return "-";
	plain_copy(buf, TEXT_MAX,
		   e->port ? endpoint_format(e, raw) : endpoint_format_address(e, raw));
	return buf;
}

/* In `width` characters; what is too long loses its middle, as its end has the port. */
static void put_end(int width, const struct endpoint *e)
{
	char buf[TEXT_MAX];
	const char *text = format_end(e, buf);
	int length = (int)strlen(text), tail = width * 2 / 3;

	if (length <= width)
		printw("%-*s ", width, text);
	else
		printw("%.*s~%s ", width - tail - 1, text, text + length - tail);
}

/* Begin a line. What was too long for the one before has gone on here. */
static void begin_line(int line)
{
	move(line, 0);
	clrtoeol();
}

static void put_title(const struct live_picture *p)
{
	char up[16], down[16];

	attron(A_BOLD);
	mvprintw(0, 0, "watch");
	attroff(A_BOLD);
	printw("  %lu open  +%.1f/s -%.1f/s  up %s/s  down %s/s", p->connections, p->opens,
	       p->closes, format_size(p->rows->rate_up, up), format_size(p->rows->rate_down, down));
	if (p->lost)
		printw("  events lost");
	if (p->frozen) {
		attron(A_REVERSE);
		mvprintw(0, COLS - 8, " FROZEN ");
		attroff(A_REVERSE);
	}
}

static void put_choice(const struct live_picture *p)
{
	begin_line(1);
	for (int view = 0; view < LIVE_VIEWS; view++) {
		bool chosen = view == (int)p->choice->view;

		printw(chosen ? "[%s] " : " %s  ", name_view((enum live_view)view));
	}
	printw(" sort %s%s", name_order(p->choice->order), p->choice->reverse ? " (reversed)" : "");
	if (*p->filter)
		printw("  filter %.*s", COLS > 70 ? COLS - 62 : 10, p->filter);
}

/* Of the two columns of endpoints, or the one. */
static int end_width(enum live_view view)
{
	return view == LIVE_CONNECTIONS ? (COLS - 38) / 2 : COLS - 46;
}

static void put_heading(enum live_view view)
{
	int width = end_width(view);

	attron(A_REVERSE);
	mvprintw(2, 0, "%*s", COLS, "");
	if (view == LIVE_CONNECTIONS)
		mvprintw(2, 0, "%-*s %-*s %-13s %6s %6s %6s", width, "CLIENT", width, "ORIGDST",
			 "STATE", "UP/s", "DOWN/s", "IDLE");
	else
		mvprintw(2, 0, "%-*s %5s %5s %6s %6s %6s %6s %5s", width,
			 view == LIVE_CLIENTS ? "CLIENT" : "ORIGDST", "CONNS", "STUCK", "UP/s",
			 "DOWN/s", "UP", "DOWN", "IDLE");
	attroff(A_REVERSE);
}

static void put_state(const struct live_row *row)
{
	int pair = row->stuck ? COLOUR_STUCK : strcmp(row->state, "ESTAB") == 0 ? COLOUR_WELL : 0;

	attron(colour(pair));
	printw("%-13.13s", row->stuck ? row->stuck : row->state);
	attroff(colour(pair));
}

static void put_row(const struct live_row *row, enum live_view view)
{
	char up[16], down[16], all_up[16], all_down[16], idle[16];
	int width = end_width(view);

	format_size(row->rate_up, up);
	format_size(row->rate_down, down);
	format_time(row->idle_ms, idle);
	if (view == LIVE_CONNECTIONS) {
		put_end(width, &row->client);
		put_end(width, &row->origdst);
		put_state(row);
		printw(" %6s %6s %6s", up, down, idle);
		return;
	}
	put_end(width, view == LIVE_CLIENTS ? &row->client : &row->origdst);
	printw("%5u %5u %6s %6s %6s %6s %5s", row->connections, row->stuck_count, up, down,
	       format_size((double)row->bytes_up, all_up),
	       format_size((double)row->bytes_down, all_down), idle);
}

static void put_rows(const struct live_picture *p)
{
	size_t room = live_draw_room();

	for (size_t i = 0; i < room && p->top + i < p->rows->count; i++) {
		bool selected = p->top + i == p->selected;

		move(HEAD_LINES + (int)i, 0);
		if (selected)
			attron(A_BOLD | A_UNDERLINE);
		put_row(&p->rows->at[p->top + i], p->choice->view);
		if (selected)
			attroff(A_BOLD | A_UNDERLINE);
	}
	if (!p->rows->count)
		mvprintw(HEAD_LINES + 1, 2,
			 *p->filter ? "no connection matches the filter" : "no connection is open");
}

/* What the columns have cut, of the selected row. */
static void put_detail(const struct live_picture *p)
{
	const struct live_row *row;
	char a[TEXT_MAX], b[TEXT_MAX], up[16], down[16], age[16], prog[TEXT_MAX];

	if (p->selected >= p->rows->count)
		return;
	row = &p->rows->at[p->selected];
	attron(colour(COLOUR_NAME));
	mvprintw(LINES - 3, 0, "%s -> %s", format_end(&row->client, a),
		 format_end(&row->origdst, b));
	attroff(colour(COLOUR_NAME));
	begin_line(LINES - 2);
	if (endpoint_is_set(&row->upstream))
		printw("as %s to %s  ", format_end(&row->upstream_local, a),
		       format_end(&row->upstream, b));
	printw("%s up, %s down", format_size((double)row->bytes_up, up),
	       format_size((double)row->bytes_down, down));
	if (row->opened_us)
		printw(", %s old", format_time((clock_us() - row->opened_us) / 1000, age));
	plain_copy(prog, sizeof(prog), row->owner.name);
	if (row->owner.pid)
		printw(", %s (pid %d)", prog, (int)row->owner.pid);
}

static void put_foot(const struct live_picture *p)
{
	begin_line(LINES - 1);
	if (p->typed_line)
		printw("%.*s", COLS - 1, p->typed_line);
	else if (*p->message)
		printw("%.*s", COLS - 1, p->message);
	else
		printw("%.*s", COLS - 1,
		       "q quit  TAB view  s sort  r reverse  / filter  SPACE freeze  k kill  ? "
		       "help");
}

static void put_help(void)
{
	static const char *const lines[] = {
		"TAB, 1 2 3     connections, clients, destinations",
		"s, r           sort by rate, bytes, idle, age, name; reverse",
		"/              filter: client=192.0.2.0/24 bytes_down>1M stuck!=no",
		"arrows, j, PgUp, PgDn, Home, End   select",
		"SPACE          freeze, and go on",
		"k              reset what is selected, both halves (asks first)",
		"q              quit",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines) && (int)i + HEAD_LINES < LINES - 1;
	     i++)
		mvprintw(HEAD_LINES + (int)i, 2, "%.*s", COLS - 3, lines[i]);
}

static void put_too_small(void)
{
	mvprintw(0, 0, "%.*s", COLS, "terminal too small:");
	mvprintw(1, 0, "needs %dx%d, has %dx%d", LIVE_DRAW_COLUMNS, LIVE_DRAW_LINES, COLS, LINES);
	mvprintw(2, 0, "q quits");
}

void live_draw(const struct live_picture *p)
{
	erase();
	if (!live_draw_room()) {
		put_too_small();
	} else {
		put_title(p);
		put_choice(p);
		put_heading(p->choice->view);
		if (p->help)
			put_help();
		else
			put_rows(p);
		put_detail(p);
		put_foot(p);
	}
	refresh();
}
