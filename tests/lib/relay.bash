# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034 # what is set here is for the tests
#
# relay - what the relay's tests share: interception, a relay in front of it, peers that act.

load lib/lab

PEER=$TOP/tests/lib/peer
RELAY_PORT=3129
V4=198.51.100.2
V6=2001:db8:2::2

# intercept PORTS [OPTION...]: on the proxy, hand TCP to these ports to the relay's listeners.
intercept() {
	on proxy tproxy-setup up -q --port "$1" --to "$RELAY_PORT" "${@:2}"
}

# relay OPTION...: start one, as `relay`, and wait until it serves.
relay() {
	bg relay proxy tproxy-relay "$RELAY_PORT" "$@"
	serves relay "$@"
}

# serves NAME OPTION...: wait until a relay of that name, with these options, is ready.
serves() {
	if [[ " $* " == *' -q '* ]]; then
		wait_listen proxy "$RELAY_PORT"
	else
		wait_serving "$1"
	fi
}

# peer NAME HOST ARG...: one end of a connection in the background; see tests/lib/peer.
peer() {
	local name=$1 host=$2
	shift 2
	bg "$name" "$host" "$PEER" "$@"
	case $1 in listen | serve) wait_listen "$host" "$2" ;; esac
}

# counter NAME: what the relay says at its control socket.
counter() {
	ask counters | sed -n "s/.*\"check\":\"$1\",\"count\":\([0-9]*\)}/\1/p"
}

# ask COMMAND: the control socket's answer.
ask() {
	socat -t$((5 * TIME_SCALE)) - "UNIX-CONNECT:$OUT/control" <<<"$1"
}

# helper_of NAME COMM: the pid of that helper of a background process.
helper_of() {
	local pid
	for pid in $(pgrep --parent "$(pid_of "$1")"); do
		[[ $(cat "/proc/$pid/comm") != "$2" ]] || echo "$pid"
	done
}

# cpu_ticks NAME: what a background process has used, in clock ticks.
cpu_ticks() {
	awk '{ print $14 + $15 }' "/proc/$(pid_of "$1")/stat"
}

# descriptors NAME
descriptors() {
	local fds=("/proc/$(pid_of "$1")/fd/"*)
	echo ${#fds[@]}
}

# start_who HOST [NAME]: a server on the loopback addresses there that says whom it sees, `ADDRESS PORT`.
start_who() {
	bg "${2-who}" "$1" python3 -c '
import socket, threading
def serve(family, address):
    s = socket.create_server((address, 80), family=family, backlog=64)
    while True:
        c, peer = s.accept()
        body = "%s %d\n" % peer[:2]
        c.recv(4096)
        c.sendall(("HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).encode())
        c.close()
threading.Thread(target=serve, args=(socket.AF_INET6, "::1")).start()
serve(socket.AF_INET, "127.0.0.1")'
	wait_listen "$1" 127.0.0.1:80
	wait_listen "$1" '[::1]:80'
}

# impostors NAME full|silent: nobody listens at the names of thirty relays, in the proxy's namespace, and
# never accepts: there is no place in their queues (full), or there is (silent).
impostors() {
	bg "$1" proxy setpriv --reuid=nobody --clear-groups /usr/bin/python3 -c '
import signal, socket, sys
kept = []
for n in range(1, 31):
    s = socket.socket(socket.AF_UNIX)
    s.bind("\0tproxy-relay/%d" % (4200000000 + n))
    s.listen(0 if sys.argv[1] == "full" else 100)
    kept.append(s)
    while sys.argv[1] == "full":
        c = socket.socket(socket.AF_UNIX)
        c.setblocking(False)
        try:
            c.connect(s.getsockname())
        except BlockingIOError:
            break
        kept.append(c)
print("bound", flush=True)
signal.pause()' "$2"
	wait_line "$1.out" bound
}
