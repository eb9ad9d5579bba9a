/* The actor: who asks, what is remembered, what is being looked up. */
#define LOG_MODULE "pg_doorman::auth::auth_query"
#include "actors/auth_query.h"

#include "actors/pool.h"
#include "runtime/log.h"

#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>

/* Connecting and asking may take five seconds each. */
enum { LOOKUP_LIMIT_US = 10000000 };

void auth_query_alarm(struct worker *w, struct auth_query *a, uint64_t at_us)
{
    if (a->alarm_us != 0 && a->alarm_us <= at_us)
        return;
    a->alarm_us = at_us;
    actor_alarm(w, actor_id_of(&a->actor), at_us, at_us);
}

static void count_entries(struct auth_query *a)
{
    atomic_store(&a->state->counters.entries, a->cache.count);
}

/* --- names that are being looked up --- */

static struct lookup *find_lookup(struct auth_query *a, const char *user)
{
    struct lookup *lookup = a->lookups;

    while (lookup != NULL && strcmp(lookup->user, user) != 0)
        lookup = lookup->next;
    return lookup;
}

static struct lookup *lookup_of_backend(struct auth_query *a, actor_id backend)
{
    struct lookup *lookup = a->lookups;

    while (lookup != NULL && lookup->backend != backend)
        lookup = lookup->next;
    return lookup;
}

void lookup_end(struct worker *w, struct auth_query *a, struct lookup *lookup,
                enum lookup_outcome outcome)
{
    struct lookup **at = &a->lookups;

    while (*at != lookup)
        at = &(*at)->next;
    *at = lookup->next;
    while (lookup->askers != NULL) {
        struct asker *asker = lookup->askers;

        lookup->askers = asker->next;
        actor_tell(w, asker->session,
                   MESSAGE(AUTH_ANSWER, .ticket = asker->ticket, .outcome = outcome));
        free(asker);
    }
    free(lookup);
}

static void end_all_lookups(struct worker *w, struct auth_query *a)
{
    while (a->lookups != NULL)
        lookup_end(w, a, a->lookups, LOOKUP_FAILED);
}

/* One that was answered too late by a server, or too long by none. */
static void expire(struct worker *w, struct auth_query *a)
{
    struct lookup *next;

    for (struct lookup *lookup = a->lookups; lookup != NULL; lookup = next) {
        next = lookup->next;
        if (lookup->deadline_us <= w->now_us) {
            atomic_fetch_add(&a->state->counters.errors, 1);
            log_error("[%s@%s] auth_query: lookup timed out", lookup->user, a->state->database);
            lookup_end(w, a, lookup, LOOKUP_FAILED);
        } else {
            auth_query_alarm(w, a, lookup->deadline_us);
        }
    }
}

static void join(struct worker *w, struct auth_query *a, const char *user, bool again,
                 struct asker *asker)
{
    struct lookup *lookup = find_lookup(a, user);

    if (lookup == NULL) {
        struct lookup **last = &a->lookups;

        while (*last != NULL)
            last = &(*last)->next;
        lookup = *last = calloc(1, sizeof *lookup);
        INVARIANT(lookup != NULL);
        snprintf(lookup->user, sizeof lookup->user, "%s", user);
        lookup->again = again;
        lookup->deadline_us = w->now_us + LOOKUP_LIMIT_US;
        auth_query_alarm(w, a, lookup->deadline_us);
    }
    asker->next = lookup->askers;
    lookup->askers = asker;
    executor_dispatch(w, a);
}

/* --- requests --- */

static void answer(struct worker *w, struct auth_query *a, const struct message *m,
                   enum lookup_outcome outcome)
{
    struct message reply = {0};
    struct msg_AUTH_ANSWER fields = {.ticket = message_get_AUTH_LOOKUP(m).ticket,
                                     .outcome = outcome};

    message_put_AUTH_ANSWER(&reply, &fields);
    actor_reply(w, &a->actor, m, &reply);
}

/* After a login that failed: may it be asked for so soon? */
static bool too_soon(const struct worker *w, const struct auth_query *a,
                     const struct cache_entry *entry)
{
    return entry != NULL && entry->refetched_us != 0 &&
           elapsed_us(w, entry->refetched_us) < a->settings->min_interval * 1000;
}

