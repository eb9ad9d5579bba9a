#define LOG_MODULE "pg_doorman::app"
#include "actors/listener.h"

#include "runtime/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_LOCAL = 71, LOCAL_BACKLOG = 1024 };

/* Does somebody listen there? A full backlog is somebody, too. `whose`: the process, 0 if that is
 * not known. */
static bool in_use(const struct sockaddr_un *address, pid_t *whose)
{
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *whose = 0;
    if (fd < 0)
        return true;
    bool used = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
                errno == EAGAIN || errno == EINPROGRESS;
    if (used && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        *whose = peer.pid;
    close(fd);
    return used;
}

/* A process that was killed may seem to listen a little longer: the kernel takes its ring apart
 * later, and until then the ring holds the socket. So a sign of life counts when it lasts. */
static bool stays_in_use(const struct sockaddr_un *address, pid_t *whose)
{
    static const struct timespec pause = {.tv_nsec = 50000000};

    for (int look = 0; look < 20; look++) {
        if (!in_use(address, whose))
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* PgDoorman 3.10, which has started this process to take its place, does not hand over its Unix
 * socket and goes on listening on it till it ends. */
static bool is_predecessors(const struct sockaddr_un *address)
{
    pid_t whose;

    return in_use(address, &whose) && whose == getppid();
}

/* What an earlier process left there goes, if it is a socket. */
static int make_way(const struct sockaddr_un *address, bool replaces, struct failure *why)
{
    const char *path = address->sun_path;
    struct stat file;
    pid_t whose;

    if (lstat(path, &file) != 0)
        return errno == ENOENT ? 0 : fail(why, "Failed to stat %s: %s", path, strerror(errno));
    if (!S_ISSOCK(file.st_mode))
        return fail(why, "Cannot use Unix socket path %s: it exists and is not a socket", path);
    if (replaces && is_predecessors(address))
        log_info("Unix socket %s is taken from the old process", path);
    else if (stays_in_use(address, &whose))
        return fail(why,
                    "Cannot reuse Unix socket path %s: another process is already listening on "
                    "%s; refusing to remove it",
                    path, path);
    if (unlink(path) != 0 && errno != ENOENT)
        return fail(why, "Failed to remove stale Unix socket %s: %s", path, strerror(errno));
    return 0;
}

/* Under a umask, so that at no moment anybody has more rights than in the end. */
static int bind_tightly(int fd, const struct sockaddr_un *address, mode_t mode)
{
    mode_t before = umask(0777 & ~mode);
    int result = bind(fd, (const struct sockaddr *)address, sizeof *address);
    int error = errno;

    umask(before);
    errno = error;
    return result;
}

static int bind_and_listen(int fd, const struct sockaddr_un *address, mode_t mode,
                           struct stat *file, struct failure *why)
{
    const char *path = address->sun_path;

    if (bind_tightly(fd, address, mode) != 0)
        return fail(why, "Failed to bind Unix socket %s: %s", path, strerror(errno));
    if (chmod(path, mode) != 0) {
        fail(why, "Failed to set mode 0o%o on Unix socket %s: %s", mode, path, strerror(errno));
        goto remove_file;
    }
    if (lstat(path, file) != 0)
        return fail(why, "Failed to stat Unix socket %s after bind: %s", path, strerror(errno));
    if (listen(fd, LOCAL_BACKLOG) != 0) {
        fail(why, "Failed to listen on Unix socket %s: %s", path, strerror(errno));
        goto remove_file;
    }
    return 0;

remove_file:
    unlink(path);
    return -1;
}

struct listener *listener_open_local(const struct general_config *general, bool replaces,
                                     int *status, struct failure *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mode = general->unix_socket_mode_bits;
    struct stat file;

    *status = STATUS_LOCAL;
    int len = snprintf(address.sun_path, sizeof address.sun_path, "%s/.s.PGSQL.%" PRIu64,
                       general->unix_socket_dir, general->port);
    if (len < 0 || (size_t)len >= sizeof address.sun_path) {
        fail(why, "Failed to bind Unix socket %s/.s.PGSQL.%" PRIu64 ": the path is too long",
             general->unix_socket_dir, general->port);
        return NULL;
    }
    if (make_way(&address, replaces, why) != 0)
        return NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail(why, "Failed to bind Unix socket %s: %s", address.sun_path, strerror(errno));
        return NULL;
    }
    if (bind_and_listen(fd, &address, mode, &file, why) != 0) {
        close(fd);
        return NULL;
    }
    struct listener *l = listener_new(fd, true);
    snprintf(l->address, sizeof l->address, "%s", address.sun_path);
    l->device = file.st_dev;
    l->inode = file.st_ino;
    log_info("Unix socket listening on %s (mode=0o%o)", l->address, mode);
    return l;
}

struct listener *listener_adopt_local(int fd, const struct general_config *general)
{
    struct sockaddr_un address = {0};
    socklen_t len = sizeof address;
    char path[sizeof address.sun_path + 1];

    int wanted = snprintf(path, sizeof path, "%s/.s.PGSQL.%" PRIu64, general->unix_socket_dir,
                          general->port);
    if (wanted < 0 || (size_t)wanted >= sizeof address.sun_path ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        strcmp(address.sun_path, path) != 0)
        return NULL;
    return listener_adopt_path(fd);
}

struct listener *listener_adopt_path(int fd)
{
    struct sockaddr_un address = {0};
    socklen_t len = sizeof address;
    struct stat file;

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        lstat(address.sun_path, &file) != 0)
        return NULL;
    struct listener *l = listener_new(fd, true);
    snprintf(l->address, sizeof l->address, "%s", address.sun_path);
    l->device = file.st_dev;
    l->inode = file.st_ino;
    log_info("Unix socket taken over on %s", l->address);
    return l;
}

enum { ASIDE_MAX = sizeof(((struct listener *)0)->address) + 8 };

static void aside_path(const struct listener *l, char out[ASIDE_MAX])
{
    snprintf(out, ASIDE_MAX, "%s.old", l->address);
}

bool listener_step_aside(const struct listener *l)
{
    char aside[ASIDE_MAX];

    aside_path(l, aside);
    if (rename(l->address, aside) == 0)
        return true;
    log_warn("Unix socket %s cannot be renamed: %s", l->address, strerror(errno));
    return false;
}

void listener_step_back(const struct listener *l)
{
    char aside[ASIDE_MAX];

    aside_path(l, aside);
    if (rename(aside, l->address) != 0)
        log_error("Unix socket %s does not come back: %s", l->address, strerror(errno));
}

void listener_stay_aside(const struct listener *l)
{
    char aside[ASIDE_MAX];

    aside_path(l, aside);
    unlink(aside);
}

void listener_remove_file(const struct listener *l)
{
    struct stat file;

    if (lstat(l->address, &file) != 0)
        log_info("Leaving Unix socket %s in place: %s", l->address, strerror(errno));
    else if (file.st_dev != l->device || file.st_ino != l->inode)
        log_info("Leaving Unix socket %s in place: inode changed (%llu:%llu, it was %llu:%llu)",
                 l->address, (unsigned long long)file.st_dev, (unsigned long long)file.st_ino,
                 (unsigned long long)l->device, (unsigned long long)l->inode);
    else if (unlink(l->address) != 0)
        log_info("Leaving Unix socket %s in place: %s", l->address, strerror(errno));
}
