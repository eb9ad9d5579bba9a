#include "tests/unit/conn_nodes.h"

enum { PAIRS = 6, BUFFER = 20000 };

/* --- an echo by messages, a client by coroutine --- */

enum { ECHO_TOTAL = 1 << 20, ECHO_LIMIT = 64 << 10 };

static void echo_close(struct worker *w, struct node *node)
{
    if (conn_close(w, &node->conn))
        actor_exit(&node->actor);
}

static void echo_on_io(struct worker *w, struct node *node, struct message *m)
{
    struct conn *c = &node->conn;

    switch (m->kind) {
    case NODE_TURN: conn_recv(w, c); return;
    case MESSAGE_RECV:
        if (m->io.result <= 0) {
            echo_close(w, node);
            return;
        }
        conn_put(w, c, m->io.buf, m->io.buf->data, (uint32_t)m->io.result);
        rbuf_unref(w, m->io.buf);
        conn_flush(w, c);
        if (c->out_bytes > ECHO_LIMIT)
            conn_want_sent(w, c);
        else
            conn_recv(w, c);
        return;
    case MESSAGE_SENT:
        CHECK(c->out == NULL);
        conn_recv(w, c);
        return;
    case MESSAGE_CLOSED: actor_exit(&node->actor); return;
    default: unit_fail(__FILE__, __LINE__, "kind %u", m->kind);
    }
}

static void echo_read_back(struct worker *w, struct node *node)
{
    while (node->received < node->sent) {
        struct rbuf *buf;
        int64_t got = conn_read(w, &node->conn, &buf, soon());

        CHECK(got > 0, "%" PRId64, got);
        if (got <= 0)
            return;
        pattern_check(buf->data, node->received, (size_t)got);
        node->received += (uint64_t)got;
        rbuf_unref(w, buf);
    }
}

static void echo_client(struct worker *w, struct node *node)
{
    uint8_t *bytes = malloc(BUFFER);

    while (node->sent < ECHO_TOTAL) {
        size_t len = 1 + random_u64(w) % (random_u64(w) % 8 == 0 ? BUFFER : 300);

        pattern_fill(bytes, node->sent, len);
        EQ(conn_write(w, &node->conn, bytes, len, soon()), 0);
        node->sent += len;
        if (random_u64(w) % 4 != 0)
            echo_read_back(w, node);
    }
    echo_read_back(w, node);
    EQ(node->received, node->sent);
    conn_close_wait(w, &node->conn);
    CHECK(!conn_is_open(&node->conn));
    free(bytes);
    actor_exit(&node->actor);
    node_done();
}

static void echo_start(struct worker *w)
{
    actor_type_register(&node_type);
    atomic_store(&nodes_left, PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        int fd[2];

        sockets_make(fd, i % 2);
        struct node *echo = node_new(w, fd[0], -1);
        echo->on_io = echo_on_io;
        actor_tell_kind(w, actor_id_of(&echo->actor), NODE_TURN);
        node_run(w, node_new(w, fd[1], -1), echo_client);
    }
}

TEST(what_is_sent_comes_back)
{
    in_runtime(echo_start, NULL);
}

/* --- large transfers through small socket buffers, to a slow reader --- */

enum { LARGE_TOTAL = 2 << 20 };

static void large_sender(struct worker *w, struct node *node)
{
    size_t each = LARGE_TOTAL / 2;
    uint8_t *bytes = malloc(each);

    for (int i = 0; i < 2; i++) {
        pattern_fill(bytes, node->sent, each);
        EQ(conn_write(w, &node->conn, bytes, each, soon()), 0);
        CHECK(conn_quiet(&node->conn));
        node->sent += each;
    }
    free(bytes);
    conn_close_wait(w, &node->conn);
    actor_exit(&node->actor);
    node_done();
}

static void large_reader(struct worker *w, struct node *node)
{
    struct rbuf *buf;
    int64_t got;
    int reads = 0;

    while ((got = conn_read(w, &node->conn, &buf, soon())) > 0) {
        pattern_check(buf->data, node->received, (size_t)got);
        node->received += (uint64_t)got;
        rbuf_unref(w, buf);
        if (++reads % 100 == 0)
            wait_sleep(w, 1000);
    }
    EQ(got, 0);
    EQ(node->received, LARGE_TOTAL);
    conn_close_wait(w, &node->conn);
    actor_exit(&node->actor);
    node_done();
}

static void large_start(struct worker *w)
{
    actor_type_register(&node_type);
    atomic_store(&nodes_left, 2 * PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        int fd[2];

        sockets_make(fd, i % 2);
        send_buffer_shrink(fd[0], i % 2);
        node_run(w, node_new(w, fd[0], -1), large_sender);
        node_run(w, node_new(w, fd[1], -1), large_reader);
    }
}

