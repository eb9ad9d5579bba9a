#define LOG_MODULE "pg_doorman::server"
#include "actors/backend.h"

#include "actors/auth_query_result.h"
#include "actors/backend_internal.h"
#include "actors/pool.h"
#include "proto/messages.h"
#include "runtime/log.h"
#include "runtime/world.h"

#include <inttypes.h>
#include <stdlib.h>

static _Atomic uint32_t next_number = 1;

const char *backend_state_name(uint8_t state)
{
    static const char *const names[] = {
#define X(s) [BACKEND_##s] = #s,
        BACKEND_STATES(X)
#undef X
    };

    return state < BACKEND_STATE_COUNT ? names[state] : "?";
}

/* Base plus or minus up to a fifth, so that backends of one age do not end together. */
static uint64_t jitter_us(struct worker *w, uint64_t base_ms)
{
    uint64_t fifth = base_ms * 1000 / 5;

    if (base_ms == 0)
        return 0;
    return MAX(base_ms * 1000 - fifth + (fifth > 0 ? random_u64(w) % (2 * fifth) : 0),
               (uint64_t)1000);
}

/* Shorter lives are not worth an early replacement. */
enum { REPLACE_LIFETIME_US = 60000000, AWAIT_END_US = 1000000 };

void backend_limit(struct worker *w, struct backend *b, const struct effective *effective)
{
    b->lifetime_us = jitter_us(w, effective->server_lifetime_ms);
    b->idle_limit_us = jitter_us(w, effective->idle_timeout_ms);
    b->replace_at_us = b->lifetime_us < REPLACE_LIFETIME_US
                           ? UINT64_MAX
                           : b->created_us + b->lifetime_us / 20 * 19;
}

void backend_numbers_begin(uint32_t next)
{
    if (atomic_load(&next_number) < next)
        atomic_store(&next_number, next);
}

uint32_t backend_numbers_next(void)
{
    return atomic_load(&next_number);
}

struct backend *backend_new(struct worker *w, struct pool_shared *shared, actor_id pool,
                            struct config *config, const struct effective *effective)
{
    struct backend *b = backend_of(actor_new(&backend_type, w->index));

    b->shared = shared;
    b->pool = pool;
    b->config = config_ref(config);
    b->effective = effective;
    b->created_us = w->now_us;
    backend_limit(w, b, effective);
    b->status = 'I';
    b->conn.fd = -1;
    packer_init(&b->parameters);
    return b;
}

struct backend *backend_open(struct worker *w, struct pool_shared *shared, actor_id pool,
                             struct config *config, const struct effective *effective)
{
    struct backend *b = backend_new(w, shared, pool, config, effective);

    b->number = atomic_fetch_add(&next_number, 1);
    if (effective->mode == POOL_MODE_TRANSACTION && effective->prepared_cache_size > 0)
        b->statements = statement_set_new(
            (uint32_t)MIN(effective->server_prepared_cache_size, (uint64_t)UINT32_MAX));
    return b;
}

static void backend_free(struct backend *b)
{
    INVARIANT(!conn_is_open(&b->conn));
    if (b->stash != NULL)
        rbuf_unref(worker_self(), b->stash);
    b->stash = NULL;
    ledger_free(&b->ledger);
    statement_set_free(b->statements);
    packer_free(&b->parameters);
    parameter_set_unref(b->applied);
    config_unref(b->config);
    actor_exit(&b->actor);
}

static void log_closed(struct worker *w, const struct backend *b, struct bytes reason)
{
    char age[32];
    char limit[32];

    log_info("[%s@%s] server closed pid=%d: %.*s, session=%s lifetime=%s", b->shared->user,
             b->shared->database, b->pid, (int)reason.len, (const char *)reason.at,
             format_duration(age, sizeof age, elapsed_us(w, b->created_us)),
             b->lifetime_us == 0 ? "unlimited"
                                 : format_duration(limit, sizeof limit, b->lifetime_us));
}

