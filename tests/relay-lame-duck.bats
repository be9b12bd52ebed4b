#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands it
#
# tproxy-relay --lame-duck: it says that it will end, before it refuses anybody.
#
#   client 192.0.2.2 --- proxy: tproxy-relay 3129 --- server 198.51.100.2
#
# and with a balancer:
#
#   client --- proxy: HAProxy 8080 -+- tproxy-relay 3130 -+- server 80
#                                   +- tproxy-relay 3131 -+
#                       (agent checks 9000, 9001)

bats_require_minimum_version 1.5.0
load lib/udp

setup() { lab_up; }
teardown() { lab_down; }

# state_of [NAME]: what the relay calls itself.
state_of() {
	on proxy tproxy-relay --ask counters -j "$(pid_of "${1-relay}")" | jq -r 'select(.type == "relay").state'
}

# is STATE [NAME]
is() { [[ $(state_of "${2-relay}") == "$1" ]]; }

healthy() {
	on proxy tproxy-relay --ask counters -H "$(pid_of relay)" | awk '$1 == "healthy" { print $2 }'
}

who() {
	on client curl -sS --max-time 10 "http://$V4/who"
}

@test "SIGTERM: health fails at once, connections and flows are accepted for T, then it drains" {
	start_nginx
	dgram echo server serve 5300
	intercept 80,8000
	on proxy tproxy-setup up -q --name udp -u --port 5300 --to "$RELAY_PORT"
	bg notify proxy socat -u UNIX-RECV:"$OUT/notify" CREATE:"$OUT/notified"
	wait_until 10 test -S "$OUT/notify"
	bg relay proxy env NOTIFY_SOCKET="$OUT/notify" tproxy-relay -tu --threads 2 --lame-duck "$((4 * TIME_SCALE + 4))s" "$RELAY_PORT"
	serves relay
	assert_equal "$(state_of) $(healthy)" 'serving 1'
	peer held client connect "$V4" 80 gone
	wait_line relay.out ' open '
	signal relay TERM
	wait_line relay.err '^tproxy-relay: lame duck: connections are accepted for '"$((4 * TIME_SCALE + 4))"' s still; a second signal ends that$'
	wait_line notified 'STOPPING=1$'
	assert_equal "$(state_of) $(healthy)" 'lame-duck 0'
	run -0 who
	run -0 ask_from client 40001 "$V4" 5300 3
	refute_line_in relay.err 'may finish'
	wait_until 30 has_line "$OUT/relay.err" '1 connection may finish within 30 s; a second signal ends them'
	assert_equal "$(state_of)" draining
	run ! who
	assert_equal "$(grep -o STOPPING "$OUT/notified" | wc -l)" 1
	stop held || :
	run -0 wait_exit relay
}

@test "each signal shortens it; --ask lame-duck begins it, and says if there is no time for it" {
	start_nginx
	intercept 80
	relay --lame-duck 1h
	peer held client connect "$V4" 80 gone
	wait_line relay.out ' open '
	for _ in 1 2; do
		run -0 on proxy tproxy-relay --ask lame-duck -H
		assert_output --regexp '^connections +1$'
		assert is lame-duck
	done
	run -0 who
	signal relay TERM
	wait_until 10 is draining
	run -0 stop relay
	assert_line_in relay.out ' drained$'
	# Drain does not wait for it.
	relay --lame-duck 1h
	run -0 on proxy tproxy-relay --ask drain
	run -0 wait_exit relay
	relay
	run -3 on proxy tproxy-relay --ask lame-duck
	assert_output --partial ': lame-duck: it was started without --lame-duck; drain ends it'
	assert is serving
	run -0 stop relay
	run -2 tproxy-relay --inetd --lame-duck 1s
	assert_output --partial '--inetd and --lame-duck contradict each other'
}

@test "a relay that was taken over does not wait: the other one serves" {
	bg relay proxy tproxy-relay -v --lame-duck 1h "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	bg new proxy tproxy-relay -v --takeover --lame-duck 1h "$RELAY_PORT"
	wait_line new.err 'listening on '
	run -0 stop relay
	assert_line_in relay.err "taken over by pid $(pid_of new)"
	bg newer proxy tproxy-relay -v --takeover --lame-duck 1h "$RELAY_PORT"
	wait_line newer.err 'listening on '
	run -0 on proxy tproxy-relay --ask lame-duck "$(pid_of new)"
	run -0 wait_exit new
	refute_line_in new.err 'lame duck'
	signal newer TERM
	wait_line newer.err 'lame duck'
	run -0 stop newer
}

# health: the status that the exporter answers a balancer with, and the reasons for it, in one line.
health() {
	on proxy curl -sS --max-time 10 -w ' %{http_code}\n' http://127.0.0.1:9469/healthz |
		sed -E 's/^(.*) ([0-9]+)$/\2 \1/'
}

# health_is STATUS JQ
health_is() {
	local answer
	answer=$(health)
	[[ ${answer%% *} == "$1" ]] && jq -e "$2" >/dev/null <<<"${answer#* }"
}

