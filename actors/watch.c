#define LOG_MODULE "pg_doorman::server"
#include "actors/app.h"

#include "runtime/log.h"
#include "runtime/world.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WATCH_EVENTS = 64 };

static int watch_epoll = -1;
static int watch_end = -1;
static pthread_t watch_thread;

static void hung_up(actor_id backend)
{
    actor_tell(NULL, backend, MESSAGE(BACKEND_HANGUP, .backend = backend));
}

/* Identities are never 0, which is left for the end of the thread. */
static void *watch_main(void *nothing)
{
    struct epoll_event events[WATCH_EVENTS];

    (void)nothing;
    for (;;) {
        int count = epoll_wait(watch_epoll, events, WATCH_EVENTS, -1);

        for (int i = 0; i < count; i++) {
            actor_id backend = events[i].data.u64;

            if (backend == 0)
                return NULL;
            hung_up(backend);
        }
        if (count < 0 && errno != EINTR) {
            log_error("the watch over idle backends has ended: %s", strerror(errno));
            return NULL;
        }
    }
}

static int thread_start(struct failure *why)
{
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&watch_thread, NULL, watch_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return fail(why, "cannot start the thread that watches backends: %s", strerror(error));
    pthread_setname_np(watch_thread, "watch-pg-doorma");
    return 0;
}

int watch_start(struct failure *why)
{
    struct epoll_event event = {.events = EPOLLIN};

    watch_epoll = epoll_create1(EPOLL_CLOEXEC);
    watch_end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch_epoll < 0 || watch_end < 0 ||
        epoll_ctl(watch_epoll, EPOLL_CTL_ADD, watch_end, &event) != 0) {
        fail(why, "cannot watch backends: %s", strerror(errno));
        goto close_files;
    }
    if (thread_start(why) == 0)
        return 0;

close_files:
    if (watch_epoll >= 0)
        close(watch_epoll);
    if (watch_end >= 0)
        close(watch_end);
    watch_epoll = -1;
    watch_end = -1;
    return -1;
}

void watch_stop(void)
{
    uint64_t one = 1;

    if (watch_epoll < 0)
        return;
    if (write(watch_end, &one, sizeof one) != (ssize_t)sizeof one)
        return; /* cannot be, but must not hold up the end of the process */
    pthread_join(watch_thread, NULL);
    close(watch_epoll);
    close(watch_end);
    watch_epoll = -1;
    watch_end = -1;
}

/* Only the hang-up is asked for, so bytes that come and go do not wake the thread. Closing the
 * descriptor takes it out of the set. */
void watch_hangup(int fd, actor_id backend)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.u64 = backend};

    if (world_simulated != NULL) {
        world_simulated->watch(fd, backend, hung_up);
        return;
    }
    if (epoll_ctl(watch_epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        log_warn("an idle backend cannot be watched (%s): its end is noticed at its next use only",
                 strerror(errno));
}