static void on_start(struct worker *w, struct backend *b)
{
    struct backend_error error = {.kind = FAILURE_CONNECT};

    if (backend_login(w, b, &error) == 0) {
        text_settings_begin(b);
        log_info("[%s@%s] new server connection #%u to %s:%u pid=%d", b->shared->user,
                 b->shared->database, b->number, b->effective->server_host,
                 b->effective->server_port, b->pid);
        watch_hangup(b->conn.fd, actor_id_of(&b->actor));
        actor_tell(w, b->pool, MESSAGE(POOL_READY, .backend = actor_id_of(&b->actor)));
        return;
    }
    log_error("[%s@%s] %s", b->shared->user, b->shared->database, error.text);
    conn_close_wait(w, &b->conn);
    wait_sleep(w, 10000); /* so that failures do not become a busy loop */
    /* The pool looks at this backend when the message arrives: it must still be alive then. */
    b->broken = true;
    actor_tell(w, b->pool,
               MESSAGE(POOL_FAILED, .backend = actor_id_of(&b->actor),
                       .sqlstate = bytes_of(error.sqlstate), .text = bytes_of(error.text),
                       .kind = (uint64_t)error.kind));
}

/* The server closes its end when its process has gone: till then it counts there. */
static void await_end(struct worker *w, struct backend *b)
{
    uint64_t deadline_us = clock_us() + AWAIT_END_US;
    struct rbuf *buf;

    while (conn_read(w, &b->conn, &buf, deadline_us) > 0)
        rbuf_unref(w, buf);
}

static void on_close(struct worker *w, struct backend *b, struct message *m)
{
    struct msg_BACKEND_CLOSE close = message_get_BACKEND_CLOSE(m);
    static const uint8_t terminate[] = {'X', 0, 0, 0, 4};

    log_closed(w, b, close.reason);
    if (conn_is_open(&b->conn)) {
        /* Tried once, without waiting: a courtesy. */
        bool polite = !b->broken && ledger_empty(&b->ledger);
        bool told = polite &&
                    io_send(b->conn.fd, terminate, sizeof terminate) == (ssize_t)sizeof terminate;
        if (polite && close.await) {
            /* It would wait for the rest of the message, and we for its end. */
            if (!told)
                io_shutdown(b->conn.fd, SHUT_WR);
            await_end(w, b);
        }
        conn_close_wait(w, &b->conn);
    }
    actor_tell(w, b->pool, MESSAGE(POOL_GONE, .backend = actor_id_of(&b->actor)));
}

/* A cancel request is over. */
static void on_cancelled(struct worker *w, struct backend *b, struct message *m)
{
    if (message_get_BACKEND_CANCELLED(m).outcome == CANCEL_UNSURE)
        b->cancel_unsure = true;
    b->cancels_done++;
    if (b->clean_waits && b->cancels_done == b->cancels_sent) {
        b->clean_waits = false;
        actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_CLEAN);
    }
}

static void on_work(struct worker *w, struct backend *b, bool clean)
{
    if (clean && b->cancels_done != b->cancels_sent) {
        b->clean_waits = true; /* one might strike the clean-up, or the next client */
        return;
    }
    if ((clean ? backend_clean(w, b) : backend_check(w, b)) == 0) {
        actor_tell(w, b->pool, MESSAGE(POOL_READY, .backend = actor_id_of(&b->actor)));
        return;
    }
    b->broken = true;
    log_closed(w, b, bytes_of(clean ? "cleanup failed" : "failed alive check"));
    conn_close_wait(w, &b->conn);
    actor_tell(w, b->pool, MESSAGE(POOL_GONE, .backend = actor_id_of(&b->actor)));
}

