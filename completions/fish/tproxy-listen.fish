# SPDX-License-Identifier: GPL-2.0-or-later
# Made from `tproxy-listen --help` by completions/generate.

complete -c tproxy-listen -f
complete -c tproxy-listen -l reply -x -d 'send TEXT (with \\n, \\r, \\t, \\xHH), then close'
complete -c tproxy-listen -l hold -x -d 'keep it open for T, or until the client closes'
complete -c tproxy-listen -l echo -d 'send back what comes'
complete -c tproxy-listen -l discard -d 'read and ignore what comes'
complete -c tproxy-listen -l reset -d 'reset the connection'
complete -c tproxy-listen -l pass -d 'become CMD, which gets the listeners (LISTEN_FDS)'
complete -c tproxy-listen -l log -d 'write records, too; also when connections end'
complete -c tproxy-listen -l allow-direct -d 'serve connections that were not intercepted (refused)'
complete -c tproxy-listen -s c -l max -x -d 'connections at a time; more wait (1000 with CMD)'
complete -c tproxy-listen -s C -l max-per-client -x -d 'of each IPv4 address or IPv6 /64; more are reset'
complete -c tproxy-listen -l count -x -d 'end after N connections'
complete -c tproxy-listen -l timeout -x -d 'end after T; status 1 if there were too few'
complete -c tproxy-listen -l drain-timeout -x -d 'after SIGTERM for CMDs to end, and at the end for the last records to be read (30s)'
complete -c tproxy-listen -l redirect -d 'for REDIRECT, DNAT or direct connections: not transparent, and PORT means any address'
complete -c tproxy-listen -l takeover -d 'share the endpoint with a process that listens there'
complete -c tproxy-listen -l accept-proxy -x -d 'connections from these begin with a PROXY header'
complete -c tproxy-listen -l backlog -x -d 'connections that may wait (the system\'s maximum)'
complete -c tproxy-listen -l listener-mark -x -d 'SO_MARK of listener and connections'
complete -c tproxy-listen -l bind-device -x -a '(ip -o link 2>/dev/null | string replace -rf "^[0-9]+: ([^:@]+).*" "\$1")' -d 'only connections that come in on IF'
complete -c tproxy-listen -l user -x -a '(__fish_complete_users)' -d 'become NAME once the listeners are open, also for CMD (as root: tproxy, else nobody, and not for CMD)'
complete -c tproxy-listen -l no-sandbox -d 'run without seccomp and Landlock'
complete -c tproxy-listen -l ready-fd -x -d 'write a newline to FD when ready, and close it'
complete -c tproxy-listen -s o -l columns -x -a '(__fish_append , bytes_down bytes_up client cookie duration_ms event id iif listener mark origdst origdst_by packets_down packets_up pid proto reason time)' -d 'these columns; +COL,... adds to the usual ones'
complete -c tproxy-listen -l datagrams -d 'UDP: a record for each datagram, not for each flow'
complete -c tproxy-listen -s t -l tcp -d 'TCP (the default)'
complete -c tproxy-listen -s u -l udp -d 'UDP; with -t both'
complete -c tproxy-listen -s 4 -l ipv4 -d 'IPv4 only (both)'
complete -c tproxy-listen -s 6 -l ipv6 -d 'IPv6 only (both)'
complete -c tproxy-listen -s j -l json -d 'records as JSON, one object per line'
complete -c tproxy-listen -s q -l quiet -d 'no notices on stderr'
complete -c tproxy-listen -s v -l verbose -d 'more on stderr; may be repeated'
complete -c tproxy-listen -l help -d 'print this help and exit'
complete -c tproxy-listen -l version -d 'print the version and exit'

function __tproxy_listen_after_dashdash
	set -l words (commandline -opc)
	set -l at (contains -i -- -- $words); or return
	complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..-1]) (commandline -ct))
end
complete -c tproxy-listen -n 'contains -- -- (commandline -opc)' -x -a '(__tproxy_listen_after_dashdash)'
