/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/live.h"

#include "base/clock.h"
#include "tproxy-inspect/live_draw.h"
#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DRAW_MS	   1000
#define FILTER_MAX 128

/* What is typed into the last line. */
enum typing { TYPING_NOTHING, TYPING_FILTER, TYPING_CONFIRM };

struct live {
	struct filter filter;
	struct tracking *tracking;
	struct live_choice choice;
	struct condition *only;
	struct live_rows rows;
	size_t top, selected;
	bool frozen, help, over;
	enum typing typing;
	struct live_row
		victim; /* of TYPING_CONFIRM: what is asked about, whatever is selected then */
	char filter_text[FILTER_MAX], typed[FILTER_MAX];
	char message[256];
	unsigned long opens, closes; /* since the rates were counted */
	double open_rate, close_rate;
	uint64_t counted_us, lost_us, deadline_us;
};

static volatile sig_atomic_t ended;

static void end(int signo)
{
	ended = signo;
}

static void listen_events(enum tracking_event event, const struct tracked *c, void *context)
{
	struct live *l = context;

	if (event == TRACKING_OPEN)
		l->opens++;
	else if (event == TRACKING_CLOSE)
		l->closes++;
	else
		l->lost_us = clock_us();
}

/* ---- what is shown ---- */

static void count_rates(struct live *l)
{
	uint64_t now = clock_us();
	double seconds = (double)(now - l->counted_us) / 1e6;

	if (seconds < 2)
		return;
	l->open_rate = (double)l->opens / seconds;
	l->close_rate = (double)l->closes / seconds;
	l->opens = l->closes = 0;
	l->counted_us = now;
}

/* The selected row stays selected, wherever the order has moved it. */
static void find_selected(struct live *l, const struct live_row *row)
{
	for (size_t i = 0; row && i < l->rows.count; i++)
		if (live_rows_same(&l->rows.at[i], row)) {
			l->selected = i;
			break;
		}
	if (l->selected >= l->rows.count)
		l->selected = l->rows.count ? l->rows.count - 1 : 0;
}

static void scroll_to_selected(struct live *l)
{
	size_t room = live_draw_room();

	if (l->selected < l->top)
		l->top = l->selected;
	if (room && l->selected >= l->top + room)
		l->top = l->selected - room + 1;
}

/* `keep`: follow the selected row. */
static int read_rows(struct live *l, bool keep, struct failure *why)
{
	bool has = keep && l->selected < l->rows.count && l->selected > 0;
	struct live_row row = has ? l->rows.at[l->selected] : (struct live_row){ 0 };

	if (live_rows_read(&l->rows, l->tracking, &l->choice, why))
		return -1;
	find_selected(l, has ? &row : NULL);
	return 0;
}

static void draw(struct live *l)
{
	char typed_line[FILTER_MAX + 16];
	struct live_picture p = {
		.rows = &l->rows,
		.choice = &l->choice,
		.frozen = l->frozen,
		.help = l->help,
		.connections = tracking_count(l->tracking),
		.opens = l->open_rate,
		.closes = l->close_rate,
		.filter = l->filter_text,
		.message = l->message,
		.lost = l->lost_us && clock_us() - l->lost_us < 10000000,
	};

	scroll_to_selected(l);
	p.top = l->top;
	p.selected = l->selected;
	if (l->typing == TYPING_FILTER) {
		snprintf(typed_line, sizeof(typed_line), "filter: %s_", l->typed);
		p.typed_line = typed_line;
	}
	live_draw(&p);
}

/* ---- ending connections ---- */

struct killing {
	struct live *live;
	struct live_row row;
	struct sockdiag *diag;
	unsigned ended;
	struct failure why;
};

static void kill_half(struct killing *k, const struct sockdiag_socket *s)
{
	struct failure why = { 0 };

	if (!sockdiag_destroy(k->diag, s, &why))
		k->ended++;
	else if (why.err != ENOENT)
		k->why = why;
}

