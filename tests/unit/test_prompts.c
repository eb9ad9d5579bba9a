/* Sends that report only failure (io_uring): the failure is heard whenever they were submitted. */
#include "tests/unit/conn_nodes.h"

#include <poll.h>

enum { SENT = 8000, POLLS = 1500 /* more than the submission queue takes */ };

static struct io_poll polls[POLLS];
static uint64_t filled;

static void poll_done(struct worker *w, struct io_poll *poll, int result)
{
    (void)w;
    (void)poll;
    CHECK(result >= 0, "%d", result);
}

static void read_all(struct worker *w, struct node *node)
{
    while (node->received < filled + SENT) {
        struct rbuf *buf;
        int64_t got = conn_read(w, &node->conn, &buf, clock_us() + 10000000);

        CHECK(got > 0, "%" PRId64 " after %" PRIu64 " bytes", got, node->received);
        if (got <= 0)
            break;
        pattern_check(buf->data, node->received, (size_t)got);
        node->received += (uint64_t)got;
        rbuf_unref(w, buf);
    }
    EQ(node->received, filled + SENT);
    node_done();
}

/* Runs while completions are reaped. The socket is full, so the send fails; what follows makes the
 * queue overflow, so that it is submitted here and now. */
static void send_and_overflow(struct worker *w, struct node *node, struct message *m)
{
    uint8_t bytes[SENT];

    if (m->kind == NODE_TURN) {
        conn_recv(w, &node->conn);
        return;
    }
    if (m->kind != MESSAGE_RECV)
        return;
    rbuf_unref(w, m->io.buf);
    pattern_fill(bytes, filled, SENT);
    conn_put_copy(w, &node->conn, bytes, SENT);
    conn_flush(w, &node->conn);
    for (int i = 0; i < POLLS; i++) {
        polls[i] = (struct io_poll){.fd = node->raw, .events = POLLOUT, .done = poll_done};
        w->engine->poll(w, &polls[i]);
    }
    node_run(w, node->other, read_all);
}

static void fill(int fd)
{
    uint8_t bytes[512];
    ssize_t put;

    do {
        pattern_fill(bytes, filled, sizeof bytes);
        put = write(fd, bytes, sizeof bytes);
        filled += put > 0 ? (uint64_t)put : 0;
    } while (put > 0);
}

static void overflow_start(struct worker *w)
{
    int fd[2];
    int always_ready[2];

    actor_type_register(&node_type);
    atomic_store(&nodes_left, 1);
    sockets_make(fd, false);
    sockets_make(always_ready, false);
    send_buffer_shrink(fd[0], false);
    fill(fd[0]);
    EQ(write(fd[1], "x", 1), 1);
    struct node *sender = node_new(w, fd[0], always_ready[0]);
    sender->on_io = send_and_overflow;
    sender->other = node_new(w, fd[1], -1);
    actor_tell_kind(w, actor_id_of(&sender->actor), NODE_TURN);
}

TEST(a_send_that_fails_while_completions_are_reaped_is_sent_again)
{
    in_runtime_with("io_uring", 1, overflow_start, NULL);
}
