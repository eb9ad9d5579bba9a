#define LOG_MODULE "pg_doorman::app"
#include "actors/inherited.h"

#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

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

static int highest_fd(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        return 1 << 20;
    return (int)limit.rlim_cur - 1;
}

void inherited_close(int listener_fd, int link_fd)
{
    const char *asked = getenv(close_name);
    int ready_fd = named_fd(ready_name);
    int migration_fd = named_fd(migration_name);
    unsigned closed = 0;

    if (listener_fd < 0 && (asked == NULL || strcmp(asked, "1") != 0))
        return;
    int last = highest_fd();
    for (int fd = 3; fd <= last; fd++) {
        if (fd != listener_fd && fd != ready_fd && fd != link_fd &&
            (fd != migration_fd || link_fd >= 0) && close(fd) == 0)
            closed++;
    }
    if (closed > 0)
        fprintf(stderr,
                "binary upgrade: closed %u unexpected inherited file descriptor(s) before "
                "startup\n",
                closed);
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
        log_warn("cannot tell the predecessor that this process is ready");
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