TEST(large_transfers_arrive_whole_through_small_buffers)
{
    in_runtime(large_start, NULL);
}

/* --- a sender by messages that keeps a bounded queue --- */

enum { FLOOD_QUEUE = 100000, FLOOD_PIECE = 7000 };

static void flood_more(struct worker *w, struct node *node)
{
    uint8_t bytes[FLOOD_PIECE];

    while (node->sent < LARGE_TOTAL && node->conn.out_bytes < FLOOD_QUEUE) {
        size_t len = MIN((size_t)(LARGE_TOTAL - node->sent), sizeof bytes);

        pattern_fill(bytes, node->sent, len);
        conn_put_copy(w, &node->conn, bytes, len);
        node->sent += len;
    }
    CHECK(node->conn.out_bytes <= FLOOD_QUEUE + FLOOD_PIECE);
    /* Asked for before sending begins: it is told even when all goes out at once. */
    if (node->conn.out != NULL)
        conn_want_sent(w, &node->conn);
    conn_flush(w, &node->conn);
}

static void flood_on_io(struct worker *w, struct node *node, struct message *m)
{
    if (m->kind == MESSAGE_SENT) {
        EQ(m->io.result, 0);
        CHECK(node->conn.out == NULL);
    }
    if (m->kind == MESSAGE_CLOSED ||
        (m->kind == MESSAGE_SENT && node->sent == LARGE_TOTAL && conn_close(w, &node->conn))) {
        actor_exit(&node->actor);
        node_done();
        return;
    }
    if (node->sent < LARGE_TOTAL)
        flood_more(w, node);
}

static void flood_start(struct worker *w)
{
    actor_type_register(&node_type);
    atomic_store(&nodes_left, 2 * PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        int fd[2];

        sockets_make(fd, i % 2);
        if (i % 3 == 0)
            send_buffer_shrink(fd[0], i % 2);
        struct node *flood = node_new(w, fd[0], -1);
        flood->on_io = flood_on_io;
        actor_tell_kind(w, actor_id_of(&flood->actor), NODE_TURN);
        node_run(w, node_new(w, fd[1], -1), large_reader);
    }
}

TEST(a_sender_may_wait_until_its_queue_is_empty)
{
    in_runtime(flood_start, NULL);
}

/* --- half-close, deadlines, errors: scripts that play the other end themselves --- */

static void script_end(struct worker *w, struct node *node)
{
    conn_close_wait(w, &node->conn);
    CHECK(!conn_is_open(&node->conn));
    if (node->raw >= 0)
        close(node->raw);
    actor_exit(&node->actor);
    node_done();
}

static void raw_write(struct node *node, const char *text)
{
    EQ(send(node->raw, text, strlen(text), MSG_NOSIGNAL), (int64_t)strlen(text));
}

static void expect_read(struct worker *w, struct node *node, const char *text)
{
    struct rbuf *buf;
    int64_t got = conn_read(w, &node->conn, &buf, soon());

    EQ(got, (int64_t)strlen(text), "%s", text);
    if (got > 0) {
        CHECK(memcmp(buf->data, text, (size_t)got) == 0, "%s", text);
        rbuf_unref(w, buf);
    }
}

static void expect_all(struct worker *w, struct node *node, const char *text)
{
    size_t at = 0;

    while (at < strlen(text)) {
        struct rbuf *buf;
        int64_t got = conn_read(w, &node->conn, &buf, soon());

        CHECK(got > 0 && at + (size_t)got <= strlen(text), "%" PRId64, got);
        if (got <= 0)
            return;
        CHECK(memcmp(buf->data, text + at, (size_t)got) == 0);
        at += (size_t)got;
        rbuf_unref(w, buf);
    }
}

static void half_close(struct worker *w, struct node *node)
{
    char bye[8] = "";

    raw_write(node, "hello");
    EQ(shutdown(node->raw, SHUT_WR), 0);
    expect_read(w, node, "hello");
    expect_read(w, node, "");
    expect_read(w, node, "");
    EQ(conn_write(w, &node->conn, "bye", 3, soon()), 0);
    wait_sleep(w, 2000);
    EQ(recv(node->raw, bye, sizeof bye, 0), 3);
    STR_EQ(bye, "bye");
    script_end(w, node);
}

static void read_deadline(struct worker *w, struct node *node)
{
    struct rbuf *buf;
    uint64_t began = clock_us();

    for (int i = 0; i < 3; i++) {
        EQ(conn_read(w, &node->conn, &buf, clock_us() + 3000), -ETIMEDOUT);
        CHECK(buf == NULL);
    }
    CHECK(clock_us() - began >= 9000);
    raw_write(node, "late");
    expect_read(w, node, "late");
    EQ(conn_read(w, &node->conn, &buf, clock_us() + 3000), -ETIMEDOUT);
    script_end(w, node);
}

