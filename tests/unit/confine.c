/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/confine.h"
#include "base/sanitized.h"
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char own[] = "/tmp/tproxy-confine-XXXXXX", other[] = "/tmp/tproxy-confine-XXXXXX";
static struct sockaddr_un name = { .sun_family = AF_UNIX };

/* The errno of what has failed; 0: it has not. */
static int error_of(long result)
{
	return result < 0 ? errno : 0;
}

static int make(const char *directory, const char *file)
{
	int at = open(directory, O_PATH | O_DIRECTORY), fd;

	fd = openat(at, file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	return fd < 0 ? errno : error_of(renameat(at, file, at, "renamed")) ?: error_of(unlinkat(at, "renamed", 0));
}

static int connect_to_name(void)
{
	return error_of(
		connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof(name)));
}

/* What a child that is confined is told of each: its exit status counts what was not so. */
static int confined(bool writes)
{
	int directory = open(own, O_PATH | O_DIRECTORY), null = open("/dev/null", O_RDWR),
	    wrong = 0;

	if (connect_to_name() != 0 || confine_enter(writes ? directory : -1, NULL) < 0)
		return 100;
	wrong += error_of(open("/etc/passwd", O_RDONLY)) != EACCES;
	wrong += error_of(open(own, O_RDONLY | O_DIRECTORY)) != EACCES;
	wrong += error_of(execl("/bin/true", "true", NULL)) != EACCES;
	wrong += error_of(mkdirat(directory, "x", 0700)) != EACCES;
	wrong += error_of(symlinkat("/etc/passwd", directory, "x")) != EACCES;
	wrong += make(other, "file") != EACCES;
	wrong += make(own, "file") != (writes ? 0 : EACCES);
	wrong += write(null, "x", 1) != 1;
	if (strstr(confine_text(), "signals"))
		wrong += error_of(kill(getppid(), 0)) != EPERM || error_of(kill(getpid(), 0)) ||
			 connect_to_name() != EPERM;
	return wrong;
}

/* In a child: -1, or its exit status. */
static int in_child(bool writes)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(confined(writes));
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "tproxy-confine/%d", (int)getpid());
	CHECK(mkdtemp(own) && mkdtemp(other));
	CHECK(bind(listener, (struct sockaddr *)&name, sizeof(name)) == 0 &&
	      listen(listener, 5) == 0);
	CHECK(SANITIZED || strstr(confine_text(), "Landlock"));
	if (strstr(confine_text(), "files")) {
		CHECK(in_child(false) == 0);
		CHECK(in_child(true) == 0);
	}
	rmdir(own);
	rmdir(other);
	return check_done();
}
