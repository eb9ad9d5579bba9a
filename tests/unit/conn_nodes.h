/* conn_nodes.h: an actor with one connection, for tests of connections: it runs scripts on a
 * coroutine, and hands I/O messages to whatever function its test names. */
#ifndef TESTS_CONN_NODES_H
#define TESTS_CONN_NODES_H

#include "tests/unit/in_runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { NODE_SCRIPT = MESSAGE_KIND_FIRST, NODE_TURN };

struct node {
    struct actor actor;
    struct conn conn;
    struct conn *lease; /* a connection that goes round */
    void (*on_io)(struct worker *w, struct node *node, struct message *m);
    struct node *other;
    int raw; /* the other end of conn, when the test plays it by itself */
    uint64_t sent;
    uint64_t received;
    uint64_t total;
    int number;
    int rounds;
    _Atomic int written; /* times, by others, to raw */
    bool ended;
};
typedef void node_script(struct worker *w, struct node *node);

static inline void node_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct node *node = CONTAINER_OF(self, struct node, actor);
    node_script *script;

    if (m->kind == MESSAGE_START)
        return;
    if (m->kind == NODE_SCRIPT) {
        memcpy(&script, message_body(m), sizeof script);
        script(w, node);
        return;
    }
    INVARIANT(node->on_io != NULL);
    node->on_io(w, node, m);
}

static inline bool node_blocks(const struct actor *self, const struct message *m)
{
    (void)self;
    return m->kind == NODE_SCRIPT;
}

static const struct actor_type node_type = {.name = "node",
                                            .size = sizeof(struct node),
                                            .rank = 1,
                                            .number = 1,
                                            .receive = node_receive,
                                            .blocks = node_blocks};

static inline void node_run(struct worker *w, struct node *node, node_script *script)
{
    struct message *m = message_new(NODE_SCRIPT);

    message_set_body(m, &script, sizeof script);
    INVARIANT(actor_tell(w, actor_id_of(&node->actor), m));
}

static inline struct node *node_new(struct worker *w, int fd, int raw)
{
    static _Atomic int count;
    int number = atomic_fetch_add(&count, 1);
    struct actor *a = actor_new(&node_type, (uint16_t)((unsigned)number % runtime_workers()));
    struct node *node = CONTAINER_OF(a, struct node, actor);

    node->number = number;
    node->raw = raw;
    if (fd >= 0)
        conn_open(&node->conn, fd, a);
    actor_launch(w, a);
    return node;
}

/* Two connected sockets that do not block: by TCP or in the kernel. */
static inline void sockets_make(int fd[2], bool tcp)
{
    if (!tcp) {
        INVARIANT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
        return;
    }
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    INVARIANT(bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 1) == 0);
    INVARIANT(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    INVARIANT(connect(fd[0], (struct sockaddr *)&at, len) == 0);
    fd[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    INVARIANT(fd[1] >= 0 && fcntl(fd[0], F_SETFL, O_NONBLOCK) == 0);
    close(listener);
    int one = 1;
    for (int i = 0; i < 2; i++)
        INVARIANT(setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
}

/* By TCP, less than a segment's worth would wait for delayed acknowledgements. */
static inline void send_buffer_shrink(int fd, bool tcp)
{
    int size = tcp ? 128 << 10 : 4096;

    INVARIANT(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
}

/* What stands at each place of a stream. */
static inline uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}
static inline void pattern_fill(uint8_t *out, uint64_t from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = pattern(from + i);
}
static inline void pattern_check(const uint8_t *got, uint64_t from, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (got[i] != pattern(from + i)) {
            unit_fail(__FILE__, __LINE__, "wrong byte at %" PRIu64, from + i);
            return;
        }
    }
}

static _Atomic int nodes_left;

/* The last one ends the run. */
static inline void node_done(void)
{
    if (atomic_fetch_sub(&nodes_left, 1) == 1)
        runtime_stop();
}

static inline uint64_t soon(void)
{
    return clock_us() + 60000000;
}

#endif
