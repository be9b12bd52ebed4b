/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_fields - the fields of records: their names, and the kinds of their values.
 *
 * Only code that prints or parses records needs the names and kinds.
 */
#ifndef TPROXY_BASE_RECORD_FIELDS_H
#define TPROXY_BASE_RECORD_FIELDS_H

#include <stddef.h>
#include <stdint.h>

/* In the order in which JSON prints them. The names are in record_fields.c; new fields go at the
 * end. */
enum record_field {
	RECORD_V,	   /* number: schema version, set by the writer */
	RECORD_TYPE,	   /* text: `connection`, `socket`, `part`, ... */
	RECORD_TIME,	   /* time: RFC 3339 UTC with microseconds */
	RECORD_EVENT,	   /* text: `open`, `close`, `refused`, ... */
	RECORD_ID,	   /* number: of a connection within one process */
	RECORD_INSTANCE,   /* text: --name of tproxy-setup */
	RECORD_PROTO,	   /* text: `tcp`, `udp` */
	RECORD_CLIENT,	   /* endpoint */
	RECORD_ORIGDST,	   /* endpoint */
	RECORD_ORIGDST_BY, /* text: `tproxy`, `redirect`, `conntrack`, `proxy-protocol`, `none` */
	RECORD_LISTENER,   /* endpoint */
	RECORD_IIF,	   /* text: interface name */
	RECORD_LOCAL,	   /* endpoint: a socket's own end */
	RECORD_PEER,	   /* endpoint: a socket's other end */
	RECORD_MARK,	   /* mark */
	RECORD_COOKIE,	   /* cookie: SO_COOKIE as 0x%x, a string in JSON (64 bits) */
	RECORD_UPSTREAM_COOKIE, /* cookie */
	RECORD_PID,		/* number */
	RECORD_PROG,		/* text */
	RECORD_FD,		/* number */
	RECORD_STATE,		/* text */
	RECORD_UPSTREAM_LOCAL,	/* endpoint */
	RECORD_UPSTREAM,	/* endpoint */
	RECORD_SOURCE_KEPT,	/* text: `addr+port`, `addr`, `no`, `unknown` */
	RECORD_UPSTREAM_SOURCE, /* endpoint: the source that the server sees, if NAT changed it */
	RECORD_BYTES_UP,	/* number: client to server */
	RECORD_BYTES_DOWN,	/* number: server to client */
	RECORD_PACKETS_UP,	/* number */
	RECORD_PACKETS_DOWN,	/* number */
	RECORD_DURATION_MS,	/* milliseconds with three decimals, from the monotonic clock */
	RECORD_REASON,		/* text: why it ended or was refused; a closed list per program */
	RECORD_TRANSPARENT,	/* text: `yes`, `no`, `unknown`; true/false/absent in JSON */
	RECORD_CHECK,		/* text: name of a status part, a doctor's check or a counter */
	RECORD_SEVERITY,	/* text: `ok`, `warn`, `fail` */
	RECORD_EVIDENCE,	/* prose */
	RECORD_FIX,		/* prose */
	RECORD_STEP,		/* text */
	RECORD_COUNT,		/* number: a counter's value */
	RECORD_BYTES,		/* number: bytes of a counter */
	RECORD_WHY,		/* prose: why a finding matters */
	RECORD_UNIQUE_ID,	/* text: UNIQUE_ID of a PROXY header */
	RECORD_UPSTREAM_STATE,	/* text */
	RECORD_RECV_Q,		/* number: bytes that the program has yet to read */
	RECORD_SEND_Q,		/* number: bytes that the peer has not acknowledged */
	RECORD_UPSTREAM_RECV_Q, /* the same for the upstream leg */
	RECORD_UPSTREAM_SEND_Q,
	RECORD_RTT_MS, /* milliseconds with three decimals */
	RECORD_UPSTREAM_RTT_MS,
	RECORD_RETRANS, /* number: segments that were sent again */
	RECORD_UPSTREAM_RETRANS,
	RECORD_IDLE_MS,	       /* milliseconds with three decimals */
	RECORD_PAIRED_BY,      /* text: `relay`, `guessed` */
	RECORD_STUCK,	       /* text: which side holds a connection up; a closed list */
	RECORD_VERSION,	       /* text: of the program that answers */
	RECORD_WHERE,	       /* text: `HOOK:PRIORITY:FAMILY:TABLE:CHAIN`, or what was asked */
	RECORD_UPSTREAM_NETNS, /* text: network namespace of the upstream legs, if another */
	RECORD_FIELDS
};

enum record_kind {
	KIND_TEXT,
	KIND_PROSE,
	KIND_NUMBER,
	KIND_ENDPOINT,
	KIND_MARK,
	KIND_COOKIE,
	KIND_TIME,
	KIND_DURATION,
	KIND_YESNO,
};

struct record_field_row {
	const char *name;
	enum record_kind kind;
	uint8_t width; /* of a column in a padded table */
};

extern const struct record_field_row record_fields[RECORD_FIELDS];

/* The field with that name, or -1. */
int record_field_find(const char *name, size_t length);

/* `proto,client,...`: the names of these fields (1 << enum record_field), cut to size. Returns
 * buf. */
const char *record_fields_list(uint64_t fields, char *buf, size_t size);

#endif
