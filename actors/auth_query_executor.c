/* The connections that run the query: opened when first needed, all of them at once; one query at a
 * time on each. */
#define LOG_MODULE "pg_doorman::auth::auth_query"
#include "actors/auth_query.h"

#include "runtime/log.h"

#include <stdlib.h>

enum { RETRY_MIN_US = 10000, RETRY_MAX_US = 1000000, EXECUTORS_MAX = 1000 };

static struct executor *executor_find(struct auth_query *a, actor_id backend)
{
    for (uint32_t i = 0; i < a->executor_count; i++) {
        if (a->executors[i].backend == backend)
            return &a->executors[i];
    }
    INVARIANT(!"a connection that auth_query does not know");
    return NULL;
}

bool executor_empty(const struct auth_query *a)
{
    for (uint32_t i = 0; i < a->executor_count; i++) {
        if (a->executors[i].backend != 0)
            return false;
    }
    return true;
}

/* Connections that run a query, or may soon. */
static uint32_t usable(const struct auth_query *a)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < a->executor_count; i++)
        count += a->executors[i].backend != 0 && !a->executors[i].outdated &&
                 a->executors[i].state != EXECUTOR_CLOSING;
    return count;
}

static struct lookup *first_waiting(struct auth_query *a)
{
    struct lookup *lookup = a->lookups;

    while (lookup != NULL && lookup->backend != 0)
        lookup = lookup->next;
    return lookup;
}

/* --- closing --- */

static void close_executor(struct worker *w, struct executor *e, const char *reason)
{
    e->state = EXECUTOR_CLOSING;
    actor_tell(w, e->backend, MESSAGE(BACKEND_CLOSE, .reason = bytes_of(reason)));
}

void executor_outdate(struct worker *w, struct auth_query *a)
{
    for (uint32_t i = 0; i < a->executor_count; i++) {
        struct executor *e = &a->executors[i];

        if (e->backend == 0)
            continue;
        e->outdated = true;
        if (e->state == EXECUTOR_IDLE)
            close_executor(w, e, "configuration changed");
    }
    /* What they find does not count any more. */
    for (struct lookup *lookup = a->lookups; lookup != NULL; lookup = lookup->next)
        lookup->backend = 0;
    a->failures = 0;
    a->retry_us = 0;
    a->ready_told = false;
}

/* --- opening --- */

static void room_for_workers(struct auth_query *a)
{
    uint32_t wanted = (uint32_t)MIN(a->settings->workers, (uint64_t)EXECUTORS_MAX);

    if (wanted <= a->executor_count)
        return;
    a->executors = realloc(a->executors, wanted * sizeof *a->executors);
    INVARIANT(a->executors != NULL);
    memset(a->executors + a->executor_count, 0,
           (wanted - a->executor_count) * sizeof *a->executors);
    a->executor_count = wanted;
}

static void open_one(struct worker *w, struct auth_query *a, struct executor *e, uint32_t number)
{
    const struct effective *settings = &a->settings->executor;
    struct backend *b = backend_open(w, a->shared, actor_id_of(&a->actor), a->config, settings);

    *e = (struct executor){.backend = actor_id_of(&b->actor), .state = EXECUTOR_OPENING};
    log_info("[%s] auth_query: opening executor connection %u/%llu to %s:%u/%s as '%s'",
             a->state->database, number, (unsigned long long)a->settings->workers,
             settings->server_host, settings->server_port, settings->server_database,
             settings->server_user);
    actor_launch(w, &b->actor);
}

static void open_missing(struct worker *w, struct auth_query *a)
{
    if (a->retry_us > w->now_us) {
        auth_query_alarm(w, a, a->retry_us);
        return;
    }
    if (executor_empty(a) && !a->ready_told)
        log_info("[%s] auth_query: initializing executor (lazy, first request)",
                 a->state->database);
    a->shared = directory_add(a->settings->executor.server_database,
                              a->settings->executor.server_user);
    room_for_workers(a);
    uint32_t count = usable(a);
    for (uint32_t i = 0; i < a->executor_count && count < a->settings->workers; i++) {
        if (a->executors[i].backend == 0)
            open_one(w, a, &a->executors[i], ++count);
    }
}

/* --- giving work --- */