/* True: answered. */
static bool answer_from_memory(struct worker *w, struct auth_query *a, const struct message *m,
                               const char *user, bool again)
{
    struct auth_query_counters *counters = &a->state->counters;
    struct cache_entry *entry = cache_find(&a->cache, user);

    if (again && too_soon(w, a, entry)) {
        atomic_fetch_add(&counters->rate_limited, 1);
        log_warn("[%s@%s] auth_query cache: refetch rate-limited (%llu ms since last)", user,
                 a->state->database, (unsigned long long)elapsed_us(w, entry->refetched_us) / 1000);
        answer(w, a, m, LOOKUP_LIMITED);
        return true;
    }
    if (again || entry == NULL || !cache_valid(&a->cache, entry, w->now_us))
        return false;
    atomic_fetch_add(&counters->hits, 1);
    answer(w, a, m, entry->found ? LOOKUP_FOUND : LOOKUP_UNKNOWN);
    return true;
}

static void on_lookup(struct worker *w, struct auth_query *a, struct message *m)
{
    struct msg_AUTH_LOOKUP want = message_get_AUTH_LOOKUP(m);
    char user[ROLE_NAME_MAX + 1];

    /* PostgreSQL knows no longer names. */
    if (want.user.len > ROLE_NAME_MAX || a->removed) {
        answer(w, a, m, a->removed ? LOOKUP_FAILED : LOOKUP_UNKNOWN);
        return;
    }
    memcpy(user, want.user.at, want.user.len);
    user[want.user.len] = '\0';
    if (answer_from_memory(w, a, m, user, want.again != 0))
        return;
    struct asker *asker = calloc(1, sizeof *asker);
    INVARIANT(asker != NULL);
    *asker = (struct asker){.session = m->sender, .ticket = want.ticket};
    join(w, a, user, want.again != 0, asker);
}

/* An attacker who guesses passwords must not drive a query with each guess. */
static void on_distrust(struct worker *w, struct auth_query *a, struct message *m)
{
    struct bytes name = message_get_AUTH_DISTRUST(m).user;
    char user[ROLE_NAME_MAX + 1];

    if (name.len > ROLE_NAME_MAX)
        return;
    memcpy(user, name.at, name.len);
    user[name.len] = '\0';
    struct cache_entry *entry = cache_find(&a->cache, user);
    if (entry == NULL || entry->distrusted || too_soon(w, a, entry))
        return;
    entry->distrusted = true;
    entry->refetched_us = w->now_us;
    log_info("[%s@%s] auth_query cache: invalidated", user, a->state->database);
}

static void on_flush(struct auth_query *a, struct message *m)
{
    struct bytes name = message_get_AUTH_FLUSH(m).user;
    char user[ROLE_NAME_MAX + 1];

    if (name.len == 0) {
        cache_clear(&a->cache);
    } else if (name.len <= ROLE_NAME_MAX) {
        memcpy(user, name.at, name.len);
        user[name.len] = '\0';
        struct cache_entry *entry = cache_find(&a->cache, user);
        if (entry != NULL)
            entry->distrusted = true;
    }
    count_entries(a);
}

/* --- answers of the server --- */

static struct pair_list overlay_of(struct auth_query *a, struct arena *arena, const char *user,
                                   const struct msg_LOOKUP_DONE *done)
{
    struct pair_list overlay = {0};

    if (done->parameters.len == 0)
        return overlay;
    const char *text = arena_copy(arena, (const char *)done->parameters.at, done->parameters.len);
    enum overlay_problem problem = overlay_read(arena, (uint32_t)done->type, text,
                                                done->parameters.len, &overlay);
    if (problem != OVERLAY_GOOD)
        log_warn("[%s@%s] startup_parameters of auth_query %s (%s)", user, a->state->database,
                 problem == OVERLAY_INVALID_ENTRY ? "contain entries that are ignored"
                                                  : "are ignored",
                 overlay_problem_name(problem));
    if (overlay.count > 0 && a->settings->server_user != NULL) {
        log_warn("[%s@%s] per-user startup_parameters ignored in dedicated auth_query mode; use "
                 "pool-level startup_parameters instead",
                 user, a->state->database);
        overlay = (struct pair_list){0};
    }
    return overlay;
}

