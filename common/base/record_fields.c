/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/record_fields.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const struct record_field_row record_fields[RECORD_FIELDS] = {
	[RECORD_V] = { "v", KIND_NUMBER, 1 },
	[RECORD_TYPE] = { "type", KIND_TEXT, 10 },
	[RECORD_TIME] = { "time", KIND_TIME, 27 },
	[RECORD_EVENT] = { "event", KIND_TEXT, 7 },
	[RECORD_ID] = { "id", KIND_NUMBER, 4 },
	[RECORD_INSTANCE] = { "instance", KIND_TEXT, 10 },
	[RECORD_PROTO] = { "proto", KIND_TEXT, 5 },
	[RECORD_CLIENT] = { "client", KIND_ENDPOINT, 22 },
	[RECORD_ORIGDST] = { "origdst", KIND_ENDPOINT, 22 },
	[RECORD_ORIGDST_BY] = { "origdst_by", KIND_TEXT, 10 },
	[RECORD_LISTENER] = { "listener", KIND_ENDPOINT, 16 },
	[RECORD_IIF] = { "iif", KIND_TEXT, 8 },
	[RECORD_LOCAL] = { "local", KIND_ENDPOINT, 22 },
	[RECORD_PEER] = { "peer", KIND_ENDPOINT, 22 },
	[RECORD_MARK] = { "mark", KIND_MARK, 8 },
	[RECORD_COOKIE] = { "cookie", KIND_COOKIE, 8 },
	[RECORD_UPSTREAM_COOKIE] = { "upstream_cookie", KIND_COOKIE, 15 },
	[RECORD_PID] = { "pid", KIND_NUMBER, 7 },
	[RECORD_PROG] = { "prog", KIND_TEXT, 15 },
	[RECORD_FD] = { "fd", KIND_NUMBER, 4 },
	[RECORD_STATE] = { "state", KIND_TEXT, 10 },
	[RECORD_UPSTREAM_LOCAL] = { "upstream_local", KIND_ENDPOINT, 22 },
	[RECORD_UPSTREAM] = { "upstream", KIND_ENDPOINT, 22 },
	[RECORD_SOURCE_KEPT] = { "source_kept", KIND_TEXT, 11 },
	[RECORD_UPSTREAM_SOURCE] = { "upstream_source", KIND_ENDPOINT, 22 },
	[RECORD_BYTES_UP] = { "bytes_up", KIND_NUMBER, 10 },
	[RECORD_BYTES_DOWN] = { "bytes_down", KIND_NUMBER, 10 },
	[RECORD_PACKETS_UP] = { "packets_up", KIND_NUMBER, 10 },
	[RECORD_PACKETS_DOWN] = { "packets_down", KIND_NUMBER, 12 },
	[RECORD_DURATION_MS] = { "duration_ms", KIND_DURATION, 11 },
	[RECORD_REASON] = { "reason", KIND_TEXT, 10 },
	[RECORD_TRANSPARENT] = { "transparent", KIND_YESNO, 11 },
	[RECORD_CHECK] = { "check", KIND_TEXT, 20 },
	[RECORD_SEVERITY] = { "severity", KIND_TEXT, 8 },
	[RECORD_EVIDENCE] = { "evidence", KIND_PROSE, 30 },
	[RECORD_FIX] = { "fix", KIND_PROSE, 30 },
	[RECORD_STEP] = { "step", KIND_TEXT, 12 },
	[RECORD_COUNT] = { "count", KIND_NUMBER, 10 },
	[RECORD_BYTES] = { "bytes", KIND_NUMBER, 10 },
	[RECORD_WHY] = { "why", KIND_PROSE, 30 },
	[RECORD_UNIQUE_ID] = { "unique_id", KIND_TEXT, 19 },
	[RECORD_UPSTREAM_STATE] = { "upstream_state", KIND_TEXT, 14 },
	[RECORD_RECV_Q] = { "recv_q", KIND_NUMBER, 7 },
	[RECORD_SEND_Q] = { "send_q", KIND_NUMBER, 7 },
	[RECORD_UPSTREAM_RECV_Q] = { "upstream_recv_q", KIND_NUMBER, 15 },
	[RECORD_UPSTREAM_SEND_Q] = { "upstream_send_q", KIND_NUMBER, 15 },
	[RECORD_RTT_MS] = { "rtt_ms", KIND_DURATION, 8 },
	[RECORD_UPSTREAM_RTT_MS] = { "upstream_rtt_ms", KIND_DURATION, 15 },
	[RECORD_RETRANS] = { "retrans", KIND_NUMBER, 7 },
	[RECORD_UPSTREAM_RETRANS] = { "upstream_retrans", KIND_NUMBER, 16 },
	[RECORD_IDLE_MS] = { "idle_ms", KIND_DURATION, 9 },
	[RECORD_PAIRED_BY] = { "paired_by", KIND_TEXT, 9 },
	[RECORD_STUCK] = { "stuck", KIND_TEXT, 5 },
	[RECORD_VERSION] = { "version", KIND_TEXT, 8 },
	[RECORD_UPSTREAM_NETNS] = { "upstream_netns", KIND_TEXT, 14 },
	[RECORD_WHERE] = { "where", KIND_TEXT, 30 },
};

static_assert(RECORD_FIELDS <= 64, "record.present has a bit per field");

int record_field_find(const char *name, size_t length)
{
	for (int f = 0; f < RECORD_FIELDS; f++)
		if (strlen(record_fields[f].name) == length &&
		    !memcmp(record_fields[f].name, name, length))
			return f;
	return -1;
}

const char *record_fields_list(uint64_t fields, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (int f = RECORD_TIME; f < RECORD_FIELDS; f++)
		if (fields >> f & 1 && used < size)
			used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? "," : "",
						 record_fields[f].name);
	return buf;
}
