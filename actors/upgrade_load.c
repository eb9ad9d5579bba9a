#include "actors/upgrade_load.h"

#include "actors/console.h"

#include <stdlib.h>

const char *upgrade_reason_text(enum upgrade_reason reason)
{
    static const char *const texts[] = {[UPGRADE_MOVES] = "moves",
#define X(name, text) [UPGRADE_LEFT_##name] = text,
                                        UPGRADE_REASONS(X)
#undef X
    };

    return reason < UPGRADE_REASON_COUNT ? texts[reason] : "?";
}

/* --- what can be held --- */

static void add_conn(struct upgrade_load *load, struct conn *c)
{
    if (conn_is_open(c) && (c->flags & CONN_CLOSING) == 0 &&
        atomic_load_explicit(&c->waiting, memory_order_relaxed) == 0)
        load->conns[load->conn_count++] = c;
}

void upgrade_load_conns(struct upgrade_load *load)
{
    size_t session_count = 0;
    size_t backend_count = 0;
    actor_id *sessions = actor_list(&session_type, &session_count);
    actor_id *backends = actor_list(&backend_type, &backend_count);

    *load = (struct upgrade_load){0};
    load->conns = calloc(session_count + backend_count + 1, sizeof *load->conns);
    INVARIANT(load->conns != NULL);
    for (size_t i = 0; i < session_count; i++)
        add_conn(load, &session_of(actor_find(sessions[i]))->conn);
    for (size_t i = 0; i < backend_count; i++)
        add_conn(load, &backend_find(backends[i])->conn);
    free(sessions);
    free(backends);
}

/* --- who moves --- */

struct mail {
    const struct conn *conns[2];
    bool other;
};

static void look_at_mail(void *context, struct message *m)
{
    struct mail *mail = context;

    if (m->kind < MESSAGE_RECV || m->kind > MESSAGE_READY ||
        (m->io.conn != mail->conns[0] && m->io.conn != mail->conns[1]))
        mail->other = true;
}

/* Does nothing wait for it but results of its connections, which go along? */
static bool only_io_waits(const struct actor *a, const struct conn *one, const struct conn *other)
{
    struct mail mail = {.conns = {one, other}};

    mailbox_each(&a->box, look_at_mail, &mail);
    return !mail.other;
}

static void look_for_any(void *context, struct message *m)
{
    (void)m;
    *(bool *)context = false;
}

static bool mailbox_empty_of(const struct actor *a)
{
    bool empty = true;

    mailbox_each(&a->box, look_for_any, &empty);
    return empty;
}

static void set_record(struct upgrade_load *load, const struct actor *a, size_t number)
{
    if (a->index >= load->record_size) {
        uint32_t size = MAX(load->record_size * 2, a->index + 1024);

        load->record_of = realloc(load->record_of, size * sizeof *load->record_of);
        INVARIANT(load->record_of != NULL);
        memset(load->record_of + load->record_size, 0,
               (size - load->record_size) * sizeof *load->record_of);
        load->record_size = size;
    }
    load->record_of[a->index] = (uint32_t)number;
}

/* A Close that is not answered keeps a name hidden, and a batch may be sent again: what that takes
 * is not in the schema, and it lasts for a moment only. */
static bool is_settled(struct ledger *l)
{
    for (uint32_t at = l->head; at != l->tail; at++) {
        if (l->ring[at & (l->size - 1)].kind == ASK_CLOSE)
            return false;
    }
    return true;
}

static enum upgrade_reason judge_bound(const struct worker *w, const struct session *s)
{
    struct backend *b = s->backend;

    if (b->cancels_sent != b->cancels_done)
        return UPGRADE_LEFT_CANCEL;
    if (b->replaying || !is_settled(&b->ledger))
        return UPGRADE_LEFT_BUSY;
    if (b->state != BACKEND_LEASED || b->broken || !only_io_waits(&b->actor, &b->conn, NULL))
        return UPGRADE_LEFT_BUSY;
    return conn_at_rest(w, &b->conn) ? UPGRADE_MOVES : UPGRADE_LEFT_SENDING;
}

