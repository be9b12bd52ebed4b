/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/drop_reasons.h"

#include "base/file.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FORMAT_MAX 32768
#define PAGES	   16 /* of a processor's queue: a power of two */
#define RECORD_MAX 256
#define CPUS_MAX   1024
#define FILTER_MAX 100
#define RECENT	   1024
/* A packet is dropped within microseconds of the last report of it, which is read some time after
 * that: by a busy machine later than by others. */
#define BEFORE_US 50000
#define AFTER_US  5000

struct queue {
	int fd;
	struct perf_event_mmap_page *control; /* and after that page, the data */
};

struct drop_reasons {
	struct drop_reasons_format format;
	struct queue *queue;
	unsigned queues;
	size_t page;
	uint64_t count[DROP_REASONS_MAX];
	uint64_t meanwhile[DROP_REASONS_MAX];
	uint64_t other; /* without a name, or lost */
	struct {
		uint64_t us; /* 0: none, or counted in `meanwhile` already */
		uint32_t reason;
	} recent[RECENT];
	size_t next; /* place in it */
};

/* --- the format ------------------------------------------------------------------------------- */

/* `{ 12, "NETFILTER_DROP" }`, after the first one there is a comma. Returns what follows. */
static const char *parse_name(const char *at, struct drop_reasons_format *out)
{
	char *end;
	unsigned long number = strtoul(at, &end, 0);
	size_t length;

	if (end == at || strncmp(end, ", \"", 3))
		return NULL;
	end += 3;
	length = strcspn(end, "\"");
	if (number < DROP_REASONS_MAX && length < sizeof(out->name[0])) {
		memcpy(out->name[number], end, length);
		out->name[number][length] = '\0';
	}
	return end + length;
}

static unsigned find_unspecified(const struct drop_reasons_format *format)
{
	for (unsigned i = 0; i < DROP_REASONS_MAX; i++)
		if (!strcmp(format->name[i], "NOT_SPECIFIED"))
			return i;
	return 0;
}

bool drop_reasons_parse(const char *text, struct drop_reasons_format *out)
{
	const char *field = strstr(text, " reason;"), *at = strstr(text, "__print_symbolic(");
	unsigned offset, size;

	*out = (struct drop_reasons_format){ 0 };
	if (!field || !at ||
	    sscanf(field, " reason;%*[\t ]offset:%u;%*[\t ]size:%u;", &offset, &size) != 2)
		return false;
	if (size != sizeof(uint32_t) || offset > RECORD_MAX - sizeof(uint32_t))
		return false;
	out->offset = offset;
	while (at && (at = strchr(at, '{')))
		at = parse_name(at + 1, out);
	out->unspecified = find_unspecified(out);
	return true;
}

/* --- tracefs ---------------------------------------------------------------------------------- */

/* A mount that has no place in any tree, and goes with its descriptor. (The C library has these
 * calls since glibc 2.36.) */
static int open_tracefs(struct failure *why)
{
	int context = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC), mount = -1;

	if (context < 0) {
		int err = errno;

		report_fail(why, err, "fsopen", "tracefs");
		return err == EPERM ? report_hint(why, "needs CAP_SYS_ADMIN, and not only in a "
						       "user namespace")
				    : -1;
	}
	if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	if (mount < 0)
		report_fail(why, errno, "fsmount", "tracefs");
	close(context);
	return mount;
}

static int read_format(struct drop_reasons *d, uint64_t *id, struct failure *why)
{
	int tracefs = open_tracefs(why);
	char text[FORMAT_MAX], number[32];

	if (tracefs < 0)
		return -1;
	file_read(tracefs, "events/skb/kfree_skb/format", text, sizeof(text));
	file_read(tracefs, "events/skb/kfree_skb/id", number, sizeof(number));
	close(tracefs);
	*id = strtoull(number, NULL, 10);
	if (*id && drop_reasons_parse(text, &d->format))
		return 0;
	report_refuse(why, "this kernel says no reasons");
	return report_about(why, "tracepoint skb:kfree_skb");
}

/* --- queues ----------------------------------------------------------------------------------- */

/* Drops with a reason, of packets of that family; ETH_P_IP, ETH_P_IPV6. */
static void format_filter(const struct drop_reasons *d, int family, char filter[FILTER_MAX])
{
	const char *protocol = family == AF_INET    ? "protocol == 0x0800"
			       : family == AF_INET6 ? "protocol == 0x86dd"
						    : "(protocol == 0x0800 || protocol == 0x86dd)";

	snprintf(filter, FILTER_MAX, "%s && reason > %u", protocol, d->format.unspecified);
}

/* 0; 1: there is no such processor, or it is off; -1 with *why. */
static int open_queue(struct drop_reasons *d, uint64_t id, int family, int cpu, struct failure *why)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = id,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_TIME | PERF_SAMPLE_RAW,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
	};
	struct queue *q = &d->queue[d->queues];
	char filter[FILTER_MAX];

	format_filter(d, family, filter);
	q->control = MAP_FAILED;
	q->fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (q->fd < 0)
		return errno == ENODEV
			       ? 1
			       : report_fail(why, errno, "perf_event_open", "skb:kfree_skb");
	d->queues++;
	if (ioctl(q->fd, PERF_EVENT_IOC_SET_FILTER, filter) < 0)
		return report_fail(why, errno, "ioctl(PERF_EVENT_IOC_SET_FILTER)", "skb:kfree_skb");
	q->control = mmap(NULL, (1 + PAGES) * d->page, PROT_READ | PROT_WRITE, MAP_SHARED, q->fd,
			  0);
	return q->control == MAP_FAILED ? report_fail(why, errno, "mmap", "skb:kfree_skb") : 0;
}

