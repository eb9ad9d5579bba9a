/* session.h: one client.
 *
 * A session never holds a stack: each wait is a phase, and each handler runs to completion. Between
 * messages it is this struct, one armed receive, and nothing else. While it has a backend it reads
 * and writes it directly (the lease, actors/backend.h).
 *
 * Phases:
 *   START     the first packet (SSLRequest, CancelRequest, StartupMessage)
 *   AUTH      a password or SASL message
 *   LOOKUP    auth_query, for who that user is
 *   DERIVING  a helper thread makes keys of a password
 *   LOGIN     the pool, for the server's parameters
 *   IDLE      a client message; holds no backend
 *   WAITING   the pool's queue
 *   BOUND     client or server: holds a backend
 *   DRAINING  the client has gone, the backend still owes replies
 *   RELEASING the backend's descriptor, or its last send, to come to rest
 *   ADMIN     a client message on the console;  ADMIN_BUSY: the answer
 *   CANCEL    the cancel request it has passed on
 *   CLOSED    nothing more but operations in flight
 *
 * Apart from that, the client's side ends by itself (enum client_end): it is told why, its socket
 * is half closed, and it has a second to read that and close.
 */
#ifndef ACTORS_SESSION_H
#define ACTORS_SESSION_H

#include "actors/backend.h"
#include "actors/parameters.h"
#include "auth/hba.h"
#include "proto/messages.h"

#define SESSION_PHASES(X) \
    X(START)              \
    X(LOOKUP)             \
    X(AUTH)               \
    X(DERIVING)           \
    X(LOGIN)              \
    X(IDLE) X(WAITING) X(BOUND) X(DRAINING) X(RELEASING) X(ADMIN) X(ADMIN_BUSY) X(CANCEL) X(CLOSED)
enum session_phase {
#define X(p) SESSION_##p,
    SESSION_PHASES(X)
#undef X
        SESSION_PHASE_COUNT
};

enum client_end { CLIENT_OPEN, CLIENT_TOLD, CLIENT_LINGERS, CLIENT_CLOSED };

enum session_flag {
    SESSION_REMAP = 1,           /* statements are shared under the pooler's names */
    SESSION_LOCAL = 2,           /* Unix socket */
    SESSION_FATAL_SEEN = 4,      /* the server said why it ends the connection */
    SESSION_COPY_IN = 8,         /* the server asked for CopyData and has not had its end */
    SESSION_SKIP_TO_SYNC = 16,   /* the server ignores everything up to Sync */
    SESSION_FLUSHED = 32,        /* Flush since the last ReadyForQuery */
    SESSION_SERVER_PAUSED = 64,  /* the client reads too slowly: nothing is read from the server */
    SESSION_CLIENT_PAUSED = 128, /* the server takes too little: nothing is read from the client */
    SESSION_DISCARD = 256,       /* the rest of a client message that nobody wants is skipped */
    SESSION_COUNTED = 512,       /* in app.clients */
    SESSION_LOGGED_IN = 1024,
    SESSION_ASYNC = 2048,       /* has ever sent Flush */
    SESSION_DRAIN = 4096,       /* to be ended at the next message boundary */
    SESSION_BAD_BACKEND = 8192, /* an error under Flush: not to be reused after the next Sync */
    SESSION_BATCH = 32768,      /* a batch is complete in the input, or large enough to begin */
    SESSION_ASKED = 16384,      /* a request to the pool is open */
};

enum { SESSION_KEY = 32 }; /* bytes of a long cancel key */

enum auth_step { AUTH_MD5, AUTH_CLEAR, AUTH_SCRAM_FIRST, AUTH_SCRAM_FINAL };

/* What only a login needs; freed when it is over. */
struct session_login {
    struct login_entry entry;
    struct config *config; /* referenced */
    struct sockaddr_storage peer;
    enum auth_step step;
    uint8_t declined; /* requests for encryption */
    bool admin;
    bool mock;                      /* there is no such user; the client need not know */
    bool again;                     /* the user was looked up anew after a wrong password */
    struct auth_query_state *found; /* the user was looked up; NULL: it is configured */
    uint32_t lookup;                /* number of the open one */
    char response[MD5_TEXT + 1];    /* what the client answered to the MD5 challenge */
    uint8_t salt[4];
    char md5[MD5_TEXT + 1]; /* stored form to check against */
    struct scram_server scram;
    uint32_t version;
    struct parameter parameters[64]; /* of the StartupMessage; into text */
    int parameter_count;
    uint8_t *text;
    size_t text_len;
};