static void write_deadline(struct worker *w, struct node *node)
{
    size_t len = 8 << 20;
    uint8_t *bytes = calloc(1, len);

    send_buffer_shrink(node->conn.fd, node->number % 2);
    EQ(conn_write(w, &node->conn, bytes, len, clock_us() + 5000), -ETIMEDOUT);
    free(bytes);
    script_end(w, node);
}

static void closed_peer(struct worker *w, struct node *node)
{
    uint8_t bytes[1000] = {0};
    int64_t result = 0;

    close(node->raw);
    node->raw = -1;
    for (int i = 0; i < 1000 && result == 0; i++)
        result = conn_write(w, &node->conn, bytes, sizeof bytes, soon());
    CHECK(result == -EPIPE || result == -ECONNRESET, "%" PRId64, result);
    CHECK(conn_write(w, &node->conn, bytes, sizeof bytes, soon()) < 0);
    script_end(w, node);
}

/* What comes while the coroutine is busy elsewhere is there when it asks. */
static void bytes_while_busy(struct worker *w, struct node *node)
{
    for (int i = 0; i < 50; i++) {
        raw_write(node, "one");
        expect_read(w, node, "one"); /* registered now */
        raw_write(node, "two");
        wait_sleep(w, 200);
        expect_read(w, node, "two");
        wait_sleep(w, 100);
    }
    shutdown(node->raw, SHUT_RDWR);
    wait_sleep(w, 500);
    expect_read(w, node, "");
    script_end(w, node);
}

static void drain_raw(struct worker *w, struct node *node)
{
    uint8_t bytes[4096];

    while (node->received < node->other->total) {
        ssize_t got = recv(node->other->raw, bytes, sizeof bytes, 0);

        if (got <= 0) {
            wait_sleep(w, 300);
            continue;
        }
        pattern_check(bytes, node->received, (size_t)got);
        node->received += (uint64_t)got;
    }
    atomic_store(&node->other->written, 1);
    actor_exit(&node->actor);
}

static void recv_armed_while_writing(struct worker *w, struct node *node)
{
    size_t len = 300000;
    uint8_t *bytes = malloc(len);

    send_buffer_shrink(node->conn.fd, node->number % 2);
    node->total = len;
    struct node *drain = node_new(w, -1, -1);
    drain->other = node;
    conn_recv(w, &node->conn);
    raw_write(node, "early");
    node_run(w, drain, drain_raw);
    pattern_fill(bytes, 0, len);
    EQ(conn_write(w, &node->conn, bytes, len, soon()), 0);
    free(bytes);
    wait_sleep(w, 300);
    raw_write(node, "!");
    expect_all(w, node, "early!"); /* in one piece or two: some engines read when asked */
    while (atomic_load(&node->written) == 0)
        wait_sleep(w, 1000);
    script_end(w, node);
}

static void closing_ends_all(struct worker *w, struct node *node)
{
    struct rbuf *buf;

    EQ(conn_read(w, &node->conn, &buf, clock_us() + 1000), -ETIMEDOUT);
    EQ(conn_write(w, &node->conn, "x", 1, soon()), 0);
    conn_close_wait(w, &node->conn);
    EQ(conn_read(w, &node->conn, &buf, soon()), -ENOTCONN);
    EQ(conn_write(w, &node->conn, "x", 1, soon()), -ENOTCONN);
    char byte;
    EQ(recv(node->raw, &byte, 1, 0), 1);
    EQ(recv(node->raw, &byte, 1, 0), 0);
    /* The same struct, another connection. */
    int fd[2];
    close(node->raw);
    sockets_make(fd, false);
    conn_open(&node->conn, fd[0], &node->actor);
    node->raw = fd[1];
    raw_write(node, "again");
    expect_read(w, node, "again");
    script_end(w, node);
}

static node_script *const scripts[] = {half_close,      read_deadline,    write_deadline,
                                       closed_peer,     bytes_while_busy, recv_armed_while_writing,
                                       closing_ends_all};
static node_script *chosen;

static void script_start(struct worker *w)
{
    actor_type_register(&node_type);
    atomic_store(&nodes_left, PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        int fd[2];

        sockets_make(fd, chosen != closing_ends_all && i % 2);
        node_run(w, node_new(w, fd[0], fd[1]), chosen);
    }
}

TEST(scripts_of_coroutines_see_what_sockets_do)
{
    for (size_t i = 0; i < COUNT_OF(scripts); i++) {
        chosen = scripts[i];
        in_runtime(script_start, NULL);
    }
}