static void run_query(struct worker *w, struct auth_query *a, struct executor *e,
                      struct lookup *lookup)
{
    e->state = EXECUTOR_BUSY;
    lookup->backend = e->backend;
    actor_tell(w, e->backend,
               MESSAGE(BACKEND_LOOKUP, .query = bytes_of(a->settings->query),
                       .user = bytes_of(lookup->user)));
}

void executor_dispatch(struct worker *w, struct auth_query *a)
{
    struct lookup *lookup = a->removed ? NULL : first_waiting(a);

    for (uint32_t i = 0; i < a->executor_count && lookup != NULL; i++) {
        struct executor *e = &a->executors[i];

        if (e->backend == 0 || e->state != EXECUTOR_IDLE)
            continue;
        run_query(w, a, e, lookup);
        lookup = first_waiting(a);
    }
    if (lookup != NULL && usable(a) < a->settings->workers)
        open_missing(w, a);
}

/* --- what becomes of them --- */

void executor_rest(struct worker *w, struct auth_query *a, actor_id backend, bool lost)
{
    struct executor *e = executor_find(a, backend);

    e->state = lost ? EXECUTOR_CLOSING : EXECUTOR_IDLE; /* lost: POOL_GONE follows by itself */
    if (!lost && e->outdated)
        close_executor(w, e, "configuration changed");
}

void executor_on_ready(struct worker *w, struct auth_query *a, struct message *m)
{
    struct executor *e = executor_find(a, message_get_POOL_READY(m).backend);
    const struct effective *settings = &a->settings->executor;

    a->failures = 0;
    a->retry_us = 0;
    log_info("[%s] auth_query: executor connection %u established", a->state->database,
             (uint32_t)(e - a->executors) + 1);
    executor_rest(w, a, e->backend, false);
    if (!e->outdated && !a->ready_told) {
        a->ready_told = true;
        log_info("auth_query executor ready: %s@%s:%u/%s (workers=%llu)", settings->server_user,
                 settings->server_host, settings->server_port, settings->server_database,
                 (unsigned long long)a->settings->workers);
    }
    executor_dispatch(w, a);
}

static void release(struct worker *w, struct executor *e)
{
    actor_tell_kind(w, e->backend, MSG_BACKEND_RELEASED);
    *e = (struct executor){0};
}

/* Whoever waits is told, unless another connection can still serve. */
static void fail_waiting(struct worker *w, struct auth_query *a)
{
    struct lookup *lookup;

    while ((lookup = first_waiting(a)) != NULL)
        lookup_end(w, a, lookup, LOOKUP_FAILED);
}

void executor_on_failed(struct worker *w, struct auth_query *a, struct message *m)
{
    struct msg_POOL_FAILED failed = message_get_POOL_FAILED(m);
    struct executor *e = executor_find(a, failed.backend);
    bool outdated = e->outdated;

    release(w, e);
    if (outdated) {
        executor_dispatch(w, a);
        return;
    }
    log_error("[%s] Auth query connection error: %.*s", a->state->database, (int)failed.text.len,
              (const char *)failed.text.at);
    atomic_fetch_add(&a->state->counters.errors, 1);
    a->retry_us = w->now_us +
                  MIN((uint64_t)RETRY_MIN_US << MIN(a->failures, 7u), (uint64_t)RETRY_MAX_US);
    a->failures++;
    if (usable(a) == 0)
        fail_waiting(w, a);
    executor_dispatch(w, a);
}

void executor_on_gone(struct worker *w, struct auth_query *a, struct message *m)
{
    release(w, executor_find(a, message_get_POOL_GONE(m).backend));
    executor_dispatch(w, a);
}

void executor_on_hangup(struct worker *w, struct auth_query *a, struct message *m)
{
    actor_id backend = message_get_BACKEND_HANGUP(m).backend;

    for (uint32_t i = 0; i < a->executor_count; i++) {
        struct executor *e = &a->executors[i];

        /* A query that runs finds out for itself. */
        if (e->backend != backend || e->state != EXECUTOR_IDLE)
            continue;
        log_warn("[%s] auth_query: executor connection %u lost: server closed the connection",
                 a->state->database, i + 1);
        close_executor(w, e, "server closed the connection");
    }
}