struct session {
    struct actor actor;
    struct conn conn;
    uint8_t phase;
    uint8_t mode;           /* enum pool_mode */
    uint8_t client;         /* enum client_end */
    bool begin_owed;        /* a BEGIN was answered that no server has seen yet */
    bool cancel_due : 1;    /* with a backend: when the pooler's own request is answered */
    bool cancel_wanted : 1; /* phase WAITING: what it waits with is cancelled */
    bool terminated : 1;    /* it said goodbye: what it sent before is meant to be done */
    bool syncing : 1;       /* the backend is being given the client's settings */
    bool sync_alone : 1;    /* and nothing else until it has taken them */
    bool sync_failed : 1;
    bool sync_struck : 1;     /* by a cancel request that came late: to be done again */
    bool batch_synced : 1;    /* SESSION_BATCH: its end is a Sync */
    bool replayed : 1;        /* the batch was put back once (session_heal.c) */
    bool skip_parameters : 1; /* it has had the next ParameterDescription already */
    bool skip_to_sync : 1;    /* phase IDLE: the rest of a batch that was cancelled is dropped */
    bool admitted : 1;        /* counted in shared->clients */
    bool copy_synced : 1;     /* a Sync during this COPY (session_copy.c, as those that follow) */
    bool copy_asked : 1;      /* has it failed, and which Syncs are answered? */
    bool copy_due : 1;        /* that is to be asked behind the message that is passing */
    bool copy_held : 1;       /* a ReadyForQuery is kept back, the client's or not */
    bool leaves_bare : 1;     /* and without anything that it has sent */
    bool rests : 1;           /* for that: nothing is read from it */
    bool stays : 1;           /* but it cannot be described as such: it is served on here */
    bool leaves : 1;          /* SESSION_DRAIN: not to be ended, but to go to another process */
    bool copy_skips : 1;      /* if it is not, the client is to send a Sync before all else */
    bool migrated : 1;        /* it comes from PgDoorman 3.10 */
    uint8_t key_more;         /* bytes of the cancel key behind the names, after `secret` */
    uint16_t flags;
    uint32_t secret; /* the first bytes of the cancel key */
    union {
        uint32_t drained_bytes; /* phase DRAINING: read for nobody */
        uint32_t client_mark;   /* else: of what the client had taken (session_limits.c) */
    };
    uint64_t number; /* "#c<number>"; its low half is the cancel key's pid */

    struct rbuf *in; /* client bytes that wait: [in_at, in_end) */
    uint32_t in_at;
    uint32_t in_end;
    uint32_t in_scanned; /* of them, looked at without finding the end of the batch */
    uint32_t in_held;    /* of them, counted in app.input_held */
    uint64_t body_left;  /* of the client message that is passing */

    struct pool_shared *shared;
    struct parameter_set *wanted; /* settings of its own; referenced */
    struct backend *backend;
    uint32_t ticket;      /* of the open request to the pool */
    uint32_t server_mark; /* of what the server had taken */
    uint64_t asked_us;
    uint64_t leased_us;
    uint64_t query_us; /* when the running query was read */
    uint32_t lease_batches;
    uint32_t alarm;      /* token: alarms of earlier waits are stale */
    uint64_t watched_us; /* the earliest alarm about bytes that nobody takes; 0: none */
    union {
        uint64_t server_held_us; /* since when SESSION_SERVER_PAUSED */
        struct console *console; /* without a pool: its prepared commands, or NULL */
    };
    uint64_t client_held_us; /* since when SESSION_CLIENT_PAUSED */

    struct session_login *login;
    struct packer *capture; /* the reply of the check query, as it passes; else NULL */
    char *name;             /* "user\0database\0application\0addr\0", key_more: one block */
    uint16_t database_at;
    uint16_t application_at;
    uint16_t address_at;
    bool trim_armed; /* TRIM_ALARM */
    struct statement_map statements;
    struct statement *unnamed;
    struct statement_set *anonymous; /* texts without a name, from the second one on */
    uint32_t anonymous_evictions;

    uint64_t connected_us;
    uint64_t transactions;
    uint64_t queries;
    uint64_t errors;
    uint64_t wait_max_us;
};

