/* Connections that are armed on one worker, used on another, closed on a third, or given away. */
#include "tests/unit/conn_nodes.h"

#include <dirent.h>

static struct worker *any_worker(struct worker *w)
{
    return runtime_worker((unsigned)(random_u64(w) % runtime_workers()));
}

/* Calls fn(node), if there is one, in the node's hands on that worker. */
struct errand {
    void (*fn)(struct actor *a, void *context);
    actor_id to;
    void (*then)(struct worker *w, struct errand *errand);
    struct node *node;
};

static void errand_run(struct coroutine *co, void *argument)
{
    struct errand *errand = argument;
    int result = 0;

    if (errand->fn != NULL)
        result = actor_visit(co->worker, errand->to, errand->fn, errand, 0);

    CHECK(result == 0 || result == -ESRCH);
    if (errand->then != NULL)
        errand->then(co->worker, errand);
    else
        free(errand);
}

static void errand_start(struct worker *at, struct node *node, void (*fn)(struct actor *, void *),
                         void (*then)(struct worker *, struct errand *))
{
    struct errand *errand = malloc(sizeof *errand);

    *errand = (struct errand){fn, actor_id_of(&node->actor), then, node};
    worker_spawn(at, errand_run, errand);
}

static void arm_recv(struct actor *a, void *context)
{
    (void)context;
    conn_recv(worker_self(), &CONTAINER_OF(a, struct node, actor)->conn);
}

/* --- closing with a receive and a send in flight elsewhere --- */

enum { CLOSERS = 400, AT_ONCE = 8 };
static _Atomic int closers_started;
static void closer_new(struct worker *w);

static void closer_ended(struct worker *w, struct node *node)
{
    char bytes[512];
    ssize_t got;

    CHECK(!conn_is_open(&node->conn));
    while ((got = recv(node->raw, bytes, sizeof bytes, 0)) > 0)
        ;
    CHECK(got == 0 || errno == ECONNRESET, "the peer sees the end");
    close(node->raw);
    CHECK(!node->ended);
    node->ended = true;
    actor_exit(&node->actor);
    closer_new(w);
    node_done();
}

static void closer_on_io(struct worker *w, struct node *node, struct message *m)
{
    if (m->kind == MESSAGE_RECV && m->io.result > 0)
        rbuf_unref(w, m->io.buf);
    if (m->kind == MESSAGE_CLOSED)
        closer_ended(w, node);
}

static void close_it(struct actor *a, void *context)
{
    struct worker *w = worker_self();
    struct node *node = CONTAINER_OF(a, struct node, actor);

    (void)context;
    if (random_u64(w) % 2) {
        uint8_t bytes[5000] = {0};

        for (int i = 0; i < 40; i++)
            conn_put_copy(w, &node->conn, bytes, sizeof bytes);
        conn_flush(w, &node->conn);
    }
    if (conn_close(w, &node->conn))
        closer_ended(w, node);
}

static void then_close(struct worker *w, struct errand *errand)
{
    if (random_u64(w) % 2)
        wait_sleep(w, random_u64(w) % 300);
    if (random_u64(w) % 2)
        CHECK(send(errand->node->raw, "x", 1, MSG_NOSIGNAL) == 1);
    errand->fn = close_it;
    errand->then = NULL;
    worker_spawn(any_worker(w), errand_run, errand);
}

static void closer_new(struct worker *w)
{
    int fd[2];

    if (atomic_fetch_add(&closers_started, 1) >= CLOSERS)
        return;
    sockets_make(fd, random_u64(w) % 2);
    struct node *node = node_new(w, fd[0], fd[1]);
    node->on_io = closer_on_io;
    errand_start(any_worker(w), node, arm_recv, then_close);
}

static int descriptors_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static int descriptors_before;

static void closers_start(struct worker *w)
{
    actor_type_register(&node_type);
    descriptors_before = descriptors_open();
    atomic_store(&nodes_left, CLOSERS);
    atomic_store(&closers_started, 0);
    for (int i = 0; i < AT_ONCE; i++)
        closer_new(w);
}

static void closers_check(void)
{
    /* The first worker's engine is gone too. */
    CHECK(descriptors_open() <= descriptors_before);
}

TEST(closing_ends_what_is_in_flight_on_any_worker)
{
    in_runtime(closers_start, closers_check);
}

/* --- a receive that was armed on one worker, and a coroutine that waits for it on another --- */

enum { WAITERS = 8, WAIT_ROUNDS = 150 };

static void waiter_script(struct worker *w, struct node *node);

static void write_one(struct worker *w, struct errand *errand)
{
    struct node *node = errand->node;

    if (random_u64(w) % 3)
        wait_sleep(w, random_u64(w) % 200);
    CHECK(send(node->raw, "x", 1, MSG_NOSIGNAL) == 1);
    atomic_fetch_add(&node->written, 1);
    free(errand);
}

static void then_wait(struct worker *w, struct errand *errand)
{
    struct node *node = errand->node;

    errand->fn = NULL; /* the node may be in its coroutine by then */
    errand->then = write_one;
    worker_spawn(any_worker(w), errand_run, errand);
    if (random_u64(w) % 2)
        wait_sleep(w, random_u64(w) % 100);
    node_run(w, node, waiter_script);
}