static int open_queues(struct drop_reasons *d, uint64_t id, int family, struct failure *why)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	d->page = (size_t)sysconf(_SC_PAGESIZE);
	d->queue = calloc(CPUS_MAX, sizeof(*d->queue));
	if (!d->queue)
		return report_fail(why, ENOMEM, "calloc", "skb:kfree_skb");
	for (int cpu = 0; cpu < cpus && cpu < CPUS_MAX; cpu++)
		if (open_queue(d, id, family, cpu, why) < 0)
			return -1;
	return 0;
}

struct drop_reasons *drop_reasons_open(int family, struct failure *why)
{
	struct drop_reasons *d = calloc(1, sizeof(*d));
	uint64_t id;

	if (!d) {
		report_fail(why, ENOMEM, "calloc", "skb:kfree_skb");
		return NULL;
	}
	if (!read_format(d, &id, why) && !open_queues(d, id, family, why))
		return d;
	drop_reasons_close(d);
	return NULL;
}

void drop_reasons_close(struct drop_reasons *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->queues; i++) {
		if (d->queue[i].control != MAP_FAILED)
			munmap(d->queue[i].control, (1 + PAGES) * d->page);
		close(d->queue[i].fd);
	}
	free(d->queue);
	free(d);
}

/* --- reports ---------------------------------------------------------------------------------- */

/* `size` bytes of the queue from there, which may wrap around. */
static void copy_out(const struct drop_reasons *d, const struct queue *q, uint64_t from, void *to,
		     size_t size)
{
	const uint8_t *data = (const uint8_t *)q->control + d->page;
	uint64_t mask = PAGES * d->page - 1;

	for (size_t i = 0; i < size; i++)
		((uint8_t *)to)[i] = data[(from + i) & mask];
}

static void count_sample(struct drop_reasons *d, uint64_t us, const uint8_t *raw, size_t size)
{
	uint32_t reason;

	if (size < d->format.offset + sizeof(reason))
		return;
	memcpy(&reason, raw + d->format.offset, sizeof(reason));
	if (reason >= DROP_REASONS_MAX || !*d->format.name[reason]) {
		d->other++;
		return;
	}
	d->count[reason]++;
	d->recent[d->next].us = us;
	d->recent[d->next].reason = reason;
	d->next = (d->next + 1) % RECENT;
}

void drop_reasons_ended(struct drop_reasons *d, uint64_t at_us)
{
	for (size_t i = 0; i < RECENT; i++) {
		uint64_t us = d->recent[i].us;

		if (!us || us + BEFORE_US < at_us || us > at_us + AFTER_US)
			continue;
		d->meanwhile[d->recent[i].reason]++;
		d->recent[i].us = 0;
	}
}

/* A sample: its time in nanoseconds, its size, and the tracepoint's fields. */
static void take_record(struct drop_reasons *d, const struct queue *q, uint64_t at,
			const struct perf_event_header *header)
{
	uint8_t raw[RECORD_MAX];
	uint64_t lost[2]; /* struct { u64 id, lost; } */
	uint64_t time;
	size_t body = header->size - sizeof(*header), front = sizeof(time) + sizeof(uint32_t);

	if (header->type == PERF_RECORD_LOST && body >= sizeof(lost)) {
		copy_out(d, q, at + sizeof(*header), lost, sizeof(lost));
		d->other += lost[1];
	}
	if (header->type != PERF_RECORD_SAMPLE || body <= front)
		return;
	copy_out(d, q, at + sizeof(*header), &time, sizeof(time));
	body -= front;
	if (body > sizeof(raw))
		body = sizeof(raw);
	copy_out(d, q, at + sizeof(*header) + front, raw, body);
	count_sample(d, time / 1000, raw, body);
}

/* (perf_event_open(2): data_head is written by the kernel, data_tail by us.) */
static void read_queue(struct drop_reasons *d, const struct queue *q)
{
	uint64_t head = __atomic_load_n(&q->control->data_head, __ATOMIC_ACQUIRE);
	uint64_t tail = q->control->data_tail;
	struct perf_event_header header;

	while (tail + sizeof(header) <= head) {
		copy_out(d, q, tail, &header, sizeof(header));
		if (header.size < sizeof(header))
			break;
		take_record(d, q, tail, &header);
		tail += header.size;
	}
	__atomic_store_n(&q->control->data_tail, head, __ATOMIC_RELEASE);
}

void drop_reasons_read(struct drop_reasons *d)
{
	for (unsigned i = 0; i < d->queues; i++)
		read_queue(d, &d->queue[i]);
}

void drop_reasons_each(const struct drop_reasons *d, drop_reasons_visitor *visit, void *context)
{
	for (size_t i = 0; i < DROP_REASONS_MAX; i++)
		if (d->count[i])
			visit(d->format.name[i], d->count[i], d->meanwhile[i], context);
	if (d->other)
		visit(NULL, d->other, 0, context);
}