/* How much may wait on its way to one side before nothing more is read from the other. */
enum {
    OUTPUT_HIGH = 64 << 10,
    BATCH_HIGH = 64 << 10,  /* of a batch without its Sync, before it is begun */
    INPUT_FREE = 64 << 10,  /* of client messages, not counted against max_memory_usage */
    BATCHES_PER_LEASE = 64, /* pipelined on one lease before others get their turn */
    DRAIN_BYTES = 16 << 20, /* of replies for a client that has gone */
    LEDGER_HIGH = 4096,     /* requests without a reply */
};
/* Tokens of alarms that no wait takes. */
enum { WATCH_ALARM = 0 };
#define ABANDONED_ALARM UINT64_MAX
#define TRIM_ALARM      (UINT64_MAX - 1)
#define LIMIT_ALARM     (UINT64_C(1) << 63) /* and in the low half, of which limits */

static inline struct session *session_of(struct actor *a)
{
    return CONTAINER_OF(a, struct session, actor);
}
static inline const char *session_user(const struct session *s)
{
    return s->name == NULL ? "" : s->name;
}
static inline const char *session_database(const struct session *s)
{
    return s->name == NULL ? "" : s->name + s->database_at;
}
static inline const char *session_application(const struct session *s)
{
    return s->name == NULL ? "" : s->name + s->application_at;
}
static inline const char *session_address(const struct session *s)
{
    return s->name == NULL ? "" : s->name + s->address_at;
}
/* What a cancel request must bring: 4 bytes, or SESSION_KEY of them from protocol 3.2 on. Returns
 * how many were put into `key`. */
static inline size_t session_key(const struct session *s, uint8_t key[SESSION_KEY])
{
    const char *address = session_address(s);

    memcpy(key, &s->secret, sizeof s->secret);
    memcpy(key + sizeof s->secret, address + strlen(address) + 1, s->key_more);
    return sizeof s->secret + s->key_more;
}
static inline uint8_t *session_input(const struct session *s)
{
    return s->in->data + s->in_at;
}
static inline uint32_t session_input_len(const struct session *s)
{
    return s->in == NULL ? 0 : s->in_end - s->in_at;
}

/* A session for an accepted socket; it begins by itself. */
void session_open(struct worker *w, int fd, const struct sockaddr_storage *peer, uint16_t home);
const char *session_phase_name(uint8_t phase);
/* idle, active or waiting, as SHOW CLIENTS tells it. */
const char *session_state_word(const struct session *s);

/* --- between the files of the session --- */
void session_go(struct session *s, enum session_phase to);
/* Takes `len` bytes off the input. */
void session_consume(struct worker *w, struct session *s, uint32_t len);

/* session_migrated.c: one from PgDoorman 3.10, on its home worker. Takes over the descriptor, and
 * `state`, from malloc(), which migration_read() understands. */
void session_open_migrated(struct worker *w, int fd, bool local, uint8_t *state, size_t len);
void session_migrated_begin(struct worker *w, struct session *s);
/* A client without TLS, as PgDoorman 3.10 has it, begins with a TLS record: it has TLS. */
static inline bool session_speaks_tls(const struct session *s, uint8_t first)
{
    return s->migrated && s->queries == 0 && s->transactions == 0 &&
           (first == 0x15 || first == 0x17); /* alert, application data */
}
/* session_startup.c */
void session_on_startup_input(struct worker *w, struct session *s);
void session_on_derived(struct worker *w, struct session *s, struct message *m);
void session_on_parameters(struct worker *w, struct session *s, struct message *m);
void session_login_free(struct session *s);
void session_on_lookup(struct worker *w, struct session *s, struct message *m);
/* session_auth.c: from which the salts of users who do not exist are made. Set before logins. */
void session_mock_secret_get(uint8_t out[SCRAM_KEY]);
void session_mock_secret_set(const uint8_t secret[SCRAM_KEY]);
/* session_input.c: client -> server */
void session_on_client_input(struct worker *w, struct session *s);
/* The first message of the input, whole or not, is dropped. */
void session_discard(struct worker *w, struct session *s, const struct frame *f);
/* Nothing more goes to the backend until it has answered. */
bool session_must_pause(const struct session *s);
/* session_local.c */
/* CommandComplete and ReadyForQuery of the pooler's own. */
void session_answer(struct worker *w, struct session *s, const char *tag, char status);
/* Phase IDLE, the first message of the input: true when it was answered, and consumed. */
bool session_answer_locally(struct worker *w, struct session *s, const struct frame *f);
/* Right after a backend was bound: the BEGIN that is owed goes first. */
void session_send_begin(struct worker *w, struct session *s);
/* Bytes of the check query's reply; and its end: good is kept for the next ones. */
void session_capture(struct session *s, const uint8_t *at, size_t len);
void session_capture_end(struct session *s, bool good);
/* session_statements.c: whole messages in phase BOUND, of a session that remaps */
void session_forward_parse(struct worker *w, struct session *s, const struct frame *f);
void session_forward_bind(struct worker *w, struct session *s, const struct frame *f);
void session_forward_describe(struct worker *w, struct session *s, const struct frame *f);
void session_forward_close(struct worker *w, struct session *s, const struct frame *f);
#define SESSION_FREED_NAME "DOORMAN_deallocated"
/* Prepares a statement of this name, for a DEALLOCATE that stands for one of the client's. */
void session_put_up_freed(struct worker *w, struct session *s);
/* What the backend holds over its bound is closed. Only while it owes nothing: behind something
 * that may fail, the server would skip this. */
