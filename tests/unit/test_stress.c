/* Many actors on several workers that tell, ask, visit, set alarms, spawn, end and pass bytes to
 * each other at random. Nothing is lost, nothing comes out of order between two of them, and no two
 * workers are in one actor at once. STRESS_SECONDS makes it longer. */
#include "tests/unit/in_runtime.h"

#include <errno.h>
#include <sys/socket.h>

enum { ACTORS = 64, SERVERS = 8, PAIRS = 8, DEFAULT_MS = 300, STALLED_US = 10000000 };

enum {
    KIND_GO = MESSAGE_KIND_FIRST, /* do something at random */
    KIND_NUMBERED,                /* sender's place << 32 | sequence */
    KIND_QUERY,                   /* ask: a number, answered with its successor */
    KIND_ANSWER,
    KIND_BLOCK, /* on a stack: sleeps, visits, asks */
    KIND_FINISH,
};

struct player {
    struct actor actor;
    _Atomic uint32_t owner; /* worker + 1 that is in it; never two */
    unsigned place;         /* in players */
    uint32_t sent[ACTORS];  /* to each place */
    uint32_t seen[ACTORS];  /* from each */
    uint64_t asked;
    uint64_t answered; /* inline and by message */
    uint64_t alarms_set;
    uint64_t alarms_seen;
};

struct server {
    struct actor actor;
    _Atomic uint32_t owner;
    uint64_t served;
    uint64_t visited;
};

struct child {
    struct actor actor;
    uint32_t parts;
};

struct pair {
    struct actor actor;
    _Atomic uint32_t owner;
    struct conn conn;
    struct pair *other;
    uint64_t sent;
    uint64_t received;
    bool ended;
};

static struct player *players[ACTORS];
static actor_id player_ids[ACTORS];
static struct server *servers[SERVERS];
static actor_id server_ids[SERVERS];
static struct pair *pairs[2 * PAIRS];
static _Atomic bool finishing;
static _Atomic int64_t tokens; /* GO and BLOCK messages, alarms and answers that are under way */
static _Atomic uint64_t children_born;
static _Atomic uint64_t children_dead;
static _Atomic uint64_t visits_done;
static _Atomic uint64_t steps;
static uint64_t end_us;
static bool quiet; /* so little to do that workers sleep all the time */

static void enter_actor(_Atomic uint32_t *owner)
{
    uint32_t nobody = 0;

    INVARIANT(atomic_compare_exchange_strong(owner, &nobody, worker_self()->index + 1u));
}
static void leave_actor(_Atomic uint32_t *owner)
{
    INVARIANT(atomic_exchange(owner, 0) == worker_self()->index + 1u);
}

static unsigned pick(struct worker *w, unsigned below)
{
    return (unsigned)(random_u64(w) % below);
}

static void tell_token(struct worker *w, actor_id to, uint16_t kind)
{
    atomic_fetch_add(&tokens, 1);
    INVARIANT(actor_tell_kind(w, to, kind));
}

/* --- children: born, told something, dead --- */

static void child_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct child *child = CONTAINER_OF(self, struct child, actor);

    (void)w;
    INVARIANT(m->kind == MESSAGE_START || m->kind == KIND_NUMBERED);
    INVARIANT(child->parts < 3);
    if (++child->parts == 3) {
        actor_exit(self);
        atomic_fetch_add(&children_dead, 1);
        atomic_fetch_sub(&tokens, 1);
    }
}

static const struct actor_type child_type = {.name = "child",
                                             .size = sizeof(struct child),
                                             .rank = 1,
                                             .number = 3,
                                             .receive = child_receive};

static void spawn_child(struct worker *w)
{
    struct actor *a = actor_new(&child_type, (uint16_t)pick(w, runtime_workers()));
    actor_id id = actor_id_of(a);

    atomic_fetch_add(&children_born, 1);
    atomic_fetch_add(&tokens, 1);
    actor_launch(w, a);
    for (int i = 0; i < 2; i++)
        INVARIANT(actor_tell_kind(w, id, KIND_NUMBERED));
    (void)!actor_tell_kind(w, id, KIND_NUMBERED); /* too late, perhaps for another life */
}

/* --- servers: asked inline, visited --- */

static void server_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct server *server = CONTAINER_OF(self, struct server, actor);

    enter_actor(&server->owner);
    if (m->kind == KIND_QUERY) {
        struct message answer = {.kind = KIND_ANSWER};
        uint64_t number;

        memcpy(&number, message_body(m), sizeof number);
        number++;
        server->served++;
        message_set_body(&answer, &number, sizeof number);
        actor_reply(w, self, m, &answer);
    }
    leave_actor(&server->owner);
}

