/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * libmicrohttpd runs one thread for each listener, with epoll. A request that finds no fresh
 * snapshot is suspended; server_publish() resumes it, and it is answered from whatever snapshot
 * there is then: that was begun after the request came, or not long before. Every connection has
 * one request, so its age bounds what it costs, however slowly its bytes come.
 *
 * Everything that the threads share is behind the lock: the snapshot, who waits, who is connected.
 */
#include "tproxy-inspect/export/server.h"

#include "base/clock.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TEXT_TYPE	 "text/plain; version=0.0.4; charset=utf-8"
#define OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

#define DAEMONS	    2 /* one for each family */
#define CONNECTIONS (DAEMONS * SERVER_CONNECTIONS)

struct visitor {
	int fd; /* -1: none */
	uint64_t since;
};

struct server {
	struct MHD_Daemon *daemons[DAEMONS];
	void (*wanted)(void *context);
	void *context;
	pthread_mutex_t lock; /* guards the rest */
	struct snapshot snapshot;
	uint64_t taken; /* when; 0: never */
	bool ending;
	struct MHD_Connection *waiting[CONNECTIONS];
	size_t waits;
	struct visitor visitors[CONNECTIONS];
};

/* How far a request has come, as libmicrohttpd keeps it for us. */
static char waited;

/* ---- answers ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type,
			      const char *body, size_t size)
{
	/* (The copy is libmicrohttpd's; it does not write to ours.) */
	struct MHD_Response *r = MHD_create_response_from_buffer(size, (char *)body,
								 MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *text)
{
	return answer(c, status, "text/plain; charset=utf-8", text, strlen(text));
}

static bool is_health(const char *url)
{
	return strcmp(url, "/healthz") == 0;
}

static bool wants_openmetrics(struct MHD_Connection *c)
{
	const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_ACCEPT);

	return accept && strstr(accept, "application/openmetrics-text");
}

/* The lock is held. */
static enum MHD_Result answer_from(const struct snapshot *s, struct MHD_Connection *c,
				   const char *url)
{
	static const char *const types[] = {
		[SNAPSHOT_TEXT] = TEXT_TYPE,
		[SNAPSHOT_OPENMETRICS] = OPENMETRICS_TYPE,
		[SNAPSHOT_HEALTH] = "application/json",
	};
	enum snapshot_body which = is_health(url)	  ? SNAPSHOT_HEALTH
				   : wants_openmetrics(c) ? SNAPSHOT_OPENMETRICS
							  : SNAPSHOT_TEXT;
	bool bad = which == SNAPSHOT_HEALTH ? !s->healthy : !s->body[which];

	if (!s->body[which])
		return answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, "no state could be read\n");
	return answer(c, bad ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, types[which],
		      s->body[which], s->size[which]);
}

/* ---- requests ---- */

/* The lock is held, so that nobody resumes it before it is suspended. */
static void wait_for_snapshot(struct server *s, struct MHD_Connection *c, void **state)
{
	*state = &waited;
	MHD_suspend_connection(c);
	s->waiting[s->waits++] = c;
	s->wanted(s->context);
}

static enum MHD_Result serve(struct server *s, struct MHD_Connection *c, const char *url,
			     void **state)
{
	enum MHD_Result result = MHD_YES;

	pthread_mutex_lock(&s->lock);
	if (s->ending)
		result = answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, "ending\n");
	else if (*state == &waited || (s->taken && clock_ms() - s->taken < SERVER_FRESH_MS))
		result = answer_from(&s->snapshot, c, url);
	else if (s->waits < CONNECTIONS)
		wait_for_snapshot(s, c, state);
	else
		result = MHD_NO;
	pthread_mutex_unlock(&s->lock);
	return result;
}

/* What a request carries besides its headers is not read: it is answered, and closed. */
static enum MHD_Result handle_request(void *context, struct MHD_Connection *c, const char *url,
				      const char *method, const char *version, const char *upload,
				      size_t *upload_size, void **state)
{
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (strcmp(url, "/metrics") != 0 && !is_health(url))
		return answer_text(c, MHD_HTTP_NOT_FOUND, "there are /metrics and /healthz\n");
	return serve(context, c, url, state);
}