void session_close_excess(struct worker *w, struct session *s);
/* Ahead of a Sync: what the pooler has to put right on the backend by then. */
void session_before_sync(struct worker *w, struct session *s);
/* The error of a FOR_MISSING request, as PostgreSQL would put it; borrowed until the next call on
 * this thread. */
const char *session_missing_text(const struct ledger_entry *entry, const char **sqlstate);
/* Do these whole messages of the input, of a batch without its end yet, ask for a statement that
 * the client does not have? */
bool session_will_fail(const struct session *s, uint32_t from, uint32_t to);
/* session_names.c: the client's names; "" is the unnamed statement. Statements are borrowed. */
struct statement *session_statement(const struct session *s, struct bytes name);
/* Holds a backend, whose settings count. NULL: refused, and why. */
struct statement *session_remember(struct worker *w, struct session *s, struct bytes name,
                                   struct bytes tail, const char **refused);
/* What takes the place of a retired one. */
struct statement *session_renew(struct worker *w, struct session *s, struct bytes name,
                                struct statement *retired);
/* The same text under the backend's settings: a reference for the caller, or NULL. In place of one
 * that came without settings it is what the name stands for. */
struct statement *session_variant(struct session *s, struct bytes name,
                                  const struct statement *statement);
void session_forget(struct session *s, struct bytes name);
void session_forget_all(struct session *s);
/* Close: the name is hidden until the entry, the last one of the ledger, is answered or not. */
void session_hide(struct session *s, struct bytes name, struct ledger *l);
void session_settle_name(struct session *s, const struct ledger_entry *entry, bool gone);
void session_trim_statements(struct worker *w, struct session *s); /* on TRIM_ALARM */
void session_statements_free(struct session *s);
/* session_copy.c */
/* The last entry of the ledger may be a COPY. */
void session_copy_expected(struct ledger *l);
/* While it is not known whether it is one, or whether it has failed: may the message at the head of
 * the input go out? */
bool session_copy_takes(const struct session *s);
/* CopyInResponse has come; the end of the data is sent; CommandComplete has come. */
void session_copy_begins(struct worker *w, struct session *s);
void session_copy_ends(struct session *s);
void session_copy_done(struct session *s);
/* The message at the head of the input is none that a COPY takes: unless that has failed, it is its
 * end. */
void session_copy_ask(struct worker *w, struct session *s);
/* An error, not a fatal one, with the COPY at the head of the ledger. */
void session_copy_failed(struct worker *w, struct session *s);
/* A message of the client has gone out to its end. */
void session_copy_passed(struct worker *w, struct session *s);
/* The error of what the pooler asked, as it would be of the client's message; `len` bytes. */
void session_copy_translate(const struct session *s, uint8_t *error, uint32_t len);
/* A ReadyForQuery, or the CloseComplete, to what was asked. False: it is the client's. */
bool session_copy_ready(struct worker *w, struct session *s);
bool session_copy_known(struct session *s);
/* session_heal.c */
/* The client will see the answer to this request, the last one of the ledger. */
void session_visible(struct session *s, struct ledger_entry *entry);
/* The same, and it is the message at the head of the input. */
void session_replayable(struct session *s, struct ledger_entry *entry);
void session_replay_done(struct worker *w, struct backend *b);
/* An error may mean that the backend does not hold what it should. True: the client need not know,
 * and its batch will be sent again. */
