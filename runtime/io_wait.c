/* Waits of coroutines on plain descriptors. */
#include "runtime/io.h"
#include "runtime/world.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>

static void fd_ready(struct worker *w, struct io_poll *poll, int result)
{
    wait_end(w, poll->wait, result);
}

int io_wait_fd(struct worker *w, int fd, uint32_t events, uint64_t deadline_us)
{
    struct io_poll poll = {.fd = fd, .events = events, .done = fd_ready, .wait = wait_begin(w)};

    w->engine->poll(w, &poll);
    int64_t result = wait_suspend(w, deadline_us);
    if (result == -ETIMEDOUT && poll.armed) {
        /* The kernel may still write to this stack: wait until it has let go. */
        poll.wait = wait_begin(w);
        w->engine->poll_cancel(w, &poll);
        wait_suspend(w, 0);
    }
    return (int)result;
}

int io_connect(struct worker *w, const struct sockaddr *address, socklen_t len,
               uint64_t deadline_us)
{
    int fd = io_socket(address->sa_family);

    if (fd < 0)
        return -errno;
    int error = io_connect_begin(fd, address, len) == 0 ? 0 : errno;
    /* A Unix socket's backlog may be full: EAGAIN, and nothing to wait for but time. */
    while (error == EAGAIN && (deadline_us == 0 || clock_us() + 2000 < deadline_us)) {
        wait_sleep(w, 2000);
        error = io_connect_begin(fd, address, len) == 0 ? 0 : errno;
    }
    if (error == EINPROGRESS) {
        int events = io_wait_fd(w, fd, POLLOUT, deadline_us);

        error = events < 0 ? -events : io_connect_error(fd);
    }
    if (error != 0) {
        io_close(fd);
        return -error;
    }
    return fd;
}
