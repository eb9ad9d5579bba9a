/* Who is served when: each pool's queue as its messages make it, beside the pool's own. */
#include "tests/simulation/check.h"
#include "tests/simulation/clients.h"
#include "tests/simulation/processes.h"

#include "runtime/sim.h"

enum {
    QUEUE_MAX = 1024,
    POOLS_MAX = 256,
    OWNERS_MAX = 64,
    LATE_US = 20000,
    OVERTIME_US = 60000000
};

/* In place of a pool that has ended. */
#define POOL_GONE ((actor_id)1)

/* A checkout as it was asked for. */
struct asked {
    actor_id session;
    uint64_t at_us;
    bool served;
};

struct queue {
    actor_id pool;
    struct asked asked[QUEUE_MAX]; /* in the order of their messages */
    unsigned count;
};

/* Who holds a backend of a pool. */
struct owners {
    actor_id ids[OWNERS_MAX];
    unsigned count;
};

static struct queue queues[PROGRAMS][POOLS_MAX];

static struct queue *queue_of(actor_id pool)
{
    struct queue *room = NULL;

    for (unsigned i = 0; i < POOLS_MAX; i++) {
        struct queue *q = &queues[sim_process][i];

        if (q->pool == pool)
            return q;
        if (room == NULL && (q->pool == POOL_GONE || q->pool == 0))
            room = q;
        if (q->pool == 0)
            break;
    }
    if (room == NULL)
        sim_fail("more than %d pools", POOLS_MAX);
    room->pool = pool;
    return room;
}

static struct owners owners_of(const struct pool *p)
{
    struct owners owners = {.count = 0};

    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        struct actor *owner = atomic_load(&b->conn.owner);

        if (b->state != BACKEND_LEASED || owner == NULL || owners.count == OWNERS_MAX)
            continue;
        owners.ids[owners.count++] = actor_id_of(owner);
    }
    return owners;
}

static bool owns(const struct owners *owners, actor_id session)
{
    for (unsigned i = 0; i < owners->count; i++) {
        if (owners->ids[i] == session)
            return true;
    }
    return false;
}

static bool waits(const struct pool *p, actor_id session)
{
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        const struct waiter *waiter = &p->waiters[at & (p->waiters_size - 1)];

        if (waiter->session == session && !waiter->login)
            return true;
    }
    return false;
}

/* Could be handed to anybody as it is. */
static bool usable(const struct pool *p, const struct backend *b)
{
    return b->state == BACKEND_IDLE && !b->hangup && b->epoch == p->epoch && b->dirt == 0;
}

static void check_nobody_sleeps(const struct pool *p, const struct queue *q)
{
    if (q->count == 0 || p->paused || p->removed || p->draining)
        return;
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        if (usable(p, b))
            sim_fail("session %u waits, and backend pid %d is idle", (unsigned)q->asked[0].session,
                     b->pid);
    }
}

/* A backend is handed out: to somebody who may have it? */
static void check_lease(const struct pool *p, const struct backend *b)
{
    uint64_t overtime_us = MAX(b->lifetime_us, (uint64_t)OVERTIME_US) + LATE_US;

    if (b->epoch != p->epoch)
        sim_fail("backend pid %d is handed out, which RECONNECT has outdated", b->pid);
    if (p->paused)
        sim_fail("backend pid %d is handed out during a pause", b->pid);
    if (b->lifetime_us != 0 && sim_now_us() > b->created_us + b->lifetime_us + overtime_us)
        sim_fail("backend pid %d is handed out long after its time", b->pid);
}

/* What was asked for is on its way to a client: a good moment to go. */
static void maybe_leave(struct actor *owner)
{
    if (owner->type == session_type.number && sim_chance(plan.leave_pm))
        clients_leave(session_application(session_of(owner)));
}

/* Those whose owner was none before. */
static void check_leases(const struct pool *p, const struct owners *before)
{
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        struct actor *owner = atomic_load(&b->conn.owner);

        if (b->state == BACKEND_LEASED && owner != NULL && !owns(before, actor_id_of(owner))) {
            check_lease(p, b);
            maybe_leave(owner);
        }
    }
}

static void check_order(const struct pool *p, struct queue *q, const struct owners *before)
{
    struct owners after = owners_of(p);
    const struct asked *sleeper = NULL;
    unsigned kept = 0;

    for (unsigned i = 0; i < q->count; i++) {
        struct asked asked = q->asked[i];
        bool served = owns(&after, asked.session) && !owns(before, asked.session);

        if (served && sleeper != NULL)
            sim_fail("session %u is served before session %u, which has waited since %llu us",
                     (unsigned)asked.session, (unsigned)sleeper->session,
                     (unsigned long long)sleeper->at_us);
        if (served || !waits(p, asked.session))
            continue; /* or it was refused, or has withdrawn */
        q->asked[kept] = asked;
        sleeper = &q->asked[kept++];
    }
    q->count = kept;
}

void check_pool_receives(struct worker *w, struct pool *p, struct message *m,
                         void (*receive)(struct worker *w, struct actor *a, struct message *m))
{
    struct queue *q = queue_of(actor_id_of(&p->actor));
    struct owners before = owners_of(p);
    struct pool_before lookup = check_lookup_before(p);
    uint16_t kind = m->kind == MESSAGE_START ? (uint16_t)MSG_POOL_CONFIGURE : m->kind;

    if (m->kind == MSG_POOL_CHECKOUT) {
        if (q->count == QUEUE_MAX)
            sim_fail("more than %d sessions wait", QUEUE_MAX);
        q->asked[q->count++] = (struct asked){.session = m->sender, .at_us = sim_now_us()};
    }
    if (m->kind == MSG_POOL_TICK)
        check_retain(w, p, m, receive);
    else
        receive(w, &p->actor, m);
    check_lookup_after(p, &lookup, kind);
    if (p->actor.dying) {
        q->count = 0;
        q->pool = POOL_GONE;
        return;
    }
    check_leases(p, &before);
    check_order(p, q, &before);
    check_nobody_sleeps(p, q);
}

void check_queue_begin(void)
{
    memset(queues[sim_process], 0, sizeof queues[sim_process]);
}

void check_queue_moved(const struct pool *p, actor_id session)
{
    struct queue *q = queue_of(actor_id_of(&p->actor));

    INVARIANT(q->count < QUEUE_MAX);
    q->asked[q->count++] = (struct asked){.session = session, .at_us = sim_now_us()};
}

void check_deadlines(const struct pool *p)
{
    if (processes_late())
        return;
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        const struct waiter *waiter = &p->waiters[at & (p->waiters_size - 1)];

        if (waiter->session != 0 && sim_now_us() > waiter->deadline_us + LATE_US)
            sim_fail("session %u waits although its time was over at %llu us",
                     (unsigned)waiter->session, (unsigned long long)waiter->deadline_us);
    }
}
