# SPDX-License-Identifier: GPL-2.0-or-later
#
# What was consumed so far, from lines of /proc as `grep -H ''` prints them (FILE:LINE). One line:
#
#	RELAY LAB BUSY STEAL TOTAL ANON
#
# CPU seconds of the session -v session=PID (all its processes and threads, also those that have
# ended), of all processes in the lab, of the machine (without what was stolen from it), stolen, of
# all sorts; and the session's anonymous memory in bytes. -v hz= is the length of a clock tick.
#
# schedstat counts live threads in nanoseconds, stat children that were waited for in clock ticks.

function after_colon() { return substr($0, index($0, ":") + 1) }

{ line = after_colon(); file = substr($0, 1, index($0, ":") - 1); split(file, part, "/") }

file == "/proc/stat" && line ~ /^cpu / {
	n = split(line, tick, " ") # cpu user nice system idle iowait irq softirq steal ...
	for (i = 2; i <= 9 && i <= n; i++)
		total += tick[i]
	busy = total - tick[5] - tick[6] - tick[9]
	steal = tick[9]
}

file ~ /^\/proc\/[0-9]+\/stat$/ {
	sub(/^.*\) /, "", line) # the name may hold blanks
	split(line, field, " ")
	member[part[3]] = field[4] == session
	children = (field[14] + field[15]) / hz
	lab += children
	if (member[part[3]])
		relay += children
}

file ~ /\/schedstat$/ {
	split(line, field, " ")
	lab += field[1] / 1e9
	if (member[part[3]])
		relay += field[1] / 1e9
}

line ~ /^RssAnon:/ && member[part[3]] {
	split(line, field, " ")
	anon += field[2] * 1024
}

END { printf "%.6f %.6f %.2f %.2f %.2f %.0f\n", relay, lab, busy / hz, steal / hz, total / hz, anon }
