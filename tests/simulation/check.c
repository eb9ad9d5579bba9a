#include "tests/simulation/check.h"

#include "actors/admin.h"
#include "actors/daemon.h"
#include "actors/listener.h"
#include "runtime/sim.h"
#include "tests/simulation/clients.h"
#include "tests/simulation/postgres.h"
#include "tests/simulation/processes.h"

#include <stdio.h>
#include <stdlib.h>

static struct actor_type watched[ACTOR_TYPES_MAX];
static const struct actor_type *originals[ACTOR_TYPES_MAX];

/* --- all messages --- */

static void watch(struct worker *w, struct actor *a, struct message *m)
{
    const struct actor_type *type = originals[a->type];
    char text[160];

    if (m->kind >= MESSAGE_KIND_FIRST)
        message_print(m, text, sizeof text);
    else
        snprintf(text, sizeof text, "%s", message_kind_name(m->kind));
    sim_note("%s %u.%u <- %s", type->name, a->index, a->generation, text);
    if (type == &pool_type)
        check_pool_receives(w, pool_of(a), m, type->receive);
    else
        type->receive(w, a, m);
    if (type == &auth_query_type && !a->dying)
        check_auth_query(auth_query_of(a));
}

void check_register(void)
{
    const struct actor_type *types[] = {&session_type,     &backend_type,   &pool_type,
                                        &listener_type,    &daemon_type,    &admin_type,
                                        &coordinator_type, &auth_query_type};

    for (size_t i = 0; i < COUNT_OF(types); i++) {
        originals[types[i]->number] = types[i];
        watched[types[i]->number] = *types[i];
        watched[types[i]->number].receive = watch;
        actor_type_register(&watched[types[i]->number]);
    }
}

/* --- all actors --- */

void check_each(const struct actor_type *type, void (*visit)(struct actor *a))
{
    size_t count;
    actor_id *list = actor_list(type, &count);

    for (size_t i = 0; i < count; i++) {
        struct actor *a = actor_find(list[i]);

        if (a != NULL)
            visit(a);
    }
    free(list);
}

/* --- backends --- */

static void check_idle(const struct pool *p, const struct backend *b)
{
    if (atomic_load(&b->conn.owner) != &b->actor)
        sim_fail("idle backend pid %d belongs to another", b->pid);
    if (!conn_is_open(&b->conn) || !conn_quiet(&b->conn))
        sim_fail("idle backend pid %d is not at rest", b->pid);
    if (!ledger_empty(&b->ledger) || b->stash != NULL || b->body_left > 0)
        sim_fail("idle backend pid %d owes something", b->pid);
    if (b->status != 'I' || b->needs_sync || b->copy_in || b->broken)
        sim_fail("idle backend pid %d is not clean: status %c%s%s%s", b->pid, b->status,
                 b->needs_sync ? ", in a batch" : "", b->copy_in ? ", in COPY" : "",
                 b->broken ? ", broken" : "");
    /* Whose temporary tables they are is forgotten if he has gone before an upgrade. */
    bool nobodys = b->temp_owner == 0 && processes_upgrades() == 0;
    if ((b->dirt & ~DIRT_LAZY) != 0 || (b->dirt != 0 && nobodys))
        sim_fail("idle backend pid %d is dirty: %x", b->pid, b->dirt);
    (void)p;
}

static unsigned pool_sizes[PROGRAMS][1024];

/* A limit that is lowered may be exceeded for a while, but not by more and more. One that came in
 * use from another process begins to count when it comes back, and may be one too many while
 * another is being closed: then none has been opened. */
static void check_growth(unsigned pool, unsigned counted, unsigned all, unsigned limit)
{
    unsigned *sizes = pool_sizes[sim_process];

    INVARIANT(pool < COUNT_OF(pool_sizes[0]));
    if (counted > limit && all > sizes[pool])
        sim_fail("pool %u has grown to %u backends of %u", pool, counted, limit);
    sizes[pool] = all;
}

static void check_pool(struct actor *a)
{
    const struct pool *p = pool_of(a);
    unsigned idle = 0;
    unsigned counted = 0;
    unsigned all = 0;

    if (a->dying || p->effective == NULL)
        return;
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        counted += !b->extra;
        all++;
        idle += b->state == BACKEND_IDLE;
        if (b->state == BACKEND_IDLE)
            check_idle(p, b);
    }
    if (idle != p->idle_count)
        sim_fail("pool %u has %u idle backends and knows of %u", a->index, idle, p->idle_count);
    /* One that was opened for a waiter before the pause is for that one, afterwards. */
    if (p->draining && idle > 0 && !(p->paused && p->waiting > 0))
        sim_fail("pool %u is draining and keeps %u idle backends", a->index, idle);
    if (p->removed && p->waiting + idle > 0)
        sim_fail("pool %u is removed, %u wait and %u backends are idle", a->index, p->waiting,
                 idle);
    if (p->replaced > 3)
        sim_fail("pool %u replaces %u backends at a time", a->index, p->replaced);
    check_growth(a->index, counted, all, p->effective->pool_size + p->replaced);
    pool_check(p);
    check_deadlines(p);
    check_lookup_pool(p);
}

/* --- sessions --- */

static void check_session(struct actor *a)
{
    const struct session *s = session_of(a);
    const struct backend *b = s->backend;

    check_lookup_session(s);
    if (b == NULL)
        return;
    if (b->state != BACKEND_LEASED)
        sim_fail("session %u has a backend that is %s", a->index, backend_state_name(b->state));
    if (atomic_load(&b->conn.owner) != a)
        sim_fail("session %u has a backend that belongs to another", a->index);
}

