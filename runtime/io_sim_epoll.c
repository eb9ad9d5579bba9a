/* The epoll engine itself, over a simulated epoll: runtime/io_epoll.c is compiled a second time,
 * with the system calls that it makes replaced by those below. */
#include "runtime/sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A worker's epoll and event descriptors are told by their numbers. */
enum { EPOLL_FIRST = 2000000, EVENT_FIRST = 3000000 };

int sim_epolls[SIM_PROCESSES];

static uint32_t readiness(struct sim_end *e)
{
    uint32_t events = 0;

    if (e->kind == SIM_LISTENER)
        return sim_readable(e) ? EPOLLIN : 0;
    if (sim_readable(e))
        events |= EPOLLIN;
    if (e->in.fin_visible || e->in.reset || e->shut_read)
        events |= EPOLLRDHUP;
    if (e->in.reset)
        events |= EPOLLERR | EPOLLHUP;
    if (!e->connecting && sim_writable(e))
        events |= EPOLLOUT;
    return events;
}

/* What there is to tell of it. Edge-triggered: only what is new. */
static uint32_t news(struct sim_end *e)
{
    uint32_t events = readiness(e) & (sim_ops(e)->epoll_events | EPOLLERR | EPOLLHUP);

    if (sim_ops(e)->epoll_worker == 0 || sim_ops(e)->epoll_events == 0)
        return 0;
    return (sim_ops(e)->epoll_events & EPOLLET) ? events & sim_ops(e)->epoll_edges : events;
}

static int sim_epoll_create(int flags)
{
    (void)flags;
    return EPOLL_FIRST + sim_epolls[sim_process]++;
}

static int sim_eventfd(unsigned initial, int flags)
{
    (void)initial;
    (void)flags;
    return EVENT_FIRST + sim_epolls[sim_process] - 1;
}

static int sim_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    if (fd >= EVENT_FIRST)
        return 0;
    struct sim_end *e = sim_end_of(fd);
    uint16_t worker = (uint16_t)(epoll - EPOLL_FIRST + 1);
    bool there = sim_ops(e)->epoll_worker == worker;

    if (operation == EPOLL_CTL_ADD ? sim_ops(e)->epoll_worker != 0 && there : !there) {
        errno = operation == EPOLL_CTL_ADD ? EEXIST : ENOENT;
        return -1;
    }
    if (operation == EPOLL_CTL_DEL) {
        sim_ops(e)->epoll_worker = 0;
        return 0;
    }
    sim_ops(e)->epoll_worker = worker;
    sim_ops(e)->epoll_events = event->events;
    sim_ops(e)->epoll_data = event->data.u64;
    sim_ops(e)->epoll_edges = UINT32_MAX; /* whatever is there now is new */
    return 0;
}

/* Some of what there is, in any order. */
static int sim_epoll_wait(int epoll, struct epoll_event *out, int size, int timeout_ms)
{
    uint16_t which[SIM_FDS];
    unsigned found = 0;
    int count = 0;

    (void)timeout_ms;
    for (unsigned i = 0; i < sim_table()->limit; i++) {
        if (sim_table()->ends[i] != NULL &&
            sim_ops(sim_table()->ends[i])->epoll_worker == epoll - EPOLL_FIRST + 1 &&
            news(sim_table()->ends[i]) != 0)
            which[found++] = (uint16_t)i;
    }
    while (found > 0 && count < size && (count == 0 || !sim_chance(300))) {
        unsigned pick = (unsigned)sim_below(found);
        struct sim_end *e = sim_table()->ends[which[pick]];

        out[count].events = news(e);
        out[count++].data.u64 = sim_ops(e)->epoll_data;
        sim_note("link %u: epoll tells %x", e->number, news(e));
        sim_ops(e)->epoll_edges &= ~news(e);
        if (sim_ops(e)->epoll_events & EPOLLONESHOT)
            sim_ops(e)->epoll_events = 0;
        which[pick] = which[--found];
    }
    return count;
}

static ssize_t answer(ssize_t result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

static ssize_t sim_recv(int fd, void *at, size_t size, int flags)
{
    struct sim_end *e = sim_end_of(fd);
    ssize_t result = sim_receive(e, at, size);

    (void)flags;
    sim_note("link %u: recv gives %zd", e->number, result);
    return answer(result);
}

static ssize_t sim_sendmsg(int fd, const struct msghdr *header, int flags)
{
    struct sim_end *e = sim_end_of(fd);
    ssize_t result = sim_transmit(e, header->msg_iov, (unsigned)header->msg_iovlen);

    (void)flags;
    if (result == -EAGAIN)
        sim_ops(e)->epoll_edges |= EPOLLOUT; /* room will be news */
    sim_note("link %u: send takes %zd", e->number, result);
    return answer(result);
}

static ssize_t sim_send(int fd, const void *at, size_t len, int flags)
{
    struct iovec iov = {(void *)(uintptr_t)at, len};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    return sim_sendmsg(fd, &header, flags);
}

static ssize_t sim_write(int fd, const void *at, size_t len)
{
    (void)at;
    sim_wake(runtime_worker((unsigned)(fd - EVENT_FIRST)));
    return (ssize_t)len;
}

static ssize_t sim_read(int fd, void *at, size_t size)
{
    (void)fd;
    memset(at, 0, size);
    return (ssize_t)size;
}

static int sim_close(int fd)
{
    (void)fd;
    return 0;
}

#define epoll_create1    sim_epoll_create
#define eventfd          sim_eventfd
#define epoll_ctl        sim_epoll_ctl
#define epoll_wait       sim_epoll_wait
#define recv(a, b, c, d) sim_recv(a, b, c, d)
#define send(a, b, c, d) sim_send(a, b, c, d)
#define sendmsg          sim_sendmsg
#define write            sim_write
#define read             sim_read
#define close            sim_close
#define io_epoll_engine  io_sim_epoll_engine
extern struct io_engine io_sim_epoll_engine;
#include "runtime/io_epoll.c"

bool sim_epoll_ready(unsigned worker)
{
    const struct epoll_io *io = io_of(sim_programs[sim_process].worker[worker]);

    if (io != NULL && io->listed_count > 0)
        return true;
    for (unsigned i = 0; i < sim_table()->limit; i++) {
        if (sim_table()->ends[i] != NULL &&
            sim_ops(sim_table()->ends[i])->epoll_worker == worker + 1 &&
            news(sim_table()->ends[i]) != 0)
            return true;
    }
    return false;
}