static void keep(struct worker *w, struct auth_query *a, const char *user,
                 const struct msg_LOOKUP_DONE *done)
{
    struct arena arena = {0};
    struct pair_list overlay = overlay_of(a, &arena, user, done);
    char *secret = arena_copy(&arena, (const char *)done->secret.at, done->secret.len);

    pools_looked_up(w, a->state->database, user, secret, &overlay);
    arena_free(&arena);
}

static void note_answer(struct worker *w, struct auth_query *a, const struct lookup *lookup,
                        const struct msg_LOOKUP_DONE *done)
{
    struct auth_query_counters *counters = &a->state->counters;
    struct cache_entry *entry;

    atomic_fetch_add(&counters->queries, 1);
    if (done->outcome == LOOKUP_FAILED) {
        atomic_fetch_add(&counters->errors, 1);
        log_error("[%s@%s] Auth query execution error: %.*s", lookup->user, a->state->database,
                  (int)done->problem.len, (const char *)done->problem.at);
        return;
    }
    atomic_fetch_add(lookup->again ? &counters->refetches : &counters->misses, 1);
    if (done->outcome == LOOKUP_FOUND)
        keep(w, a, lookup->user, done);
    else if (done->problem.len > 0)
        log_warn("[%s@%s] auth_query: %.*s", lookup->user, a->state->database,
                 (int)done->problem.len, (const char *)done->problem.at);
    entry = cache_put(&a->cache, lookup->user, done->outcome == LOOKUP_FOUND, w->now_us);
    if (lookup->again)
        entry->refetched_us = w->now_us;
    count_entries(a);
}

static void on_done(struct worker *w, struct auth_query *a, struct message *m)
{
    struct msg_LOOKUP_DONE done = message_get_LOOKUP_DONE(m);
    struct lookup *lookup = lookup_of_backend(a, done.backend);

    executor_rest(w, a, done.backend, done.lost != 0);
    if (lookup != NULL && done.lost && !lookup->repeated) {
        lookup->repeated = true; /* on another connection */
        lookup->backend = 0;
    } else if (lookup != NULL) {
        note_answer(w, a, lookup, &done);
        lookup_end(w, a, lookup, (enum lookup_outcome)done.outcome);
    }
    OPENSSL_cleanse((uint8_t *)(uintptr_t)message_body(m), m->len);
    executor_dispatch(w, a);
}

/* --- the configuration --- */

static void begin_anew(struct auth_query *a)
{
    struct auth_query_counters *c = &a->state->counters;
    _Atomic uint64_t *all[] = {&c->entries,      &c->hits,    &c->misses,   &c->refetches,
                               &c->rate_limited, &c->success, &c->failure,  &c->queries,
                               &c->errors,       &c->created, &c->destroyed};

    cache_clear(&a->cache);
    for (size_t i = 0; i < COUNT_OF(all); i++)
        atomic_store(all[i], 0);
}

static void close_down(struct worker *w, struct auth_query *a)
{
    actor_id mine = actor_id_of(&a->actor);

    atomic_compare_exchange_strong(&a->state->actor, &mine, 0);
    a->removed = true;
    cache_clear(&a->cache);
    end_all_lookups(w, a);
    executor_outdate(w, a);
}

/* Takes over the reference. */
static void adopt(struct auth_query *a, struct config *config, const struct pool_config *pool)
{
    config_unref(a->config);
    a->config = config;
    a->pool = pool;
    a->settings = pool->auth_query;
    a->cache.ttl_us[true] = a->settings->cache_ttl * 1000;
    a->cache.ttl_us[false] = a->settings->cache_failure_ttl * 1000;
}