static enum upgrade_reason judge_phase(const struct worker *w, const struct session *s)
{
    switch ((enum session_phase)s->phase) {
    case SESSION_START:
    case SESSION_IDLE: return UPGRADE_MOVES;
    case SESSION_ADMIN: /* portals last up to Sync only, and are not in the schema */
        return s->console != NULL && s->console->portals != NULL ? UPGRADE_LEFT_CONSOLE
                                                                 : UPGRADE_MOVES;
    case SESSION_WAITING: return s->flags & SESSION_ASKED ? UPGRADE_MOVES : UPGRADE_LEFT_BUSY;
    case SESSION_BOUND: return judge_bound(w, s);
    case SESSION_LOOKUP:
    case SESSION_AUTH:
    case SESSION_DERIVING:
    case SESSION_LOGIN: return UPGRADE_LEFT_LOGIN;
    case SESSION_DRAINING: return UPGRADE_LEFT_ABANDONED;
    case SESSION_RELEASING: return UPGRADE_LEFT_RELEASING;
    case SESSION_ADMIN_BUSY: return UPGRADE_LEFT_CONSOLE;
    case SESSION_CANCEL: return UPGRADE_LEFT_CANCEL;
    case SESSION_CLOSED:
    case SESSION_PHASE_COUNT: break;
    }
    return UPGRADE_LEFT_ENDING;
}

/* 3.10 takes no bytes along that were read or are to be written, no BEGIN that is owed, and its
 * pools of users that were looked up are not there yet. */
static enum upgrade_reason judge_resting(const struct session *s)
{
    switch ((enum session_phase)s->phase) {
    case SESSION_IDLE: break;
    case SESSION_START: return UPGRADE_LEFT_LOGIN;
    case SESSION_ADMIN: return UPGRADE_LEFT_STAYS;
    default: return UPGRADE_LEFT_TRANSACTION;
    }
    if (s->stays)
        return UPGRADE_LEFT_UNFIT;
    if (s->begin_owed)
        return UPGRADE_LEFT_TRANSACTION;
    if (atomic_load(&s->shared->origin) != ORIGIN_STATIC)
        return UPGRADE_LEFT_LOOKED_UP;
    if (s->conn.out != NULL)
        return UPGRADE_LEFT_SENDING;
    return s->in != NULL || s->body_left > 0 || s->skip_to_sync || !mailbox_empty_of(&s->actor)
               ? UPGRADE_LEFT_BUSY
               : UPGRADE_MOVES;
}

static enum upgrade_reason judge_session(const struct worker *w, const struct upgrade_load *load,
                                         const struct session *s)
{
    if (s->client != CLIENT_OPEN || s->actor.dying)
        return UPGRADE_LEFT_ENDING;
    /* What is underway tells more than that its mailbox is not empty. */
    if (s->phase == SESSION_BOUND && load->scope != UPGRADE_EVERYTHING)
        return UPGRADE_LEFT_TRANSACTION;
    enum upgrade_reason reason = judge_phase(w, s);
    if (reason == UPGRADE_MOVES && load->scope == UPGRADE_RESTING)
        reason = judge_resting(s);
    if (reason != UPGRADE_MOVES)
        return reason;
    const struct conn *backend = s->backend == NULL ? NULL : &s->backend->conn;
    if (!only_io_waits(&s->actor, &s->conn, backend))
        return UPGRADE_LEFT_BUSY;
    return conn_at_rest(w, &s->conn) ? UPGRADE_MOVES : UPGRADE_LEFT_SENDING;
}

static enum upgrade_reason judge_idle(const struct worker *w, const struct backend *b)
{
    switch ((enum backend_state)b->state) {
    case BACKEND_IDLE: break;
    case BACKEND_LOGIN: return UPGRADE_LEFT_BACKEND_LOGIN;
    case BACKEND_CLEANING:
    case BACKEND_CHECKING: return UPGRADE_LEFT_BACKEND_WORK;
    case BACKEND_LEASED:
    case BACKEND_CLOSING:
    case BACKEND_STATE_COUNT: return UPGRADE_LEFT_ENDING;
    }
    if (b->hangup || !only_io_waits(&b->actor, NULL, NULL))
        return UPGRADE_LEFT_ENDING;
    return conn_at_rest(w, &b->conn) ? UPGRADE_MOVES : UPGRADE_LEFT_BACKEND_WORK;
}

