#define LOG_MODULE "pg_doorman::app"
#include "actors/inherited.h"

#include "runtime/base.h"
#include "runtime/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SAY_MS = 200 };

static const char close_name[] = "PG_DOORMAN_CLOSE_INHERITED_FDS";
static const char ready_name[] = "PG_DOORMAN_READY_FD";
static const char migration_name[] = "PG_DOORMAN_MIGRATION_FD";

/* -1: not given, or not a descriptor number. */
static int named_fd(const char *name)
{
    const char *text = getenv(name);
    char *end;

    if (text == NULL || *text == '\0')
        return -1;
    errno = 0;
    long value = strtol(text, &end, 10);
    return errno != 0 || *end != '\0' || value < 0 || value > INT_MAX ? -1 : (int)value;
}

static bool is_kept(int fd, const int *keep, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (keep[i] == fd)
            return true;
    }
    return false;
}

/* All of them: the limit may be a thousand million, and a look at each number would take minutes.
 * Without /proc those are looked at that there may be. */
static unsigned close_others(const int *keep, size_t count)
{
    DIR *all = opendir("/proc/self/fd");
    unsigned closed = 0;

    if (all == NULL) {
        int last = (int)MIN(sysconf(_SC_OPEN_MAX), 1L << 20);
        for (int fd = 3; fd < last; fd++)
            closed += !is_kept(fd, keep, count) && close(fd) == 0;
        return closed;
    }
    /* What is closed meanwhile does not disturb the walk: each entry is made as it is read. */
    for (const struct dirent *entry; (entry = readdir(all)) != NULL;) {
        char *end;
        long fd = strtol(entry->d_name, &end, 10);

        if (end == entry->d_name || fd < 3 || fd == dirfd(all))
            continue;
        closed += !is_kept((int)fd, keep, count) && close((int)fd) == 0;
    }
    closedir(all);
    return closed;
}

/* Nobody may be reading: that must not keep this process. */
static void say(const char *text)
{
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (poll(&room, 1, SAY_MS) > 0 && write(STDERR_FILENO, text, strlen(text)) < 0)
        return; /* closed: nobody wants to know */
}

void inherited_close(int listener_fd, int link_fd)
{
    const char *asked = getenv(close_name);
    int migration_fd = named_fd(migration_name);
    int keep[] = {listener_fd, link_fd, named_fd(ready_name), migration_fd};
    char text[128];

    if (listener_fd < 0 && (asked == NULL || strcmp(asked, "1") != 0))
        return;
    if (link_fd >= 0 && migration_fd > STDERR_FILENO) {
        close(migration_fd); /* expected, but with the link there is no need for it */
        unsetenv(migration_name);
    }
    unsigned closed = close_others(keep, COUNT_OF(keep));
    snprintf(text, sizeof text,
             "binary upgrade: closed %u unexpected inherited file descriptor(s) before startup\n",
             closed);
    if (closed > 0)
        say(text);
    unsetenv(close_name);
}

void inherited_report_ready(void)
{
    const uint8_t word = 1;
    int fd = named_fd(ready_name);

    unsetenv(ready_name);
    if (fd < 0)
        return;
    log_info("Signaling readiness to parent process (fd=%d)", fd);
    if (write(fd, &word, 1) != 1)
        log_warn("the predecessor cannot be told that this process is ready: %s", strerror(errno));
    close(fd);
}

int inherited_migration_fd(void)
{
    int fd = named_fd(migration_name);

    unsetenv(migration_name);
    if (fd < 0)
        return -1;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        log_warn("cannot use the migration socket (fd=%d): %s", fd, strerror(errno));
        return -1;
    }
    log_info("Migration socket received from parent (fd=%d)", fd);
    return fd;
}
