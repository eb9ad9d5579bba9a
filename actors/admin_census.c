/* Looking around: pools first, then their clients. Backends are read in their pool's hands; the
 * counters that a session writes while it holds one are read as they pass. */
#include "actors/admin.h"
#include "actors/passing.h"
#include "actors/pool.h"
#include "actors/session.h"

#include <errno.h>
#include <stdlib.h>

struct looking {
    struct census *census;
    struct pool_row *pool;
    uint64_t now_us;
};

static void *row_add(struct arena *arena, void *rows, size_t *count, size_t *room, size_t size)
{
    if (*count == *room)
        rows = arena_grow(arena, rows, *count, room, size);
    memset((uint8_t *)rows + *count * size, 0, size);
    (*count)++;
    return rows;
}
#define ROW_ADD(census, what)                                                                 \
    ((census)->what##s = row_add((census)->arena, (census)->what##s, &(census)->what##_count, \
                                 &(census)->what##_room, sizeof *(census)->what##s),          \
     &(census)->what##s[(census)->what##_count - 1])

static uint64_t since(uint64_t now_us, uint64_t then_us)
{
    return now_us - MIN(then_us, now_us);
}

/* --- servers --- */

static const char *server_state(uint8_t state)
{
    switch ((enum backend_state)state) {
    case BACKEND_LOGIN: return "login";
    case BACKEND_LEASED:
    case BACKEND_CLEANING: return "active";
    default: return "idle";
    }
}

static const char *server_wait(const struct backend *b)
{
    if (b->state == BACKEND_IDLE)
        return "idle";
    if (PASSING(b->conn.out) != NULL)
        return "write";
    return b->state == BACKEND_LEASED && PASSING(b->ledger.head) == PASSING(b->ledger.tail)
               ? "idle"
               : "read";
}

/* Its holder may be writing it: taken byte by byte, and it ends somewhere. */
static const char *application_copy(struct arena *arena, const struct backend *b)
{
    char name[sizeof b->application_name];

    for (size_t i = 0; i < sizeof name; i++)
        name[i] = PASSING(b->application_name[i]);
    name[sizeof name - 1] = '\0';
    return name[0] == '\0' ? "Undefined" : arena_text(arena, name);
}

static void copy_server(struct looking *l, const struct backend *b)
{
    struct server_row *row = ROW_ADD(l->census, server);

    row->number = b->number;
    row->pid = (uint64_t)MAX(PASSING(b->pid), 0);
    row->database = b->shared->database;
    row->user = b->shared->user;
    row->application_name = application_copy(l->census->arena, b);
    row->tls = PASSING(b->tls);
    row->state = server_state(b->state);
    row->wait = server_wait(b);
    row->transactions = PASSING(b->transactions);
    row->queries = PASSING(b->queries);
    row->bytes_sent = PASSING(b->bytes_sent);
    row->bytes_received = PASSING(b->bytes_received);
    row->created_us = b->created_us;
    row->age_seconds = since(l->now_us, b->created_us) / 1000000;
    row->prepared_hits = PASSING(b->prepared_hits);
    row->prepared_misses = PASSING(b->prepared_misses);
    row->prepared_size = b->statements == NULL ? 0 : statement_set_count(b->statements);
}

/* --- pools --- */

static void copy_settings(struct pool_row *row, struct arena *arena, const struct effective *e)
{
    row->mode = e->mode == POOL_MODE_SESSION ? "session" : "transaction";
    row->host = arena_text(arena, e->server_host);
    row->port = e->server_port;
    row->server_database = arena_text(arena, e->server_database);
    row->pool_size = e->pool_size;
    row->min_pool_size = e->min_pool_size;
}

static void look_at_pool(struct actor *a, void *context)
{
    struct looking *l = context;
    const struct pool *p = pool_of(a);
    struct pool_row *row = l->pool;

    if (p->effective == NULL)
        return;
    copy_settings(row, l->census->arena, p->effective);
    row->size = pool_size_now(p) - p->count[BACKEND_CLOSING];
    row->sv_active = p->count[BACKEND_LEASED] + p->count[BACKEND_CLEANING];
    row->sv_idle = p->count[BACKEND_IDLE] + p->count[BACKEND_CHECKING];
    row->sv_login = p->count[BACKEND_LOGIN];
    row->paused = p->paused;
    row->scaling = p->scaling;
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        if (b->state == BACKEND_CLOSING)
            continue;
        PASSING_BEGIN();
        copy_server(l, b);
        PASSING_END();
        if (b->state == BACKEND_LEASED)
            row->oldest_active_age_ms = MAX(row->oldest_active_age_ms,
                                            since(l->now_us, b->leased_since_us) / 1000);
    }
}

static void copy_counters(struct pool_row *row)
{
    struct pool_counters total = pool_counters_sum(row->shared);
    const struct pool_counters *average = &row->shared->average;

    row->total_xact_count = total.transactions;
    row->total_query_count = total.queries;
    row->total_received = total.bytes_received;
    row->total_sent = total.bytes_sent;
    row->total_xact_time = total.transaction_us;
    row->total_query_time = total.query_us;
    row->total_wait_time = total.wait_us;
    row->total_errors = total.errors;
    row->avg_xact_count = average->transactions;
    row->avg_query_count = average->queries;
    row->avg_recv = average->bytes_received;
    row->avg_sent = average->bytes_sent;
    row->avg_errors = average->errors;
    row->avg_xact_time = average->transaction_us;
    row->avg_query_time = average->query_us;
    row->avg_wait_time = average->wait_us;
}