bool server_waits(struct server *s)
{
	bool waits;

	pthread_mutex_lock(&s->lock);
	waits = s->waits;
	pthread_mutex_unlock(&s->lock);
	return waits;
}

/* The lock is held. */
static void resume_all(struct server *s)
{
	for (size_t i = 0; i < s->waits; i++)
		MHD_resume_connection(s->waiting[i]);
	s->waits = 0;
}

void server_publish(struct server *s, struct snapshot *snapshot)
{
	pthread_mutex_lock(&s->lock);
	snapshot_free(&s->snapshot);
	s->snapshot = *snapshot;
	*snapshot = (struct snapshot){ 0 };
	s->taken = clock_ms();
	resume_all(s);
	pthread_mutex_unlock(&s->lock);
}

/* ---- who is connected ---- */

static struct visitor *find_place(struct server *s)
{
	for (size_t i = 0; i < CONNECTIONS; i++)
		if (s->visitors[i].fd < 0)
			return &s->visitors[i];
	return NULL;
}

static void enter(struct server *s, struct MHD_Connection *c, void **place)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		c, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct visitor *v = info ? find_place(s) : NULL;

	if (!v)
		return;
	*v = (struct visitor){ info->connect_fd, clock_ms() };
	*place = v;
}

/* (It is told of the end before the descriptor is closed, so no other one is shut down.) */
static void note_connection(void *context, struct MHD_Connection *c, void **place,
			    enum MHD_ConnectionNotificationCode code)
{
	struct server *s = context;

	pthread_mutex_lock(&s->lock);
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		enter(s, c, place);
	else if (*place)
		((struct visitor *)*place)->fd = -1;
	pthread_mutex_unlock(&s->lock);
}

/* #syscalls http: shutdown */
void server_expire(struct server *s)
{
	uint64_t now = clock_ms();

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < CONNECTIONS; i++)
		if (s->visitors[i].fd >= 0 && now - s->visitors[i].since > SERVER_LIFE_MS)
			shutdown(s->visitors[i].fd, SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);
}

/* ---- life ---- */

/*
 * What libmicrohttpd asks of the kernel once it runs (0.9.75, src/microhttpd/daemon.c, mhd_send.c).
 *
 * #syscalls http: accept4, epoll_ctl, epoll_wait, recv, send, sendmsg, read, write, close, writev
 * #syscalls http: fcntl(F_GETFL), fcntl(F_SETFL), fcntl(F_GETFD), fcntl(F_SETFD)
 * #syscalls http: setsockopt(IPPROTO_TCP, TCP_NODELAY), setsockopt(IPPROTO_TCP, TCP_CORK)
 * #syscalls http: getsockopt, prctl(PR_SET_NAME)
 */
static struct MHD_Daemon *start(struct server *s, int fd)
{
	return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
					MHD_USE_ITC,
				0, NULL, NULL, handle_request, s, MHD_OPTION_LISTEN_SOCKET, fd,
				MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVER_CONNECTIONS,
				MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)SERVER_CLIENT_MAX,
				MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(SERVER_LIFE_MS / 1000),
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SERVER_MEMORY,
				MHD_OPTION_NOTIFY_CONNECTION, note_connection, s, MHD_OPTION_END);
}

struct server *server_new(struct listeners *listeners, void (*wanted)(void *context), void *context,
			  struct failure *why)
{
	struct server *s = calloc(1, sizeof(*s));

	if (!s) {
		report_fail(why, errno, "malloc", "HTTP server");
		return NULL;
	}
	s->wanted = wanted;
	s->context = context;
	pthread_mutex_init(&s->lock, NULL);
	for (size_t i = 0; i < CONNECTIONS; i++)
		s->visitors[i].fd = -1;
	for (size_t i = 0; i < listeners->count && i < DAEMONS; i++) {
		s->daemons[i] = start(s, listeners->at[i].fd);
		if (!s->daemons[i]) {
			report_fail(why, errno, "MHD_start_daemon", "HTTP server");
			server_free(s);
			return NULL;
		}
		listeners->at[i].fd = -1;
	}
	return s;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->ending = true;
	resume_all(s);
	pthread_mutex_unlock(&s->lock);
	for (int i = 0; i < DAEMONS; i++)
		if (s->daemons[i])
			MHD_stop_daemon(s->daemons[i]);
	snapshot_free(&s->snapshot);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
