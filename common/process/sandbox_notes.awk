# SPDX-License-Identifier: GPL-2.0-or-later
#
# From the notes beside functions, which say what they ask of the kernel once the sandbox is up,
#
#	#syscalls NEED...: CALL, CALL(ARGUMENT, ...), ...
#
# make the rows of `struct note` (sandbox.c): one for each need's call and arguments. A need is of enum
# sandbox_need, in small letters; `base` is everybody's, `sanitizer` that of such a build. Calls are noted
# as C has them; what the C library makes of them is below. Arguments are C constants, and must be given
# for the calls that have some in `shapes`, except to `sanitizer`.

BEGIN {
	shapes["socket"] = "0 INT 1 TYPE 2 INT"
	shapes["setsockopt"] = "1 INT 2 INT"
	shapes["fcntl"] = "1 INT"
	shapes["ioctl"] = "1 INT"
	shapes["prctl"] = shapes["membarrier"] = "0 INT"
	shapes["openat"] = "2 OPEN"
	shapes["mmap"] = shapes["mprotect"] = "2 PROT"

	made["recv"] = "recv recvfrom"
	made["send"] = "send sendto"
	made["recvmmsg"] = "recvmmsg recvmmsg_time64"
	made["epoll_wait"] = "epoll_wait epoll_pwait"
	made["poll"] = "poll ppoll ppoll_time64"
	made["fcntl"] = "fcntl fcntl64"
	made["futex"] = "futex futex_time64"
	made["clock_gettime"] = "clock_gettime clock_gettime64"
	made["clock_nanosleep"] = "clock_nanosleep clock_nanosleep_time64"
	made["mmap"] = "mmap mmap2"
	made["fstat"] = "fstat fstat64 newfstatat statx"
	made["fstatat"] = "newfstatat fstatat64 statx"
	made["faccessat"] = "faccessat faccessat2"
	made["renameat"] = "renameat renameat2"
	print "/* Made by sandbox_notes.awk. */"
}

function fail(text) {
	printf "%s:%d: #syscalls: %s\n", FILENAME, FNR, text >"/dev/stderr"
	failed = 1
	exit 1
}

# The conditions for the arguments that are given, as C has them.
function conditions(name, given,    shape, value, n, m, i, text) {
	n = split(shapes[name], shape, " ") / 2
	m = split(given, value, / *, */)
	if (n != m)
		fail(name " is noted with " m " arguments, not " n)
	for (i = 1; i <= n; i++)
		text = text sprintf("%s{ %d, %s_ARGUMENT, (%s) & %s_ARGUMENT }", i > 1 ? ", " : "",
			shape[2 * i - 1], shape[2 * i], value[i], shape[2 * i])
	return n ? ", " n ", { " text " }" : ""
}

function note(needs, call,    name, given, calls, n, i, row) {
	name = given = call
	sub(/\(.*/, "", name)
	if (!sub(/^[^(]*\(/, "", given))
		given = ""
	sub(/\)$/, "", given)
	if (needs == "SANDBOX_SANITIZER" && given == "")
		row = ""
	else
		row = conditions(name, given)
	n = split(name in made ? made[name] : name, calls, " ")
	for (i = 1; i <= n; i++)
		print "{ " needs ", SCMP_SYS(" calls[i] ")" row " },"
}

/#syscalls / {
	text = $0
	sub(/.*#syscalls /, "", text)
	sub(/ *\*\/.*/, "", text)
	if (text !~ /^[a-z_ ]+: [a-z]/)
		fail("not NEED...: CALL, ...: " text)
	needs = toupper(text)
	sub(/:.*/, "", needs)
	gsub(/ +/, " | SANDBOX_", needs)
	sub(/^[^:]*: */, "", text)
	while (match(text, /^[a-z_0-9]+(\([^)]*\))?(, *|$)/)) {
		call = substr(text, 1, RLENGTH)
		text = substr(text, RLENGTH + 1)
		sub(/, *$/, "", call)
		note("SANDBOX_" needs, call)
	}
	if (text != "")
		fail("not a call: " text)
}

END { exit failed }