# What a balancer asks over HTTP; its answer is a second old at most.
@test "/healthz: 503 with the reason from the signal on, while connections are accepted, and while it drains" {
	local from relay
	start_nginx
	intercept 80
	relay --lame-duck 1h
	relay=$(pid_of relay)
	bg export proxy tproxy-inspect export --listen 9469 --doctor-interval 0s
	wait_line export.err 'SIGTERM or Ctrl-C ends it'
	health_is 200 '.reasons == []'
	peer held client connect "$V4" 80 gone
	wait_line relay.out ' open '
	from=${EPOCHREALTIME/./}
	signal relay TERM
	wait_until 10 health_is 503 ".reasons == [{type: \"relay\", relay: \"$relay\", state: \"lame-duck\"}]"
	echo "after $(((${EPOCHREALTIME/./} - from) / 1000)) ms"
	run -0 who
	health_is 503 '.reasons[0].state == "lame-duck"'
	signal relay TERM
	wait_until 10 health_is 503 "any(.reasons[]; .relay == \"$relay\" and .state == \"draining\")"
	health_is 503 'any(.reasons[]; .check == "listener:tcp" and .state == "missing")'
	run ! who
	stop held || :
	run -0 wait_exit relay
	# Another one serves: it is well again. This one dies as a lame duck: it is the missing listener that is
	# told, and nothing hangs.
	relay --lame-duck 1h
	wait_until 10 health_is 200 '.reasons == []'
	peer held client connect "$V4" 80 gone
	wait_line relay.out ' open '
	signal relay TERM
	wait_until 10 health_is 503 '.reasons[0].state == "lame-duck"'
	signal relay KILL
	run -137 wait_exit relay
	run -0 wait_exit held
	wait_until 10 health_is 503 'any(.reasons[]; .check == "listener:tcp") and all(.reasons[]; .type == "instance")'
	run -7 who # refused, not let through
	relay --lame-duck 1h
	wait_until 10 health_is 200 '.reasons == []'
	run -0 who
}

# agent N: HAProxy's agent check of relay N, from its control socket.
agent() {
	bg "agent$1" proxy python3 -c '
import json, socket, sys
def state():
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect("\0tproxy-relay/" + sys.argv[2])
        s.sendall(b"counters\n")
        return json.loads(s.makefile().readline())["state"]
    except (OSError, ValueError):
        return "gone"
    finally:
        s.close()
answers = {"serving": b"up ready\n", "gone": b"down\n"}
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c = listener.accept()[0]
    c.sendall(answers.get(state(), b"drain\n"))
    c.close()' "900$1" "$(pid_of "relay$1")"
	wait_listen proxy "900$1"
}

# balanced MS OPTION...: two relays behind HAProxy, which tries no connection twice, and asks for their state at that
# interval.
balanced() {
	local interval=$1
	shift
	for n in 0 1; do
		bg "relay$n" proxy tproxy-relay -4 --upstream "$V4:80" --accept-proxy 127.0.0.1 --log errors "$@" \
			"127.0.0.1:313$n"
		wait_listen proxy "313$n"
		agent $n
	done
	start_haproxy proxy <<-END
		listen front
			bind *:8080
			balance roundrobin
			retries 0
			timeout check 2s
			default-server send-proxy-v2 agent-check agent-inter ${interval}ms
			server a 127.0.0.1:3130 agent-port 9000
			server b 127.0.0.1:3131 agent-port 9001
	END
	wait_listen proxy 8080
	wait_until 10 on client curl -sSf -o "$OUT/probe" --max-time 2 http://192.0.2.1:8080/who
	rm -f "$OUT/end"
	bg steady client "$TOP/tests/lib/steady" 192.0.2.1 8080 8 "$OUT/end"
	wait_until 10 carries relay1
}

# carries NAME: it has carried some hundred connections.
carries() {
	(($(on proxy tproxy-relay --ask counters -H "$(pid_of "$1")" | awk '$1 == "opened" { print $2 }') > 200))
}

# finish: end the load; what it says.
finish() {
	touch "$OUT/end"
	wait_exit steady 40 || :
	tail -n 1 "$OUT/steady.out"
}

@test "a steady stream through two relays behind HAProxy: one is ended, and nobody notices" {
	start_nginx
	on proxy tproxy-setup up -q --divert-only
	balanced 200 --lame-duck "$((4 * TIME_SCALE + 4))s"
	signal relay0 TERM
	run -0 wait_exit relay0 30
	run -0 finish
	assert_output --regexp '^[0-9]{3,} answered, 0 failed$'
	echo "# with --lame-duck: $output" >&3
	run -0 stop relay1
	stop haproxy || :
	stop agent0 || :
	stop agent1 || :
	# Without it the balancer learns of the end from those who fail.
	balanced 2000
	run -0 stop relay0
	run -0 finish
	refute_output --partial ' 0 failed'
	echo "# without: $output" >&3
}