static void add_backend(struct upgrade_load *load, struct backend *b)
{
    load->backends[load->backend_count++] = b;
    set_record(load, &b->actor, load->backend_count);
}

/* A waiter's place is the pool's to give, so the pool must know it. */
static void find_waiters(struct upgrade_load *load, bool *known)
{
    for (size_t i = 0; i < load->pool_count; i++) {
        const struct pool *p = load->pools[i];

        for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
            const struct waiter *waiter = &p->waiters[at & (p->waiters_size - 1)];
            const struct actor *a = actor_find(waiter->session);

            if (a != NULL && !waiter->login && a->index < load->record_size)
                known[a->index] = true;
        }
    }
}

static void choose_sessions(struct worker *w, struct upgrade_load *load)
{
    size_t count = 0;
    actor_id *ids = actor_list(&session_type, &count);

    load->sessions = calloc(count + 1, sizeof *load->sessions);
    for (size_t i = 0; i < count; i++)
        set_record(load, actor_find(ids[i]), 0);
    bool *waits = calloc(load->record_size + 1, sizeof *waits);
    INVARIANT(load->sessions != NULL && waits != NULL);
    find_waiters(load, waits);
    for (size_t i = 0; i < count; i++) {
        struct session *s = session_of(actor_find(ids[i]));
        enum upgrade_reason reason = judge_session(w, load, s);

        if (reason == UPGRADE_MOVES && s->phase == SESSION_WAITING && !waits[s->actor.index])
            reason = UPGRADE_LEFT_BUSY;
        if (reason != UPGRADE_MOVES) {
            load->left[reason]++;
            load->sessions_left++;
            continue;
        }
        load->sessions[load->session_count++] = s;
        set_record(load, &s->actor, load->session_count);
        load->waiters += s->phase == SESSION_WAITING;
        load->in_transaction += s->phase == SESSION_BOUND;
        if (s->backend != NULL)
            add_backend(load, s->backend);
    }
    free(waits);
    free(ids);
}

static void choose_idle(struct worker *w, struct upgrade_load *load, struct pool *p)
{
    for (struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        if (b->actor.index < load->record_size && load->record_of[b->actor.index] != 0)
            continue; /* it goes with its session */
        enum upgrade_reason reason = judge_idle(w, b);
        if (reason == UPGRADE_MOVES && !p->removed && load->scope == UPGRADE_EVERYTHING) {
            add_backend(load, b);
            continue;
        }
        load->backends_left++;
        if (b->state != BACKEND_LEASED) /* its session was counted */
            load->left[reason]++;
    }
}

void upgrade_load_choose(struct worker *w, struct upgrade_load *load)
{
    size_t pool_count = 0;
    size_t backend_count = 0;
    actor_id *pools = actor_list(&pool_type, &pool_count);

    free(actor_list(&backend_type, &backend_count));
    load->pools = calloc(pool_count + 1, sizeof *load->pools);
    load->backends = calloc(backend_count + 1, sizeof *load->backends);
    INVARIANT(load->pools != NULL && load->backends != NULL);
    for (size_t i = 0; i < pool_count; i++) {
        struct pool *p = pool_of(actor_find(pools[i]));

        load->pools[load->pool_count++] = p;
        set_record(load, &p->actor, load->pool_count);
    }
    free(pools);
    choose_sessions(w, load);
    for (size_t i = 0; i < load->pool_count; i++)
        choose_idle(w, load, load->pools[i]);
    load->fds = calloc(load->session_count + load->backend_count + 1, sizeof *load->fds);
    INVARIANT(load->fds != NULL);
}

void upgrade_load_free(struct upgrade_load *load)
{
    free(load->sessions);
    free(load->backends);
    free(load->pools);
    free(load->statements);
    free(load->conns);
    free(load->fds);
    free(load->record_of);
    *load = (struct upgrade_load){0};
}
