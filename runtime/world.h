/* world.h: what the runtime takes from outside: the time, chance, sockets, helper threads.
 *
 * In production that is the kernel's. A simulation (runtime/sim.h) puts its own in its place before
 * runtime_init(), and then neither the runtime nor the actors see anything real. Whatever is not
 * the business of an I/O engine alone goes through the functions below; they look at one pointer,
 * and none of them is called for a transaction but clock_us(), once per turn of a worker's loop.
 */
#ifndef RUNTIME_WORLD_H
#define RUNTIME_WORLD_H

#include "runtime/base.h"

#include <sys/socket.h>

struct io_engine;

/* The calls on sockets answer as the system calls of these names do: -1 and errno. */
struct world {
    struct io_engine *engine;
    uint64_t (*clock_us)(void);
    void (*random)(void *out, size_t len);
    /* Calls run(argument) some time, outside of the workers: 0, or -ECANCELED. */
    int (*help)(void (*run)(void *argument), void *argument);
    bool (*memory)(size_t size); /* is there so much? */
    void (*stop)(void);          /* in place of the end of the workers' loops */
    int (*socket)(int family);
    int (*connect)(int fd, const struct sockaddr *address, socklen_t len);
    int (*connect_error)(int fd); /* SO_ERROR */
    int (*accept)(int fd, struct sockaddr *peer, socklen_t *len);
    ssize_t (*send)(int fd, const void *at, size_t len);
    ssize_t (*peek)(int fd, uint8_t *byte);
    int (*shutdown)(int fd, int how);
    int (*close)(int fd);
    int (*set_option)(int fd, int level, int option, const void *value, socklen_t len);
    /* Calls hung_up(token) when the peer has hung up, outside of the workers. */
    void (*watch)(int fd, uint64_t token, void (*hung_up)(uint64_t token));
};

extern const struct world *world_simulated; /* NULL: the kernel's */

/* A stream socket: non-blocking, close-on-exec. The descriptor, or -1 and errno. */
int io_socket(int family);
int io_connect_begin(int fd, const struct sockaddr *address, socklen_t len);
/* After a connect in progress: 0 or an errno. */
int io_connect_error(int fd);
int io_accept(int fd, struct sockaddr *peer, socklen_t *len);
/* One attempt, without waiting and without SIGPIPE. */
ssize_t io_send(int fd, const void *at, size_t len);
/* The first byte that waits, left where it is; at most one. Without waiting. */
ssize_t io_peek(int fd, uint8_t *byte);
/* A number that is another one when the peer has taken some of what was sent; not a count. */
uint64_t io_taken(int fd);
int io_shutdown(int fd, int how);
int io_close(int fd);
int io_set_option(int fd, int level, int option, const void *value, socklen_t len);

/* malloc() and aligned_alloc() for what a stranger makes necessary and can be refused: NULL then.
 * All other allocations must succeed, or the process ends (INVARIANT); a simulation refuses these
 * only.
 */
void *memory_ask(size_t size);
void *memory_ask_aligned(size_t alignment, size_t size);

#endif