static const struct actor_type server_type = {.name = "server",
                                              .size = sizeof(struct server),
                                              .rank = 2,
                                              .number = 2,
                                              .receive = server_receive};

static void count_visit(struct actor *a, void *context)
{
    struct server *server = CONTAINER_OF(a, struct server, actor);

    enter_actor(&server->owner);
    server->visited++;
    ++*(int *)context;
    leave_actor(&server->owner);
}

/* --- players --- */

static void player_answer(struct player *p, const struct message *m)
{
    uint64_t number;

    INVARIANT(m->kind == KIND_ANSWER && m->len == sizeof number);
    memcpy(&number, message_body(m), sizeof number);
    INVARIANT(number >> 32 == p->place && (uint32_t)number > 0);
    p->answered++;
}

static void player_ask(struct worker *w, struct player *p)
{
    struct message request = {.kind = KIND_QUERY};
    struct message reply;
    uint64_t number = (uint64_t)p->place << 32 | (uint32_t)p->asked++;

    message_set_body(&request, &number, sizeof number);
    atomic_fetch_add(&tokens, 1);
    switch (actor_ask(w, &p->actor, server_ids[pick(w, SERVERS)], &request, &reply)) {
    case ASK_ANSWERED:
        player_answer(p, &reply);
        atomic_fetch_sub(&tokens, 1);
        return;
    case ASK_QUEUED: return;
    case ASK_DEAD: INVARIANT(!"servers live for ever");
    }
}

static void player_tell(struct worker *w, struct player *p)
{
    unsigned to = pick(w, ACTORS);
    struct message *m = message_new(KIND_NUMBERED);
    uint8_t body[200] = {0};
    uint64_t number = (uint64_t)p->place << 32 | p->sent[to]++;

    memcpy(body, &number, sizeof number);
    message_set_body(m, body, pick(w, 4) == 0 ? sizeof body : sizeof number);
    INVARIANT(actor_tell(w, player_ids[to], m));
}

static void player_numbered(struct player *p, const struct message *m)
{
    uint64_t number;

    memcpy(&number, message_body(m), sizeof number);
    INVARIANT(p->seen[number >> 32] == (uint32_t)number); /* in order, none missing */
    p->seen[number >> 32]++;
}

static void player_sleep(struct worker *w, struct player *p, uint64_t us)
{
    leave_actor(&p->owner); /* nobody may come in meanwhile: checked below */
    uint32_t marker = UINT32_MAX;
    uint32_t nobody = 0;
    INVARIANT(atomic_compare_exchange_strong(&p->owner, &nobody, marker));
    wait_sleep(w, us);
    INVARIANT(atomic_exchange(&p->owner, 0) == marker);
    enter_actor(&p->owner);
}

static void player_visit(struct worker *w, struct player *p)
{
    uint64_t deadline = pick(w, 2) == 0 ? 0 : clock_us() + 1 + pick(w, 300);
    int visits = 0;
    int result = actor_visit(w, server_ids[pick(w, SERVERS)], count_visit, &visits, deadline);

    (void)p;
    INVARIANT(result == 0 ? visits == 1 : result == -EBUSY && deadline != 0 && visits == 0);
    atomic_fetch_add(&visits_done, (uint64_t)visits);
}

static void from_elsewhere(struct coroutine *co, void *argument)
{
    if (pick(co->worker, 4) == 0)
        wait_sleep(co->worker, pick(co->worker, 200));
    /* The token was counted by whoever spawned this. */
    INVARIANT(actor_tell_kind(co->worker, player_ids[(uintptr_t)argument], KIND_GO));
}

/* What one token is spent on; the last call passes it on, or keeps it when all is to end. */
static void player_go(struct worker *w, struct player *p)
{
    atomic_fetch_add(&steps, 1);
    for (unsigned n = pick(w, 4); n > 0; n--)
        player_tell(w, p);
    if (pick(w, 3) == 0)
        player_ask(w, p);
    if (pick(w, 16) == 0)
        spawn_child(w);
    if (atomic_load(&finishing))
        return;
    switch (pick(w, 8)) {
    case 0:
        atomic_fetch_add(&tokens, 1);
        p->alarms_set++;
        actor_alarm(w, actor_id_of(&p->actor), clock_us() + pick(w, 500), p->alarms_set);
        return;
    case 1:
        atomic_fetch_add(&tokens, 1);
        worker_spawn(runtime_worker(pick(w, runtime_workers())), from_elsewhere,
                     (void *)(uintptr_t)pick(w, ACTORS));
        return;
    case 2:
    case 3: tell_token(w, player_ids[pick(w, ACTORS)], KIND_BLOCK); return;
    default: tell_token(w, player_ids[pick(w, ACTORS)], KIND_GO);
    }
}