bool session_heal(struct worker *w, struct session *s, struct ledger_entry *head,
                  const struct error_fields *fields);
void session_replay(struct worker *w, struct session *s);
/* session_deallocate.c: DEALLOCATED: answered, and consumed; LATER: when all is answered that was
 * asked before. */
enum deallocated { DEALLOCATED_NOT, DEALLOCATED, DEALLOCATED_LATER };
enum deallocated session_deallocate(struct worker *w, struct session *s, const struct frame *f);
/* Is it one, of a client whose names are the pooler's? */
bool session_is_deallocate(const struct session *s, const struct frame *f);
/* Passes what is there of the message at the head of the input, behind `skip` bytes of it; the rest
 * follows as it comes. */
void session_pass(struct worker *w, struct session *s, const struct frame *f, uint32_t skip);
/* session_state.c: what requests leave behind on the backend. Behind the request's ledger_push: */
void session_state_query(struct worker *w, struct session *s,
                         const struct frame *f); /* or FunctionCall */
void session_state_parse(struct worker *w, struct session *s,
                         const struct frame *f); /* not remapped */
void session_state_bind(struct worker *w, struct session *s, const struct statement *statement,
                        bool named);
/* As the replies come: the request is answered, has failed, has come this far; ReadyForQuery. */
void session_state_answered(struct backend *b, const struct ledger_entry *entry);
void session_state_failed(struct backend *b, struct ledger_entry *head);
void session_state_tag(struct backend *b, struct ledger_entry *head, struct bytes tag);
void session_state_ready(struct backend *b);
/* session_sequences.c */
/* At the begin of a lease, before its first request: what other clients' use of sequences left on
 * the backend is discarded. */
void session_sequences_begin(struct worker *w, struct session *s);
/* The last entry of the ledger, whose bytes are still to be sent, reads such state: the same in
 * front of it, if that takes nothing from the client itself. */
void session_sequences_read(struct worker *w, struct session *s);
/* session_parameters.c */
/* At the end of the login: what the StartupMessage asks for, as far as it is followed. */
void session_parameters_asked(struct session *s, const struct pool_config *pool);
/* Right after a backend was bound that does not have what the client wants. */
void session_sync(struct worker *w, struct session *s);
void session_sync_refused(struct worker *w, struct session *s, struct bytes sqlstate,
                          struct bytes text);
void session_sync_ended(struct worker *w, struct session *s);
/* A ParameterStatus has come and is about to be noted; the lease ends. */
void session_parameter_changes(struct backend *b);
void session_parameters_released(struct worker *w, struct session *s);
/* The client has RESET all in a lease that goes on: between transactions it gets its own back. */
void session_parameters_restored(struct worker *w, struct session *s);
/* The login reply's ParameterStatus: the server's, packed in pairs, and the client's own. */
void session_parameters_write(const struct session *s, struct bytes packed, struct writer *out);
/* session_output.c: server -> client */
void session_on_server_bytes(struct worker *w, struct session *s, struct rbuf *buf, uint32_t len);
/* A large message of the server is over, or will never be. */
void session_stream_ends(struct worker *w, struct session *s);
/* Sends the pooler's own replies that are next. */
void session_emit_local(struct worker *w, struct session *s);
/* session_lease.c */
void session_checkout(struct worker *w, struct session *s);
void session_on_lease(struct worker *w, struct session *s, struct message *m);
void session_on_withdrawn(struct worker *w, struct session *s);
void session_on_refused(struct worker *w, struct session *s, struct message *m);
/* The backend owes nothing and may go back: gives it back, or waits until its socket is quiet. */
void session_release(struct worker *w, struct session *s);
/* Is the backend synced, and between two transactions? */
bool session_rests(const struct session *s);
/* The same in transaction mode, where the session then lets go of it. */
bool session_may_release(const struct session *s);
/* Without a Sync the server may keep its replies to itself. */
void session_ask_for_replies(struct worker *w, struct backend *b);
/* The client is gone, or told off: whatever becomes of the backend. */
void session_abandon(struct worker *w, struct session *s);
void session_backend_lost(struct worker *w, struct session *s);
void session_close_backend(struct worker *w, struct session *s);
void session_give_back(struct worker *w, struct session *s, enum lease_end how);
/* Phase DRAINING: done? */
void session_drain_step(struct worker *w, struct session *s);
/* session_wait.c */
/* Phase WAITING: the client cancels what it waits with. */
void session_cancel_wait(struct worker *w, struct session *s);
/* Phase WAITING, and a lease is not wanted any more. */
bool session_wait_is_off(const struct session *s);
/* The same, once the pool has no request of it: the client is answered, and goes on. Also in phase
 * RELEASING, for a batch that was put back and is to be cancelled. */