static void add_pool(void *context, struct pool_shared *shared)
{
    struct census *c = context;
    actor_id id = atomic_load(&shared->pool);

    if (id == 0)
        return;
    struct pool_row *row = ROW_ADD(c, pool);
    row->shared = shared;
    row->id = id;
    row->database = shared->database;
    row->user = shared->user;
    row->mode = atomic_load(&shared->mode) == POOL_MODE_SESSION ? "session" : "transaction";
    statement_cache_totals(&shared->statements, &row->pool_prepared_count,
                           &row->pool_prepared_bytes);
    copy_counters(row);
}

/* What the configuration says of a pool that does not answer. */
static void fill_from_config(struct pool_row *row, struct arena *arena)
{
    struct config *config = app_config();
    const struct effective *effective = pool_wanted(config, row->shared);

    if (effective != NULL)
        copy_settings(row, arena, effective);
    config_unref(config);
}

static int by_age(const void *a, const void *b)
{
    const struct server_row *x = a;
    const struct server_row *y = b;
    int order = strcmp(x->database, y->database);

    if (order == 0)
        order = strcmp(x->user, y->user);
    if (order == 0)
        order = (x->created_us > y->created_us) - (x->created_us < y->created_us);
    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

void census_take_pools(struct worker *w, struct census *c, struct arena *arena)
{
    *c = (struct census){.arena = arena};
    directory_each(add_pool, c);
    size_t kept = 0;
    for (size_t i = 0; i < c->pool_count; i++) {
        struct looking l = {c, &c->pools[i], w->now_us};
        int result = actor_visit(w, l.pool->id, look_at_pool, &l, clock_us() + VISIT_LIMIT_US);

        if (result == -ESRCH)
            continue;
        if (l.pool->host == NULL)
            fill_from_config(l.pool, arena);
        c->pools[kept++] = c->pools[i];
    }
    c->pool_count = kept;
    if (c->server_count > 0)
        qsort(c->servers, c->server_count, sizeof *c->servers, by_age);
}

/* --- clients --- */

static int by_name(const void *key, const void *element)
{
    const struct pool_shared *shared = key;
    const struct pool_row *row = element;
    int order = strcmp(shared->database, row->database);

    return order != 0 ? order : strcmp(shared->user, row->user);
}

static struct pool_row *pool_row_of(const struct census *c, const struct pool_shared *shared)
{
    if (c->pool_count == 0)
        return NULL;
    return bsearch(shared, c->pools, c->pool_count, sizeof *c->pools, by_name);
}

static const char *client_wait(const struct session *s)
{
    if (s->flags & SESSION_SERVER_PAUSED)
        return "write";
    if (s->phase == SESSION_IDLE || s->phase == SESSION_ADMIN)
        return "read";
    if (s->phase == SESSION_BOUND && s->backend != NULL && ledger_empty(&s->backend->ledger))
        return "read";
    return "idle";
}

static void count_client(struct looking *l, const struct session *s, const struct client_row *row)
{
    struct pool_row *pool = s->shared == NULL ? NULL : pool_row_of(l->census, s->shared);

    if (pool == NULL)
        return;
    pool->cl_idle += row->state[0] == 'i';
    pool->cl_active += row->state[0] == 'a';
    pool->cl_waiting += row->state[0] == 'w';
    pool->wait_max_us = MAX(pool->wait_max_us, s->wait_max_us);
    pool->async_clients += (s->flags & SESSION_ASYNC) != 0;
    uint64_t anonymous = s->anonymous != NULL ? statement_set_count(s->anonymous)
                                              : s->unnamed != NULL;
    pool->client_named_count += s->statements.count;
    pool->client_anonymous_count += anonymous;
    pool->client_prepared_count += s->statements.count + anonymous;
    pool->client_prepared_bytes += statement_map_bytes(&s->statements) +
                                   (s->anonymous == NULL ? 0 : statement_set_bytes(s->anonymous));
    pool->client_anonymous_evictions_alive += s->anonymous_evictions;
}

static void look_at_session(struct actor *a, void *context)
{
    struct looking *l = context;
    const struct session *s = session_of(a);
    struct arena *arena = l->census->arena;

    /* One that still drains its backend counts, though its client has gone. */
    if ((s->flags & SESSION_LOGGED_IN) == 0 || s->phase == SESSION_CLOSED)
        return;
    struct client_row *row = ROW_ADD(l->census, client);
    row->shared = s->shared;
    row->number = s->number;
    row->database = arena_text(arena, session_database(s));
    row->user = arena_text(arena, session_user(s));
    row->application_name = arena_text(arena, session_application(s));
    row->address = arena_text(arena, session_address(s));
    /* The console's clients never hold a backend, not even the one that asks. */
    row->state = s->shared == NULL ? "idle" : session_state_word(s);
    row->wait = client_wait(s);
    row->transactions = s->transactions;
    row->queries = s->queries;
    row->errors = s->errors;
    row->age_seconds = since(l->now_us, s->connected_us) / 1000000;
    count_client(l, s, row);
}

static int by_number(const void *a, const void *b)
{
    const struct client_row *x = a;
    const struct client_row *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

void census_take(struct worker *w, struct census *c, struct arena *arena)
{
    size_t count;

    census_take_pools(w, c, arena);
    actor_id *sessions = actor_list(&session_type, &count);
    for (size_t i = 0; i < count; i++) {
        struct looking l = {c, NULL, w->now_us};

        /* Sessions never wait, so one that is missed has died, or the machine is in trouble. */
        (void)!actor_visit(w, sessions[i], look_at_session, &l, clock_us() + VISIT_LIMIT_US);
        if (i % VISITS_PER_TURN == VISITS_PER_TURN - 1)
            wait_sleep(w, 0);
    }
    free(sessions);
    if (c->client_count > 0)
        qsort(c->clients, c->client_count, sizeof *c->clients, by_number);
}