static void on_configure(struct worker *w, struct auth_query *a)
{
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, a->state->database);

    /* It may be there again, with another actor, before this one has heard that it was gone. */
    bool replaced = a->config != NULL && atomic_load(&a->state->actor) != actor_id_of(&a->actor);
    if (a->removed || replaced || pool == NULL || pool->auth_query == NULL) {
        config_unref(config);
        if (!a->removed)
            close_down(w, a);
        return;
    }
    bool first = a->config == NULL;
    bool same = !first && config_pool_same(a->pool, pool);
    adopt(a, config, pool);
    if (same) {
        log_info("[%s] auth_query config unchanged — reusing state", a->state->database);
        return;
    }
    begin_anew(a);
    if (first)
        return;
    log_info("[%s] auth_query config changed — collecting dynamic pools for removal",
             a->state->database);
    log_info("[%s] auth_query cache cleared on RELOAD", a->state->database);
    executor_outdate(w, a);
    executor_dispatch(w, a);
}

/* --- the actor --- */

static void maybe_end(struct auth_query *a)
{
    if (!a->removed || !executor_empty(a))
        return;
    config_unref(a->config);
    free(a->executors);
    a->config = NULL;
    a->executors = NULL;
    actor_exit(&a->actor);
}

static void on_alarm(struct worker *w, struct auth_query *a, struct message *m)
{
    if (m->alarm.token == a->alarm_us)
        a->alarm_us = 0;
    expire(w, a);
    executor_dispatch(w, a);
}

static void auth_query_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct auth_query *a = auth_query_of(self);

    switch (m->kind) {
    case MESSAGE_START:
    case MSG_AUTH_CONFIGURE: on_configure(w, a); break;
    case MSG_AUTH_LOOKUP: on_lookup(w, a, m); break;
    case MSG_AUTH_DISTRUST: on_distrust(w, a, m); break;
    case MSG_AUTH_FLUSH: on_flush(a, m); break;
    case MSG_LOOKUP_DONE: on_done(w, a, m); break;
    case MSG_POOL_READY: executor_on_ready(w, a, m); break;
    case MSG_POOL_FAILED: executor_on_failed(w, a, m); break;
    case MSG_POOL_GONE: executor_on_gone(w, a, m); break;
    case MSG_BACKEND_HANGUP: executor_on_hangup(w, a, m); break;
    case MESSAGE_ALARM: on_alarm(w, a, m); break;
    default: INVARIANT(!"auth_query does not understand this kind of message");
    }
    maybe_end(a);
}

/* It ended while they asked; nobody else would ever answer. */
static void auth_query_missed(struct worker *w, struct message *m)
{
    if (m->kind == MSG_AUTH_LOOKUP)
        actor_tell(w, m->sender,
                   MESSAGE(AUTH_ANSWER, .ticket = message_get_AUTH_LOOKUP(m).ticket,
                           .outcome = LOOKUP_FAILED));
}

static uint32_t auth_query_pack(const struct actor *actor, struct packer *out)
{
    const struct auth_query *a = CONTAINER_OF(actor, struct auth_query, actor);
    uint64_t waiting = 0;
    uint64_t connections = 0;

    for (const struct lookup *lookup = a->lookups; lookup != NULL; lookup = lookup->next)
        waiting++;
    for (uint32_t i = 0; i < a->executor_count; i++)
        connections += a->executors[i].backend != 0;
    pack_str(out, "database");
    pack_str(out, a->state->database);
    pack_str(out, "entries");
    pack_uint(out, a->cache.count);
    pack_str(out, "lookups");
    pack_uint(out, waiting);
    pack_str(out, "connections");
    pack_uint(out, connections);
    pack_str(out, "failures");
    pack_uint(out, a->failures);
    return 5;
}

static const char *auth_query_state_name(const struct actor *actor)
{
    const struct auth_query *a = CONTAINER_OF(actor, struct auth_query, actor);

    return a->removed ? "removed" : a->lookups != NULL ? "looking up" : "resting";
}

const struct actor_type auth_query_type = {
    .name = "auth_query",
    .size = sizeof(struct auth_query),
    .rank = RANK_POOL,
    .number = 8,
    .receive = auth_query_receive,
    .pack = auth_query_pack,
    .state_name = auth_query_state_name,
    .kind_name = message_kind_name,
    .missed = auth_query_missed,
};