/* For auth_query. */
static void on_lookup(struct worker *w, struct backend *b, struct message *m)
{
    struct msg_BACKEND_LOOKUP want = message_get_BACKEND_LOOKUP(m);
    char *query = strndup((const char *)want.query.at, want.query.len);
    char *user = strndup((const char *)want.user.at, want.user.len);
    struct lookup_result result;

    INVARIANT(query != NULL && user != NULL);
    bool lost = backend_lookup(w, b, query, user, &result) != 0;
    bool failed = lost || result.problem.text[0] != '\0';
    enum lookup_outcome outcome = failed ? LOOKUP_FAILED : lookup_result_end(&result, user);
    const char *secret = outcome == LOOKUP_FOUND ? result.secret : "";

    if (outcome == LOOKUP_UNKNOWN && result.rows > 0)
        fail(&result.problem, "password is NULL or empty");
    actor_tell(w, b->pool,
               MESSAGE(LOOKUP_DONE, .backend = actor_id_of(&b->actor), .outcome = outcome,
                       .lost = lost, .type = result.parameters_type, .secret = bytes_of(secret),
                       .parameters = {(const uint8_t *)result.parameters, result.parameters_len},
                       .problem = bytes_of(result.problem.text)));
    lookup_result_free(&result);
    free(query);
    free(user);
    if (!lost)
        return;
    b->broken = true;
    log_closed(w, b, bytes_of("lookup failed"));
    conn_close_wait(w, &b->conn);
    actor_tell(w, b->pool, MESSAGE(POOL_GONE, .backend = actor_id_of(&b->actor)));
}

static void backend_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct backend *b = backend_of(self);

    switch (m->kind) {
    case MESSAGE_START: on_start(w, b); break;
    case MSG_BACKEND_CLEAN: on_work(w, b, true); break;
    case MSG_BACKEND_CHECK: on_work(w, b, false); break;
    case MSG_BACKEND_CLOSE: on_close(w, b, m); break;
    case MSG_BACKEND_LOOKUP: on_lookup(w, b, m); break;
    case MSG_BACKEND_HANGUP:
        actor_tell(w, b->pool, MESSAGE(BACKEND_HANGUP, .backend = actor_id_of(self)));
        break;
    case MSG_BACKEND_CANCELLED: on_cancelled(w, b, m); break;
    case MSG_BACKEND_RELEASED: backend_free(b); break;
    case MESSAGE_SENT: break; /* an error: the next use finds out */
    default: INVARIANT(!"a backend does not understand this kind of message");
    }
}

static bool backend_blocks(const struct actor *self, const struct message *m)
{
    (void)self;
    return m->kind == MESSAGE_START || m->kind == MSG_BACKEND_CLEAN ||
           m->kind == MSG_BACKEND_CHECK || m->kind == MSG_BACKEND_CLOSE ||
           m->kind == MSG_BACKEND_LOOKUP;
}

static uint32_t backend_pack(const struct actor *a, struct packer *out)
{
    const struct backend *b = CONTAINER_OF(a, struct backend, actor);

    pack_str(out, "database");
    pack_str(out, b->shared->database);
    pack_str(out, "user");
    pack_str(out, b->shared->user);
    pack_str(out, "pid");
    pack_int(out, b->pid);
    pack_str(out, "fd");
    pack_int(out, b->conn.fd);
    pack_str(out, "transaction_status");
    pack_str_len(out, &b->status, 1);
    pack_str(out, "requests_owed");
    pack_uint(out, ledger_count(&b->ledger));
    pack_str(out, "dirt");
    pack_uint(out, b->dirt);
    pack_str(out, "created_us");
    pack_uint(out, b->created_us);
    pack_str(out, "lifetime_us");
    pack_uint(out, b->lifetime_us);
    pack_str(out, "idle_limit_us");
    pack_uint(out, b->idle_limit_us);
    pack_str(out, "uses");
    pack_uint(out, b->uses);
    pack_str(out, "statements");
    pack_uint(out, b->statements == NULL ? 0 : statement_set_count(b->statements));
    pack_str(out, "epoch");
    pack_uint(out, b->epoch);
    return 13;
}

static const char *backend_state(const struct actor *a)
{
    return backend_state_name(CONTAINER_OF(a, struct backend, actor)->state);
}

const struct actor_type backend_type = {
    .name = "backend",
    .size = sizeof(struct backend),
    .rank = RANK_BACKEND,
    .number = 2,
    .receive = backend_receive,
    .blocks = backend_blocks,
    .pack = backend_pack,
    .state_name = backend_state,
    .kind_name = message_kind_name,
};