static void player_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct player *p = CONTAINER_OF(self, struct player, actor);

    enter_actor(&p->owner);
    switch (m->kind) {
    case MESSAGE_START: break;
    case KIND_NUMBERED: player_numbered(p, m); break;
    case KIND_ANSWER:
        player_answer(p, m);
        atomic_fetch_sub(&tokens, 1);
        break;
    case KIND_BLOCK:
        if (pick(w, 2) == 0)
            player_sleep(w, p, pick(w, 300));
        player_visit(w, p);
        player_go(w, p);
        atomic_fetch_sub(&tokens, 1);
        break;
    case MESSAGE_ALARM:
        p->alarms_seen++;
        player_go(w, p);
        atomic_fetch_sub(&tokens, 1);
        break;
    case KIND_GO:
        player_go(w, p);
        atomic_fetch_sub(&tokens, 1);
        break;
    default: INVARIANT(!"unknown kind");
    }
    leave_actor(&p->owner);
}

static bool player_blocks(const struct actor *self, const struct message *m)
{
    (void)self;
    return m->kind == KIND_BLOCK;
}

static const struct actor_type player_type = {.name = "player",
                                              .size = sizeof(struct player),
                                              .rank = 1,
                                              .number = 1,
                                              .receive = player_receive,
                                              .blocks = player_blocks};

/* --- pairs: bytes to and fro by messages; the first sender stops when all is to end --- */

static void pair_send(struct worker *w, struct pair *pair)
{
    uint8_t bytes[6000];
    size_t len = 1 + pick(w, pick(w, 10) == 0 ? sizeof bytes : 100);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(pair->sent + i);
    conn_put_copy(w, &pair->conn, bytes, len);
    conn_flush(w, &pair->conn);
    pair->sent += len;
}

static void pair_end(struct worker *w, struct pair *pair)
{
    pair->ended = true;
    if (conn_close(w, &pair->conn))
        atomic_fetch_sub(&tokens, 1);
}

static void pair_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct pair *pair = CONTAINER_OF(self, struct pair, actor);

    enter_actor(&pair->owner);
    switch (m->kind) {
    case MESSAGE_START:
        conn_recv(w, &pair->conn);
        pair_send(w, pair);
        break;
    case MESSAGE_RECV:
        if (m->io.result <= 0) {
            INVARIANT(atomic_load(&finishing));
            pair_end(w, pair);
            break;
        }
        for (int32_t i = 0; i < m->io.result; i++)
            INVARIANT(m->io.buf->data[i] == (uint8_t)(pair->received + (uint64_t)i));
        pair->received += (uint64_t)m->io.result;
        rbuf_unref(w, m->io.buf);
        if (atomic_load(&finishing)) {
            pair_end(w, pair);
            break;
        }
        if (pick(w, 8) == 0) { /* on a stack, and perhaps another worker */
            INVARIANT(actor_tell_kind(w, actor_id_of(self), KIND_BLOCK));
        } else {
            pair_send(w, pair);
            conn_recv(w, &pair->conn);
        }
        break;
    case KIND_BLOCK:
        wait_sleep(w, pick(w, 200));
        pair_send(w, pair);
        conn_recv(w, &pair->conn);
        break;
    case MESSAGE_CLOSED: atomic_fetch_sub(&tokens, 1); break;
    case MESSAGE_SENT: INVARIANT(m->io.result < 0 && atomic_load(&finishing)); break;
    default: INVARIANT(!"unknown kind");
    }
    leave_actor(&pair->owner);
}

static bool pair_blocks(const struct actor *self, const struct message *m)
{
    (void)self;
    return m->kind == KIND_BLOCK;
}

static const struct actor_type pair_type = {.name = "pair",
                                            .size = sizeof(struct pair),
                                            .rank = 1,
                                            .number = 4,
                                            .receive = pair_receive,
                                            .blocks = pair_blocks};

/* --- the run --- */

