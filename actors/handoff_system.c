#include "actors/handoff_system.h"

#include "actors/handoff.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct start {
    const char *name;
    void *(*run)(void *);
};

static void *begin(void *argument)
{
    struct start start = *(struct start *)argument;

    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    return start.run(NULL);
}

int handoff_thread_begin(pthread_t *out, const char *name, void *(*run)(void *))
{
    struct start *start = malloc(sizeof *start);
    pthread_t thread;
    sigset_t all;
    sigset_t before;

    INVARIANT(start != NULL);
    *start = (struct start){name, run};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, begin, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        free(start);
    else if (out == NULL)
        pthread_detach(thread);
    else
        *out = thread;
    return error;
}

void handoff_thread_join(pthread_t thread)
{
    pthread_join(thread, NULL);
}

void handoff_pause(unsigned us)
{
    usleep(us);
}

/* Of the link that the process was started with. It is told also after that process has died and
 * another has become our parent. */
static pid_t link_maker;

int handoff_link_inherited(void)
{
    struct ucred maker;
    socklen_t len = sizeof maker;
    const char *text = getenv(HANDOFF_ENVIRONMENT);
    char *end;

    if (text == NULL)
        return -1;
    long fd = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || fd <= 2 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0)
        fd = -1;
    if (fd >= 0 && getsockopt((int)fd, SOL_SOCKET, SO_PEERCRED, &maker, &len) == 0)
        link_maker = maker.pid;
    unsetenv(HANDOFF_ENVIRONMENT);
    return (int)fd;
}

ssize_t handoff_link_send(int fd, const struct msghdr *message)
{
    return sendmsg(fd, message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t handoff_link_receive(int fd, struct msghdr *message)
{
    return recvmsg(fd, message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
}

int handoff_wait(int fd, short events, int timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = events};

    return poll(&ready, 1, timeout_ms);
}

pid_t process_self(void)
{
    return getpid();
}

pid_t process_parent(void)
{
    return link_maker > 0 ? link_maker : getppid();
}

int process_watch(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool process_ended(int watch_fd, int timeout_ms)
{
    return handoff_wait(watch_fd, POLLIN, timeout_ms) > 0;
}

void process_kill(pid_t pid)
{
    kill(pid, SIGKILL);
}
