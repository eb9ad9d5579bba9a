/* What is another process's now is forgotten here. Its descriptors are closed, which its peers do
 * not see; nothing is sent, nothing is shut down. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_load.h"

#include "runtime/log.h"

#include <stdlib.h>

static void leave_session(struct worker *w, struct session *s)
{
    log_debug(SESSION_LOG(s) "client %s migrated to new process", SESSION_ID(s),
              session_address(s));
    conn_abandon(w, &s->conn);
    if (s->in != NULL)
        session_consume(w, s, session_input_len(s));
    if (s->phase == SESSION_BOUND)
        app_count_lease(w, -1);
    cancel_forget((uint32_t)s->number, s->secret, actor_id_of(&s->actor));
    if (s->flags & SESSION_LOGGED_IN)
        session_in_pool(s, -1);
    s->backend = NULL;
    s->client = CLIENT_CLOSED;
    s->phase = SESSION_CLOSED;
    s->flags &= (uint16_t) ~(SESSION_ASKED | SESSION_LOGGED_IN);
    /* Its own hands give back the rest. */
    actor_tell_kind(w, actor_id_of(&s->actor), MSG_SESSION_MOVED);
}

static void leave_waiters(struct upgrade_load *load, struct pool *p)
{
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        struct waiter *waiter = &p->waiters[at & (p->waiters_size - 1)];
        const struct actor *a = actor_find(waiter->session);

        if (a == NULL || a->index >= load->record_size || load->record_of[a->index] == 0)
            continue;
        waiter->session = 0;
        p->waiting--;
    }
}

static void tell_times(struct pool_shared *shared)
{
    if (shared->times_handed_over == NULL)
        shared->times_handed_over = calloc(TIME_KINDS, sizeof *shared->times_handed_over);
    INVARIANT(shared->times_handed_over != NULL);
    for (int kind = 0; kind < TIME_KINDS; kind++)
        histogram_total(&shared->times[kind], &shared->times_handed_over[kind]);
}

static void untell(void *context, struct pool_shared *shared)
{
    (void)context;
    shared->handed_over = (struct pool_counters){0};
    free(shared->times_handed_over);
    shared->times_handed_over = NULL;
}

void upgrade_load_untold(void)
{
    directory_each(untell, NULL);
}

static void leave_backend(struct worker *w, struct pool *p, struct backend *b)
{
    conn_abandon(w, &b->conn);
    session_replay_done(w, b);
    pool_forget_backend(w, p, b);
}

void upgrade_load_leave(struct worker *w, struct upgrade_load *load)
{
    for (size_t i = 0; i < load->pool_count; i++) {
        struct pool_shared *shared = load->pools[i]->shared;

        leave_waiters(load, load->pools[i]);
        shared->handed_over = pool_counters_sum(shared);
        tell_times(shared);
    }
    for (size_t i = 0; i < load->session_count; i++)
        leave_session(w, load->sessions[i]);
    for (size_t i = 0; i < load->backend_count; i++) {
        struct backend *b = load->backends[i];

        leave_backend(w, pool_of(actor_find(b->pool)), b);
    }
}