/* Ends it when the time is over and all tokens are home: each token that is lost hangs the test. */
static void referee(struct coroutine *co, void *argument)
{
    uint64_t before = 0;
    uint64_t moved_us = clock_us();

    (void)argument;
    while (clock_us() < end_us) {
        wait_sleep(co->worker, 20000);
        uint64_t now = atomic_load(&steps);
        if (now > before)
            moved_us = clock_us();
        INVARIANT(clock_us() - moved_us < STALLED_US); /* a wake-up was lost */
        before = now;
    }
    atomic_store(&finishing, true);
    moved_us = clock_us();
    while (atomic_load(&tokens) > 0) {
        wait_sleep(co->worker, 2000);
        INVARIANT(clock_us() - moved_us < STALLED_US);
    }
    INVARIANT(atomic_load(&tokens) == 0);
    wait_sleep(co->worker, 20000); /* numbered messages are no tokens */
    runtime_stop();
}

static struct actor *member_new(struct worker *w, const struct actor_type *type, int number)
{
    struct actor *a = actor_new(type, (uint16_t)((unsigned)number % runtime_workers()));

    (void)w;
    return a;
}

static void pairs_start(struct worker *w)
{
    for (int i = 0; i < PAIRS; i++) {
        int fd[2];

        INVARIANT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
        for (int side = 0; side < 2; side++) {
            struct actor *a = member_new(w, &pair_type, 2 * i + side);
            struct pair *pair = CONTAINER_OF(a, struct pair, actor);

            pairs[2 * i + side] = pair;
            conn_open(&pair->conn, fd[side], a);
            atomic_fetch_add(&tokens, 1);
        }
        pairs[2 * i]->other = pairs[2 * i + 1];
        pairs[2 * i + 1]->other = pairs[2 * i];
    }
    for (int i = 0; i < 2 * PAIRS; i++)
        actor_launch(NULL, &pairs[i]->actor);
}

static void stress_start(struct worker *w)
{
    const char *seconds = getenv("STRESS_SECONDS");
    double duration = seconds != NULL ? strtod(seconds, NULL) : DEFAULT_MS / 1000.0;

    end_us = clock_us() + (uint64_t)(duration * 1e6);
    actor_type_register(&player_type);
    actor_type_register(&server_type);
    actor_type_register(&child_type);
    actor_type_register(&pair_type);
    for (int i = 0; i < SERVERS; i++) {
        struct actor *a = member_new(w, &server_type, i);

        servers[i] = CONTAINER_OF(a, struct server, actor);
        server_ids[i] = actor_id_of(a);
        actor_launch(NULL, a);
    }
    for (unsigned i = 0; i < ACTORS; i++) {
        struct actor *a = member_new(w, &player_type, (int)i);

        players[i] = CONTAINER_OF(a, struct player, actor);
        players[i]->place = i;
        player_ids[i] = actor_id_of(a);
        actor_launch(NULL, a);
    }
    for (unsigned i = 0; i < (quiet ? 2 : ACTORS); i++)
        tell_token(NULL, player_ids[i], KIND_GO);
    if (!quiet)
        pairs_start(w);
    worker_spawn(w, referee, NULL);
}

static void stress_check(void)
{
    uint64_t asked = 0;
    uint64_t served = 0;
    uint64_t visited = 0;
    uint64_t bytes = 0;

    for (int i = 0; i < ACTORS; i++) {
        for (int j = 0; j < ACTORS; j++)
            EQ(players[i]->sent[j], players[j]->seen[i], "from %d to %d", i, j);
        EQ(players[i]->asked, players[i]->answered, "player %d", i);
        EQ(players[i]->alarms_set, players[i]->alarms_seen, "player %d", i);
        asked += players[i]->asked;
    }
    for (int i = 0; i < SERVERS; i++) {
        served += servers[i]->served;
        visited += servers[i]->visited;
    }
    EQ(served, asked);
    EQ(visited, atomic_load(&visits_done));
    EQ(atomic_load(&children_born), atomic_load(&children_dead));
    EQ(actor_count(&child_type), 0);
    for (int i = 0; i < (quiet ? 0 : 2 * PAIRS); i++) {
        CHECK(pairs[i]->ended && pairs[i]->received <= pairs[i]->other->sent);
        bytes += pairs[i]->received;
    }
    if (getenv("STRESS_SECONDS") != NULL)
        printf("%" PRIu64 " steps, %" PRIu64 " asked, %" PRIu64 " visits, %" PRIu64
               " children, %" PRIu64 " bytes\n",
               atomic_load(&steps), asked, visited, atomic_load(&children_born), bytes);
}

TEST(nothing_is_lost_and_nobody_meets_in_an_actor)
{
    quiet = false;
    in_runtime(stress_start, stress_check);
}

TEST(workers_that_sleep_are_woken)
{
    quiet = true;
    in_runtime(stress_start, stress_check);
}
