# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# see - what the tests of tproxy-listen and tproxy-inspect share.

# tproxy_to PORT LISTENER: what proxy forwards to TCP port PORT goes to the listener, both families.
tproxy_to() {
	on proxy tproxy-setup up -q --name "see$1" --port "$1" --to "$2"
}

# connect_from HOST ADDRESS:PORT [SOCAT_OPTION...]: send nothing, print what comes until the end.
connect_from() {
	on "$1" timeout --foreground 30 socat -u "TCP:$2,connect-timeout=5${3:+,$3}" - </dev/null
}

# read_from HOST ADDRESS PORT: the same, but a reset is told: socat is silent about some.
read_from() {
	on "$1" timeout --foreground 30 bash -c 'exec 3<>"/dev/tcp/$0/$1" && cat <&3' "$2" "$3"
}

# without_capabilities CMD...: as the same user, with none of them.
without_capabilities() {
	setpriv --bounding-set=-all --inh-caps=-all "$@"
}

# tproxy_udp_to PORT LISTENER: the same for UDP.
tproxy_udp_to() {
	on proxy tproxy-setup up -q -u --name "udp$1" --port "$1" --to "$2"
}