static void waiter_script(struct worker *w, struct node *node)
{
    struct rbuf *buf;
    int64_t got = 1;

    if (node->received == 0) /* else it came as a message, while no coroutine waited */
        got = conn_read(w, &node->conn, &buf, soon());
    else
        buf = NULL;
    EQ(got, 1, "round %d", node->rounds);
    if (buf != NULL)
        rbuf_unref(w, buf);
    node->received = 0;
    if (++node->rounds == WAIT_ROUNDS) {
        while (atomic_load(&node->written) < WAIT_ROUNDS)
            wait_sleep(w, 10);
        conn_close_wait(w, &node->conn);
        close(node->raw);
        actor_exit(&node->actor);
        node_done();
        return;
    }
    errand_start(any_worker(w), node, arm_recv, then_wait);
}

static void waiter_on_io(struct worker *w, struct node *node, struct message *m)
{
    CHECK(m->kind == MESSAGE_RECV && m->io.result == 1 && node->received == 0);
    if (m->io.buf != NULL)
        rbuf_unref(w, m->io.buf);
    node->received = 1;
}

/* As many nodes as there are waiters, each with a pair of sockets of one kind or the other. */
static void nodes_start(struct worker *w,
                        void (*on_io)(struct worker *w, struct node *node, struct message *m),
                        void (*then)(struct worker *w, struct errand *errand))
{
    actor_type_register(&node_type);
    atomic_store(&nodes_left, WAITERS);
    for (int i = 0; i < WAITERS; i++) {
        int fd[2];

        sockets_make(fd, i % 2);
        struct node *node = node_new(w, fd[0], fd[1]);
        node->on_io = on_io;
        errand_start(any_worker(w), node, arm_recv, then);
    }
}

static void waiters_start(struct worker *w)
{
    nodes_start(w, waiter_on_io, then_wait);
}

TEST(a_coroutine_gets_what_another_worker_received)
{
    in_runtime(waiters_start, NULL);
}

/* --- a connection that two actors give to each other while bytes come --- */

enum { LEASES = 4, LEASE_ROUNDS = 1000 };

static void lease_script(struct worker *w, struct node *node)
{
    struct conn *c = node->lease;
    struct rbuf *buf;
    int64_t got = conn_read(w, c, &buf, soon());

    CHECK(got == 1, "%" PRId64 " in round %d", got, node->rounds);
    if (buf != NULL)
        rbuf_unref(w, buf);
    if (++node->rounds == LEASE_ROUNDS) {
        conn_close_wait(w, c);
        node_done();
        return;
    }
    EQ(conn_write(w, c, "y", 1, soon()), 0);
    CHECK(conn_quiet(c));
    conn_give(c, &node->other->actor); /* at this moment the next byte may arrive */
    node_run(w, node->other, lease_script);
}

static void lease_peer(struct worker *w, struct node *node)
{
    struct rbuf *buf;

    while (conn_write(w, &node->conn, "x", 1, soon()) == 0 &&
           conn_read(w, &node->conn, &buf, soon()) > 0)
        rbuf_unref(w, buf);
    conn_close_wait(w, &node->conn);
    node_done();
}

static void leases_start(struct worker *w)
{
    actor_type_register(&node_type);
    atomic_store(&nodes_left, 2 * LEASES);
    for (int i = 0; i < LEASES; i++) {
        int fd[2];

        sockets_make(fd, i % 2);
        struct node *a = node_new(w, fd[0], -1);
        struct node *b = node_new(w, -1, -1);
        a->other = b;
        b->other = a;
        a->lease = b->lease = &a->conn;
        node_run(w, a, lease_script);
        node_run(w, node_new(w, fd[1], -1), lease_peer);
    }
}

TEST(a_connection_that_is_given_away_loses_no_bytes)
{
    in_runtime(leases_start, NULL);
}

/* --- taking an armed receive back --- */

enum { STOP_ROUNDS = 300 };

static void stopper_step(struct worker *w, struct node *node);

static void stop_it(struct actor *a, void *context)
{
    struct worker *w = worker_self();
    struct node *node = CONTAINER_OF(a, struct node, actor);

    (void)context;
    if (conn_recv_stop(w, &node->conn))
        stopper_step(w, node);
    else
        node->ended = true; /* its end follows */
}

static void then_stop(struct worker *w, struct errand *errand)
{
    if (random_u64(w) % 4 == 0) {
        CHECK(send(errand->node->raw, "x", 1, MSG_NOSIGNAL) == 1);
        errand->node->total++;
    }
    errand->fn = stop_it;
    errand->then = NULL;
    worker_spawn(any_worker(w), errand_run, errand);
}

static void stopper_step(struct worker *w, struct node *node)
{
    CHECK((node->conn.flags & CONN_RECV_ARMED) == 0);
    conn_give(&node->conn, &node->actor); /* asserts that it is quiet */
    if (++node->rounds < STOP_ROUNDS) {
        errand_start(any_worker(w), node, arm_recv, then_stop);
        return;
    }
    CHECK(node->received <= node->total);
    if (conn_close(w, &node->conn))
        node_done();
}

static void stopper_on_io(struct worker *w, struct node *node, struct message *m)
{
    if (m->kind == MESSAGE_CLOSED) {
        node_done();
        return;
    }
    CHECK(m->kind == MESSAGE_RECV && (m->io.result > 0 || m->io.result == -ECANCELED), "result %d",
          m->io.result);
    CHECK(m->io.result > 0 || node->ended);
    if (m->io.buf != NULL) {
        node->received += (uint64_t)m->io.result;
        rbuf_unref(w, m->io.buf);
    }
    if (!node->ended) {
        conn_recv(w, &node->conn);
        return;
    }
    node->ended = false;
    stopper_step(w, node);
}

static void stoppers_start(struct worker *w)
{
    nodes_start(w, stopper_on_io, then_stop);
}

TEST(an_armed_receive_can_be_taken_back)
{
    in_runtime(stoppers_start, NULL);
}