void session_end_wait(struct worker *w, struct session *s);
/* Drops a message of a batch that was cancelled. False: more has to come, or the session ends. */
bool session_skip(struct worker *w, struct session *s);
/* session_end.c */
/* Tells the client and ends. with_ready: ReadyForQuery behind it, as the suite expects. */
void session_fatal(struct worker *w, struct session *s, const char *sqlstate, const char *text,
                   bool with_ready);
void session_login_overdue(struct worker *w, struct session *s);
/* The client knows why (the server's own words): ends. */
void session_told(struct worker *w, struct session *s, const char *reason);
/* Its messages have no place in memory. */
void session_out_of_memory(struct worker *w, struct session *s);
/* Ends without a word. */
void session_close(struct worker *w, struct session *s, const char *reason);
void session_maybe_exit(struct worker *w, struct session *s);
void session_on_admin_result(struct worker *w, struct session *s, struct message *m);
/* session_limits.c */
void session_on_alarm(struct worker *w, struct session *s, struct message *m);
/* Phase DRAINING: what still runs is cancelled soon. */
void session_watch_abandoned(struct worker *w, struct session *s);
/* From the login on: the limits of the configuration on silence and on queries. */
void session_watch_limits(struct worker *w, struct session *s);
/* After a reload, when `now` is in force: all sessions look at its limits if they are different. */
void sessions_follow_limits(struct worker *w, const struct config *before,
                            const struct config *now);
/* Replies still go to the client? */
static inline bool session_client_listens(const struct session *s)
{
    return s->client == CLIENT_OPEN;
}
/* It is answered without a backend and does not read the answers. */
static inline bool session_answers_wait(const struct session *s)
{
    return s->phase == SESSION_IDLE && s->conn.out_bytes > OUTPUT_HIGH;
}
/* It has logged in, or is no longer here. */
static inline void session_in_pool(struct session *s, int by)
{
    if (s->shared != NULL)
        atomic_fetch_add_explicit(&s->shared->logged_in, (uint32_t)by, memory_order_relaxed);
}
/* The process drains: at a message boundary the client is told and let go. */
void session_drain(struct worker *w, struct session *s);
enum session_leaving {
    LEAVING_NOT,  /* it stays after all */
    LEAVING,      /* it begins no further transaction: another process does that for it */
    LEAVING_BARE, /* PgDoorman 3.10, that is, which does not get what has been read from it */
    LEAVING_ENDS, /* there is no more time */
};
void session_on_leave(struct worker *w, struct session *s, struct message *m);
/* With SESSION_DRAIN, at such a boundary: true when it was told why it ends, or is to be handed
 * over and waits for that. */
bool session_drained(struct worker *w, struct session *s);
/* Tells it that the configuration has no pool for it, and ends it. */
void session_pool_gone(struct worker *w, struct session *s, bool with_ready);
/* One side takes nothing, as the flags tell: unless that changes in time, the session ends. */
void session_watch_progress(struct worker *w, struct session *s);
void session_on_cancel(struct worker *w, struct session *s, struct message *m);
/* Cancels what runs on the session's backend; the requester (0: nobody) is told. */
void session_cancel_backend(struct worker *w, struct session *s, actor_id requester);
/* What was put off: once something of the client runs. */
void session_cancel_due(struct worker *w, struct session *s);
void session_request_cancel(struct worker *w, struct session *s, uint32_t pid, struct bytes secret);

#define SESSION_LOG(s) "[%s@%s #c%llu] "
#define SESSION_ID(s)  session_user(s), session_database(s), (unsigned long long)(s)->number

#endif
