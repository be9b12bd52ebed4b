/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/udp_raw.h"

#include "socket/datagram_raw.h"
#include "tproxy-relay/udp_icmp.h"
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static const int families[2] = { AF_INET, AF_INET6 };

int udp_raw_open(struct udp_raw *r, enum udp_speaker speaker, const struct mark *mark,
		 struct failure *why)
{
	for (unsigned i = 0; i < 2; i++) {
		int fd = datagram_raw_open(families[i], mark, why);

		r->fd[speaker][i] = fd;
		if (fd < 0 && why->err != EAFNOSUPPORT)
			return -1;
		/* Failures to send are found in its error queue. */
		if (fd >= 0)
			udp_icmp_listen(fd, families[i]);
	}
	return 0;
}

void udp_raw_close(struct udp_raw *r)
{
	for (unsigned i = 0; i < 4; i++) {
		int *fd = &r->fd[i / 2][i % 2];

		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

bool udp_raw_has(const struct udp_raw *r, enum udp_speaker speaker, int family)
{
	return r->fd[speaker][family == AF_INET6] >= 0;
}

/*
 * #syscalls upstream_udp: setsockopt(SOL_IP, IP_MTU_DISCOVER)
 * #syscalls upstream_udp: setsockopt(SOL_IPV6, IPV6_MTU_DISCOVER)
 */
void udp_raw_set_fit(int fd, int family, enum udp_fit fit)
{
	int v4 = fit == UDP_FIT_WHOLE ? IP_PMTUDISC_DO : IP_PMTUDISC_WANT;
	int v6 = fit == UDP_FIT_WHOLE ? IPV6_PMTUDISC_DO : IPV6_PMTUDISC_WANT;

	if (fit == UDP_FIT_ANY)
		return;
	if (family == AF_INET6)
		setsockopt(fd, SOL_IPV6, IPV6_MTU_DISCOVER, &v6, sizeof(v6));
	else
		setsockopt(fd, SOL_IP, IP_MTU_DISCOVER, &v4, sizeof(v4));
}

int udp_raw_socket(struct udp_raw *r, struct datagram_queue *queue, int family,
		   enum udp_speaker speaker, enum udp_fit fit)
{
	bool v6 = family == AF_INET6;
	int fd = r->fd[speaker][v6];

	if (fit == UDP_FIT_ANY || fit == r->fit[speaker][v6])
		return fd;
	datagram_queue_flush(queue);
	udp_raw_set_fit(fd, family, fit);
	r->fit[speaker][v6] = (uint8_t)fit;
	return fd;
}
