/* From records to actors. */
#include "actors/upgrade_building.h"

#include <stdlib.h>

/* Room between the numbers of the two processes, since the other may go on for a while with
 * connections under way. */
enum { CONNECTIONS_APART = 1024, BACKENDS_APART = 1024 };

static void build_totals(const struct state_header *h)
{
#define X(name) &app.name,
    _Atomic uint64_t *totals[] = {UPGRADE_TOTALS(X)};
#undef X
    uint64_t numbers[COUNT_OF(totals)];

    numbers_of(h->totals, numbers, COUNT_OF(numbers));
    for (size_t i = 0; i < COUNT_OF(totals) && h->round == 1; i++)
        atomic_fetch_add(totals[i], numbers[i]);
}

static void build_numbers(const struct state_header *h)
{
    uint64_t next = h->next_connection + CONNECTIONS_APART;

    if (atomic_load(&app.connection_number) < next)
        atomic_store(&app.connection_number, next);
    backend_numbers_begin((uint32_t)h->next_backend + BACKENDS_APART);
    if (h->round == 1 && h->mock_secret.len == SCRAM_KEY)
        session_mock_secret_set(h->mock_secret.at);
}

/* Of one name there may be several over there: those that a reload has closed, with clients that
 * are in transactions yet. Here they are one. */
static void count_staying(struct building *b)
{
    for (size_t i = 0; i < b->d->pool_count; i++)
        b->pools[i]->staying_told = 0;
    for (size_t i = 0; i < b->d->pool_count; i++)
        b->pools[i]->staying_told += (uint32_t)b->d->pools[i].staying;
}

/* Backends are handed out, their ends are watched, and pools look at what they have now. */
static void wake_pools(struct building *b)
{
    for (size_t i = 0; i < b->d->backend_count; i++) {
        struct backend *to = b->backends[i];

        if (to == NULL)
            continue;
        uint64_t temp_owner = b->d->backends[i].temp_owner;
        if (temp_owner != 0)
            to->temp_owner = b->sessions[temp_owner - 1];
        uint64_t unnamed_owner = b->d->backends[i].unnamed_owner;
        if (unnamed_owner != 0)
            to->unnamed_owner = b->sessions[unnamed_owner - 1];
        watch_hangup(to->conn.fd, actor_id_of(&to->actor));
        actor_release(b->w, &to->actor);
    }
    count_staying(b);
    for (size_t i = 0; i < b->d->pool_count; i++) {
        if (!b->pools[i]->removed)
            pool_adopt_end(b->w, b->pools[i], b->pools[i]->staying_told,
                           b->d->pools[i].drains != 0);
        actor_tell_kind(b->w, actor_id_of(&b->pools[i]->actor), MSG_POOL_CONFIGURE);
    }
}

void upgrade_build(struct worker *w, const struct state_document *d, const int *fds,
                   struct upgrade_built *out)
{
    uint64_t now_us = clock_us();
    struct building b = {
        .w = w,
        .d = d,
        .fds = fds,
        .built = out,
        .statements = calloc(d->statement_count + 1, sizeof(struct statement *)),
        .shareds = calloc(d->pool_count + 1, sizeof(struct pool_shared *)),
        .pools = calloc(d->pool_count + 1, sizeof(struct pool *)),
        .opens_the_same = calloc(d->pool_count + 1, sizeof(bool)),
        .backends = calloc(d->backend_count + 1, sizeof(struct backend *)),
        .sessions = calloc(d->session_count + 1, sizeof(actor_id)),
        .late_us = now_us - MIN(d->header.frozen_us, now_us),
    };

    INVARIANT(b.statements != NULL && b.shareds != NULL && b.pools != NULL &&
              b.opens_the_same != NULL && b.backends != NULL && b.sessions != NULL);
    *out = (struct upgrade_built){0};
    build_numbers(&d->header);
    build_totals(&d->header);
    for (size_t i = 0; i < d->pool_count; i++)
        build_pool(&b, i);
    build_statements(&b);
    for (size_t i = 0; i < d->backend_count; i++)
        build_backend(&b, i);
    place_idle(&b);
    for (size_t i = 0; i < d->session_count; i++)
        build_session(&b, i);
    place_waiters(&b);
    wake_pools(&b);
    wake_sessions(&b);
    for (size_t i = 0; i < d->statement_count; i++) {
        if (b.statements[i] != NULL)
            statement_unref(b.statements[i]);
    }
    free(b.statements);
    free(b.shareds);
    free(b.pools);
    free(b.opens_the_same);
    free(b.backends);
    free(b.sessions);
}
