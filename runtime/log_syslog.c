#include "runtime/log_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

const char *const log_syslog_paths[] = {"/dev/log", "/var/run/syslog", NULL};

enum { FACILITY_USER = 8, SYSLOG_CUT_BYTES = 2048 };

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static int connect_first(const char *const *paths)
{
    int first_errno = ENOENT;

    for (size_t i = 0; paths[i] != NULL; i++) {
        int fd = connect_to(paths[i]);

        if (fd >= 0)
            return fd;
        if (i == 0)
            first_errno = errno;
    }
    errno = first_errno;
    return -1;
}

int log_syslog_open(struct log_syslog *s, const char *name, const char *const *paths,
                    struct failure *why)
{
    s->fd = connect_first(paths);
    if (s->fd < 0)
        return fail(why, "failed to open syslog socket (%s): %s", paths[0], strerror(errno));
    s->pid = getpid();
    s->paths = paths;
    snprintf(s->name, sizeof s->name, "%s", name);
    return 0;
}

static int severity(enum log_level level)
{
    switch (level) {
    case LOG_OFF:
    case LOG_ERROR: return 3;
    case LOG_WARN: return 4;
    case LOG_INFO: return 6;
    case LOG_DEBUG:
    case LOG_TRACE: return 7;
    }
    return 7;
}

size_t log_format_syslog(char *out, size_t size, const struct log_record *r,
                         const struct log_syslog *s)
{
    /* Not strftime: month names must not follow a locale. */
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(r->at_ms / 1000);
    struct tm t;

    localtime_r(&seconds, &t);
    int n = snprintf(out, size, "<%d>%s %2d %02d:%02d:%02d %s[%d]: %.*s",
                     FACILITY_USER + severity(r->level), months[t.tm_mon % 12], t.tm_mday,
                     t.tm_hour, t.tm_min, t.tm_sec, s->name, s->pid, (int)r->len,
                     log_record_message(r));
    return MIN((size_t)n, size - 1);
}

void log_syslog_send(struct log_syslog *s, const char *line, size_t len, int ms)
{
    for (int attempt = 0; attempt < 3; attempt++) {
        if (s->fd < 0)
            s->fd = connect_first(s->paths);
        if (s->fd < 0)
            return;
        if (send(s->fd, line, len, MSG_NOSIGNAL) >= 0)
            return;
        if (errno == EMSGSIZE && len > SYSLOG_CUT_BYTES) {
            len = SYSLOG_CUT_BYTES;
        } else if (errno == EAGAIN || errno == ENOBUFS) {
            struct pollfd wait = {.fd = s->fd, .events = POLLOUT};

            (void)poll(&wait, 1, ms);
        } else if (errno != EINTR) {
            log_syslog_close(s);
        }
    }
}

void log_syslog_close(struct log_syslog *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