static int kill_connection(const struct tracked *c, void *context)
{
	struct killing *k = context;
	struct pairing_pair pair = tracking_pair(c);
	struct sockdiag_socket s[2];
	unsigned count;

	if (!live_rows_has(&k->row, c, &k->live->choice))
		return 0;
	count = pairing_sockets(&pair, s);
	for (unsigned i = 0; i < count; i++)
		kill_half(k, &s[i]);
	return 0;
}

static void kill_selected(struct live *l)
{
	struct killing k = { .live = l, .row = l->victim };
	char text[200];

	k.diag = sockdiag_open(&k.why);
	if (k.diag)
		tracking_each(l->tracking, kill_connection, &k);
	sockdiag_close(k.diag);
	if (k.why.err)
		snprintf(l->message, sizeof(l->message), "%s",
			 report_text(&k.why, text, sizeof(text)));
	else
		snprintf(l->message, sizeof(l->message), "reset %u sockets", k.ended);
}

static void ask_to_kill(struct live *l)
{
	if (l->selected >= l->rows.count)
		return;
	snprintf(l->message, sizeof(l->message), "reset %u connection%s of the selected line? y/n",
		 l->rows.at[l->selected].connections,
		 l->rows.at[l->selected].connections == 1 ? "" : "s");
	l->victim = l->rows.at[l->selected];
	l->typing = TYPING_CONFIRM;
}

/* ---- keys ---- */

static void take_filter(struct live *l)
{
	struct failure why = { 0 };
	struct condition *only = NULL;

	if (*l->typed && !(only = condition_parse(l->typed, live_rows_fields(), &why))) {
		report_text(&why, l->message, sizeof(l->message));
		return;
	}
	condition_free(l->only);
	l->choice.only = l->only = only;
	memcpy(l->filter_text, l->typed, sizeof(l->filter_text));
	l->selected = 0;
}

static void type_filter(struct live *l, int key)
{
	size_t length = strlen(l->typed);

	if (key == '\r' || key == '\n' || key == KEY_ENTER) {
		l->typing = TYPING_NOTHING;
		take_filter(l);
	} else if (key == 27) {
		l->typing = TYPING_NOTHING;
	} else if (key == 'U' - '@') {
		l->typed[0] = '\0';
	} else if (key == KEY_BACKSPACE || key == 127 || key == 8) {
		if (length)
			l->typed[length - 1] = '\0';
	} else if (key >= ' ' && key < 127 && length + 1 < sizeof(l->typed)) {
		l->typed[length] = (char)key;
		l->typed[length + 1] = '\0';
	}
}

static void move_selected(struct live *l, long by)
{
	long at = (long)l->selected + by, last = (long)l->rows.count - 1;

	l->selected = at < 0 || last < 0 ? 0 : (size_t)(at > last ? last : at);
}

static bool take_move(struct live *l, int key)
{
	long page = (long)live_draw_room(), all = (long)l->rows.count;

	switch (key) {
	case KEY_UP:
		move_selected(l, -1);
		return true;
	case KEY_DOWN:
	case 'j':
		move_selected(l, 1);
		return true;
	case KEY_PPAGE:
		move_selected(l, -page);
		return true;
	case KEY_NPAGE:
		move_selected(l, page);
		return true;
	case KEY_HOME:
		move_selected(l, -all);
		return true;
	case KEY_END:
		move_selected(l, all);
		return true;
	default:
		return false;
	}
}

static void choose_view(struct live *l, int view)
{
	l->choice.view = (enum live_view)(view % LIVE_VIEWS);
	l->selected = l->top = 0;
}