static void note_size(struct actor *a)
{
    const struct pool *p = pool_of(a);
    unsigned size = 0;

    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next)
        size++;
    pool_sizes[sim_process][a->index] = size;
}

void check_adopted(void)
{
    check_each(&pool_type, note_size);
}

void check_step(void)
{
    check_each(&pool_type, check_pool);
    check_each(&session_type, check_session);
    check_lookup_step();
    clients_check();
}

/* --- at rest --- */

static bool busy_found;
static unsigned idle_found;
static unsigned lookup_connections;

static void look_for_busy(struct actor *a)
{
    const struct pool *p = pool_of(a);

    busy_found |= p->waiting > 0;
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        busy_found |= b->state != BACKEND_IDLE;
        idle_found += b->state == BACKEND_IDLE;
    }
}

/* Permits are as many as backends, and nobody wants or owes any. */
static void look_for_claims(struct actor *a)
{
    const struct coordinator *c = coordinator_of(a);

    coordinator_check(c);
    busy_found |= c->max > 0 && c->current != idle_found;
    for (size_t i = 0; i < c->claim_count; i++)
        busy_found |= c->claims[i].wanted + c->claims[i].closing + c->claims[i].keeping > 0;
}

bool check_is_quiet(void)
{
    busy_found = actor_count(&session_type) > 0;
    idle_found = 0;
    check_each(&pool_type, look_for_busy);
    check_each(&coordinator_type, look_for_claims);
    for (unsigned i = 0; i < runtime_workers(); i++)
        busy_found |= runtime_worker(i)->stacks.in_use > 0; /* a reload, say */
    busy_found |= !check_lookup_idle(&lookup_connections);
    unsigned idle = idle_found + lookup_connections;
    return !busy_found && actor_count(&backend_type) == idle && sim_near_open() <= idle;
}

bool check_is_empty(void)
{
    return check_is_quiet() && idle_found == 0 && sim_near_open() == 0;
}

static void tell_session(struct actor *a)
{
    const struct session *s = session_of(a);

    printf("session %u: %s, client %d, flags %x, descriptor %d\n", a->index,
           session_phase_name(s->phase), s->client, s->flags, s->conn.fd);
}

static void tell_coordinator(struct actor *a)
{
    const struct coordinator *c = coordinator_of(a);

    printf("coordinator %u: %u permits are out\n", a->index, c->current);
    for (size_t i = 0; i < c->claim_count; i++)
        printf("  pool %u: holds %u, wants %u, closes %u, keeps %u\n", (unsigned)c->claims[i].pool,
               c->claims[i].held, c->claims[i].wanted, c->claims[i].closing, c->claims[i].keeping);
}

static void tell_pool(struct actor *a)
{
    const struct pool *p = pool_of(a);

    printf("pool %u of %s: %u wait, %u stay%s%s%s\n", a->index, p->shared->user, p->waiting,
           p->staying, p->paused ? ", paused" : "", p->dynamic ? ", dynamic" : "",
           p->removed ? ", removed" : "");
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next)
        printf("  backend %u: %s, descriptor %d\n", b->actor.index, backend_state_name(b->state),
               b->conn.fd);
}

void check_tell(void)
{
    check_each(&session_type, tell_session);
    check_each(&pool_type, tell_pool);
    check_each(&coordinator_type, tell_coordinator);
    printf("%u descriptors, %u sessions, %u backends\n", sim_near_open(),
           actor_count(&session_type), actor_count(&backend_type));
}

static void forget_statements(void *context, struct pool_shared *shared)
{
    (void)context;
    statement_cache_clear(&shared->statements);
}

void check_nothing_left(void)
{
    check_at_rest();
    directory_each(forget_statements, NULL);
    if (atomic_load(&statement_text_bytes) != 0)
        sim_fail("%llu bytes of texts of statements are kept, and nobody has them",
                 (unsigned long long)atomic_load(&statement_text_bytes));
}

static void check_nobody_counts(void *context, struct pool_shared *shared)
{
    uint32_t count = atomic_load(&shared->logged_in);

    (void)context;
    if (count != 0)
        sim_fail("at rest %u clients of %s@%s are counted", count, shared->user, shared->database);
}

void check_at_rest(void)
{
    uint32_t free_blocks = 0;

    for (unsigned i = 0; i < runtime_workers(); i++) {
        const struct worker *w = runtime_worker(i);

        free_blocks += w->buffers.count[RBUF_SMALL] + w->buffers.count[RBUF_LARGE];
    }
    if (rbuf_total() != free_blocks)
        sim_fail("at rest %u blocks exist, and %u are free", rbuf_total(), free_blocks);
    if (atomic_load(&app.clients) != 0 || app_leases() != 0)
        sim_fail("at rest there are %u clients, %u in transactions", atomic_load(&app.clients),
                 app_leases());
    if (atomic_load(&app.input_held) != 0)
        sim_fail("at rest %lld bytes of input are held", (long long)atomic_load(&app.input_held));
    if (sim_near_open() != idle_found + lookup_connections)
        sim_fail("at rest %u descriptors are open for %u backends", sim_near_open(),
                 idle_found + lookup_connections);
    directory_each(check_nobody_counts, NULL);
    check_lookup_at_rest();
}
