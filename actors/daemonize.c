#include "actors/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail_errno(struct failure *why, const char *what)
{
    return fail(why, "%s, errno %d", what, errno);
}

static int wait_for(pid_t pid, int *status)
{
    pid_t got;

    do
        got = waitpid(pid, status, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -1 : 0;
}

static int redirect(int first, int last)
{
    int fd = open("/dev/null", O_RDWR);

    if (fd < 0)
        return -1;
    for (int i = first; i <= last; i++) {
        if (dup2(fd, i) < 0)
            return -1;
    }
    if (fd > STDERR_FILENO)
        close(fd);
    return 0;
}

/* Started with one of them closed, the pipe would take its number. */
static int open_standard_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

/* --- the two processes in between; neither returns --- */

NO_RETURN static void middle_report(const char *what)
{
    fprintf(stderr, "Error daemonize: %s, errno %d\n", what, errno);
    fflush(stderr);
    _exit(DAEMON_FAILED_STATUS);
}

/* Waits for the daemon's word. No word means that it ended: its status becomes ours, for it has
 * told the reason itself. */
NO_RETURN static void middle_wait(int ready_fd, pid_t daemon_pid)
{
    uint8_t word;
    ssize_t n;
    int status;

    do
        n = read(ready_fd, &word, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(0);
    if (wait_for(daemon_pid, &status) != 0)
        middle_report("wait failed");
    if (WIFSIGNALED(status))
        fprintf(stderr, "Error daemonize: the daemon was killed by signal %d before it was ready\n",
                WTERMSIG(status));
    else if (WEXITSTATUS(status) == 0)
        fprintf(stderr, "Error daemonize: the daemon ended before it was ready\n");
    fflush(stderr);
    _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status)
                                                        : DAEMON_FAILED_STATUS);
}

NO_RETURN static void caller_wait(pid_t middle)
{
    int status;

    if (wait_for(middle, &status) != 0)
        middle_report("wait failed");
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : DAEMON_FAILED_STATUS);
}

/* Returns in the daemon only, with the write end of the pipe as its own. The process in between
 * waits for that end to close, so it must not keep it open itself. */
static void middle_run(const int ends[2])
{
    /* A session leader could get a terminal; its child cannot. */
    if (setsid() < 0)
        middle_report("unable to create new session");
    umask(027);
    pid_t pid = fork();
    if (pid < 0)
        middle_report("unable to fork");
    if (pid > 0) {
        close(ends[1]);
        middle_wait(ends[0], pid);
    }
    close(ends[0]);
}

int daemon_fork(struct daemon *d, struct failure *why)
{
    int ends[2];

    *d = (struct daemon){.ready_fd = -1, .pid_fd = -1};
    if (open_standard_streams() != 0)
        return fail_errno(why, "unable to redirect standard streams to /dev/null");
    if (pipe2(ends, O_CLOEXEC) != 0)
        return fail_errno(why, "unable to create pipe for synchronization");
    fflush(NULL);
    pid_t middle = fork();
    if (middle < 0) {
        fail_errno(why, "unable to fork");
        close(ends[0]);
        close(ends[1]);
        return -1;
    }
    if (middle > 0) {
        close(ends[0]);
        close(ends[1]);
        caller_wait(middle);
    }
    middle_run(ends);
    d->ready_fd = ends[1];
    if (redirect(STDIN_FILENO, STDOUT_FILENO) != 0)
        middle_report("unable to redirect standard streams to /dev/null");
    return 0;
}

/* --- PID file --- */

static int write_pid(const char *path, int flags, struct failure *why)
{
    char text[24];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0666);

    if (fd < 0)
        return fail_errno(why, "unable to open pid file");
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0) {
        fail_errno(why, "unable to truncate pid file");
        goto close_file;
    }
    ssize_t n = pwrite(fd, text, (size_t)len, 0);
    if (n != len) {
        errno = n < 0 ? errno : ENOSPC;
        fail_errno(why, "unable to write self pid to pid file");
        goto close_file;
    }
    return fd;

close_file:
    close(fd);
    return -1;
}

int pid_file_write(const char *path, struct failure *why)
{
    return write_pid(path, 0, why);
}

/* Readable to whom it was, as far as there was one. -1: not there; the file itself may be. */
static int replace(const char *path, struct failure *why)
{
    char next[PATH_MAX + 16];
    struct stat old;
    bool there = stat(path, &old) == 0;

    if (there && (!S_ISREG(old.st_mode) || old.st_uid != geteuid()))
        return fail(why, "not a file of ours");
    snprintf(next, sizeof next, "%s.%d", path, (int)getpid());
    unlink(next); /* of a process of that number, long ago */
    int fd = write_pid(next, O_EXCL, why);
    if (fd < 0)
        return -1;
    if ((!there || fchmod(fd, old.st_mode & 0777) == 0) && rename(next, path) == 0)
        return fd;
    fail_errno(why, "unable to replace pid file");
    unlink(next);
    close(fd);
    return -1;
}

int pid_file_replace(const char *path, struct failure *why)
{
    struct failure unable;
    char *real = realpath(path, NULL); /* the file that a link leads to */
    int fd = replace(real == NULL ? path : real, &unable);

    free(real);
    /* Where none but the file itself may be written. */
    return fd >= 0 ? fd : pid_file_write(path, why);
}

bool pid_file_is_own(const char *path)
{
    char text[24];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return strtol(text, NULL, 10) == (long)getpid();
}

bool pid_file_remove_own(const char *path)
{
    return pid_file_is_own(path) && unlink(path) == 0;
}

/* --- the daemon --- */

int daemon_ready(struct daemon *d, const char *pid_path, struct failure *why)
{
    uint8_t word = 1;

    if (d->ready_fd < 0)
        return 0;
    d->pid_path = strdup(pid_path);
    if (d->pid_path == NULL)
        return fail(why, "out of memory");
    d->pid_fd = pid_file_write(pid_path, why);
    if (d->pid_fd < 0)
        goto free_path;
    if (redirect(STDERR_FILENO, STDERR_FILENO) != 0) {
        fail_errno(why, "unable to redirect standard streams to /dev/null");
        goto remove_file;
    }
    /* The caller may be gone; that is no reason not to serve. */
    if (write(d->ready_fd, &word, 1) < 0)
        errno = 0;
    close(d->ready_fd);
    d->ready_fd = -1;
    return 0;

remove_file:
    pid_file_remove_own(pid_path);
    close(d->pid_fd);
    d->pid_fd = -1;
free_path:
    free(d->pid_path);
    d->pid_path = NULL;
    return -1;
}

int daemon_adopt(struct daemon *d, const char *pid_path, struct failure *why)
{
    int fd = pid_file_replace(pid_path, why);

    if (fd < 0)
        return -1;
    if (d->pid_fd >= 0)
        close(d->pid_fd);
    d->pid_fd = fd;
    char *path = strdup(pid_path);
    INVARIANT(path != NULL);
    free(d->pid_path);
    d->pid_path = path;
    return 0;
}

void daemon_end(struct daemon *d)
{
    if (d->pid_path != NULL)
        pid_file_remove_own(d->pid_path);
    if (d->pid_fd >= 0)
        close(d->pid_fd);
    free(d->pid_path);
    d->pid_path = NULL;
    d->pid_fd = -1;
}