static void take_command(struct live *l, int key)
{
	switch (key) {
	case 'q':
		l->over = true;
		break;
	case '\t':
		choose_view(l, (int)l->choice.view + 1);
		break;
	case '1':
	case '2':
	case '3':
		choose_view(l, key - '1');
		break;
	case 's':
		l->choice.order = (enum live_order)((l->choice.order + 1) % LIVE_ORDERS);
		break;
	case 'r':
		l->choice.reverse = !l->choice.reverse;
		break;
	case ' ':
		l->frozen = !l->frozen;
		break;
	case '/':
		memcpy(l->typed, l->filter_text, sizeof(l->typed));
		l->typing = TYPING_FILTER;
		break;
	case 'k':
		ask_to_kill(l);
		break;
	case '?':
	case 'h':
		l->help = !l->help;
		break;
	}
}

static void take_key(struct live *l, int key)
{
	if (key == KEY_RESIZE)
		return;
	if (l->typing == TYPING_FILTER) {
		type_filter(l, key);
		return;
	}
	l->message[0] = '\0';
	if (l->typing == TYPING_CONFIRM) {
		l->typing = TYPING_NOTHING;
		if (key == 'y')
			kill_selected(l);
	} else if (!take_move(l, key)) {
		take_command(l, key);
	}
}

/* Another order or view of what is frozen is of now. */
static int take_keys(struct live *l, struct failure *why)
{
	int key, err = 0;

	while (!err && (key = getch()) != ERR) {
		const struct live_choice before = l->choice;

		take_key(l, key);
		if (memcmp(&before, &l->choice, sizeof(before)) != 0)
			err = read_rows(l, before.view == l->choice.view, why);
	}
	return err;
}

/* ---- turns ---- */

static int wait_ms(const struct live *l)
{
	int wait = tracking_wait_ms(l->tracking);

	return wait < DRAW_MS ? wait : DRAW_MS;
}

static int turn(struct live *l, struct failure *why)
{
	struct pollfd p[] = { { .fd = STDIN_FILENO, .events = POLLIN },
			      { .fd = tracking_fd(l->tracking), .events = POLLIN } };
	bool due;

	if (poll(p, 2, wait_ms(l)) < 0 && errno != EINTR)
		return report_fail(why, errno, "poll", "watch");
	if (p[0].revents & (POLLHUP | POLLERR))
		l->over = true;
	due = tracking_wait_ms(l->tracking) == 0;
	if (tracking_turn(l->tracking, why))
		return -1;
	count_rates(l);
	if (due && !l->frozen && read_rows(l, true, why))
		return -1;
	if (take_keys(l, why))
		return -1;
	draw(l);
	return 0;
}

static bool is_over(const struct live *l)
{
	return l->over || ended || (l->deadline_us && clock_us() >= l->deadline_us);
}

/* ncurses has handlers of its own where there are none, which exit at once. */
static void catch_signals(void)
{
	const struct sigaction action = { .sa_handler = end };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static int run(struct live *l, struct failure *why)
{
	int err = read_rows(l, false, why);

	l->counted_us = clock_us();
	if (!err)
		draw(l);
	while (!err && !is_over(l))
		err = turn(l, why);
	return err;
}

int live_run(const struct config *config)
{
	struct live l = { .filter = config->filter };
	struct failure why = { 0 };
	int err = -1, verbosity = report_verbosity();

	catch_signals();
	l.tracking = tracking_new(&l.filter, true, listen_events, &l, &why);
	if (!l.tracking)
		return report_failure(&why, STATUS_REFUSED);
	if (config->timeout)
		l.deadline_us = clock_us() + config->timeout * 1000;
	if (!live_draw_begin()) {
		tracking_free(l.tracking);
		return -1;
	}
	report_set_verbosity(-1); /* a notice would stand in the screen */
	err = run(&l, &why);
	live_draw_end();
	report_set_verbosity(verbosity);
	tracking_free(l.tracking);
	live_rows_free(&l.rows);
	condition_free(l.only);
	if (err)
		return report_failure(&why, STATUS_REFUSED);
	return ended && ended != SIGHUP ? STATUS_SIGNALLED + ended : STATUS_DONE;
}
