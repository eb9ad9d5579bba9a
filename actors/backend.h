/* backend.h: one connection to PostgreSQL.
 *
 * While it connects, is cleaned, checked or closed, it is an actor of its own. Between, its pool
 * has it idle, or has leased it to a session: then the session alone touches the fields under
 * "transport". The pool alone touches those under "pool". The rest is written at login and read by
 * whoever holds it.
 */
#ifndef ACTORS_BACKEND_H
#define ACTORS_BACKEND_H

#include "actors/app.h"
#include "actors/ledger.h"
#include "actors/parameters.h"
#include "actors/statement.h"

enum { TEXT_SETTINGS = 10 };

/* As the pool sees it. */
#define BACKEND_STATES(X) X(LOGIN) X(IDLE) X(LEASED) X(CLEANING) X(CHECKING) X(CLOSING)
enum backend_state {
#define X(s) BACKEND_##s,
    BACKEND_STATES(X)
#undef X
        BACKEND_STATE_COUNT
};

/* What a lease left behind; each has its remedy (backend_clean.c). */
enum backend_dirt {
    DIRT_STATE = SCAN_KINDS, /* bits of enum scan_kind */
    DIRT_LAZY = SCAN_TEMP,   /* of them, what the same client may go on using in its next lease */
    DIRT_ROLLBACK = 256,     /* an open or implicit transaction */
    DIRT_SYNC = 512,         /* it skips everything up to a Sync */
    DIRT_CANCEL = 1024,      /* a cancel request was sent, and may strike late */
    DIRT_VERIFY = 2048,      /* PostgreSQL is to be asked what is there (backend_verify.c) */
    DIRT_RESET = 4096,       /* server_reset_query is to be run */
    UNDONE_ALL = 1 << 14,    /* in `undone`: all settings */
};

struct backend {
    struct actor actor;
    struct conn conn;
    struct pool_shared *shared;
    actor_id pool;
    uint32_t number; /* unique, for SHOW */
    int32_t pid;
    uint8_t key[32];
    uint8_t key_len;
    bool tls;
    struct sockaddr_storage address; /* for cancel requests */
    socklen_t address_len;
    uint64_t created_us;
    uint64_t lifetime_us; /* with jitter; 0: none */
    uint64_t idle_limit_us;
    struct config *config; /* that it was opened with; referenced */
    const struct effective *effective;
    uint64_t text_base[TEXT_SETTINGS]; /* hashes of its own values; 0: not reported */
    struct packer parameters;          /* pairs as PostgreSQL reported them, packed */

    /* transport: the holder's */
    struct ledger ledger;
    struct statement_set *statements; /* NULL: not remapped */
    uint64_t digest[2];               /* of settings that texts depend on; [1]: and of encoding */
    uint64_t digest_client;           /* whose wishes are in it */
    struct rbuf *replay; /* the batch from its first request on, until it is answered */
    uint32_t replay_at;
    uint32_t replay_end;
    const struct statement *skipped; /* the last one of the batch that was not parsed again */
    uint64_t trouble_us;             /* when it last lacked a statement; 0: never */
    uint8_t traits;                  /* of what the batch has bound */
    bool visible;                    /* the client awaits the server's answer to something */
    bool replaying;                  /* the answers to a batch are swallowed */
    bool unnamed_used;               /* the unnamed statement is the pooler's */
    actor_id unnamed_owner;          /* not remapped: the session that parsed it last; 0: nobody */
    bool schema_changed;             /* by its transaction */
    struct rbuf *stash;              /* a server message that has not come whole */
    uint32_t stash_len;
    uint64_t body_left; /* of the server message that is passing */
    bool body_swallowed;
    uint8_t streaming;   /* enum stream_kind and one, of a large one; 0: none */
    uint32_t stream_len; /* of all of it */
    char status;         /* of the last ReadyForQuery */
    bool needs_sync;     /* extended messages were sent since the last ReadyForQuery */
    bool copy_in;
    bool may_copy; /* what is executed may be a COPY: one was parsed or bound */
    bool broken;
    uint16_t dirt;                 /* enum backend_dirt */
    uint16_t undone;               /* of it, what is gone if the transaction ends well */
    uint16_t lasting;              /* kinds that prepared statements may leave at any time */
    uint32_t setting;              /* the one that was SET, as scan_effect has it */
    struct parameter_set *applied; /* settings of the last client that it was given; referenced */
    bool applied_stale;            /* they have changed since */
    bool applied_touched;          /* in this lease something was RESET */
    bool all_reset;                /* in this lease all was */
    bool reported;                 /* in this lease a ParameterStatus came; before it: */
    uint32_t tracked_before[PARAMETERS_TRACKED]; /* hashes of the values */
    uint32_t cancels_sent;                       /* requests to cancel what runs, in this lease */
    actor_id temp_owner;                         /* the session that may find DIRT_LAZY; 0: none */
    actor_id sequences_of;                       /* the last client; 0: none yet */
    bool sequences_foreign; /* its sequences may tell of others than that one */

    /* the actor's own */
    uint32_t cancels_done; /* of cancels_sent, those that the server has acted on */
    bool cancel_unsure;    /* of one of them it is not known: it may strike at any time */
    bool clean_waits;      /* to be cleaned when all cancel requests are done */

    /* pool */
    struct backend *pool_next;
    struct backend *pool_previous;
    uint8_t state;    /* enum backend_state */
    bool hangup;      /* the server has closed it */
    bool replacement; /* opened in place of one near its end */
    bool replaced;    /* another was opened in its place */
    bool extra;       /* inherited in use: not counted against pool_size until it comes back */
    uint8_t evicted;  /* enum eviction */
    uint32_t epoch;
    uint64_t idle_since_us;
    uint64_t leased_since_us;
    uint64_t uses;
    uint64_t replace_at_us; /* from then on another may be opened in its place */

    /* statistics: the holder's */
    uint64_t transactions;
    uint64_t queries;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t prepared_hits;
    uint64_t prepared_misses;
    char application_name[64];
};

const char *backend_state_name(uint8_t state);
static inline struct backend *backend_of(struct actor *a)
{
    return CONTAINER_OF(a, struct backend, actor);
}
static inline struct backend *backend_find(actor_id id)
{
    struct actor *a = actor_find(id);

    return a == NULL ? NULL : backend_of(a);
}

/* A new backend in state LOGIN; the actor starts to connect by itself and tells the pool READY or
 * FAILED. Takes its own reference on config; `effective` lies within it. */
struct backend *backend_open(struct worker *w, struct pool_shared *shared, actor_id pool,
                             struct config *config, const struct effective *effective);

/* Draws lifetime and idle limit anew; from its pool. */
void backend_limit(struct worker *w, struct backend *b, const struct effective *effective);
/* Memory of a backend and what it refers to, without a connection: for one that another process has
 * opened. Its own hands are the caller's. */
struct backend *backend_new(struct worker *w, struct pool_shared *shared, actor_id pool,
                            struct config *config, const struct effective *effective);
/* The numbers of new backends begin behind `next`. */
void backend_numbers_begin(uint32_t next);
uint32_t backend_numbers_next(void);

/* kind of POOL_FAILED */
enum backend_failure {
    FAILURE_CONNECT,   /* unreachable, or too slow */
    FAILURE_LOGIN,     /* refused, or could not prove itself */
    FAILURE_EARLY,     /* had nothing to prove itself with: no client has shown its proof yet */
    FAILURE_RESOURCES, /* no descriptors here */
    FAILURE_PARAMETER, /* PostgreSQL refused a configured startup parameter */
};

/* Sends a CancelRequest on a connection of its own and waits for the server to close it, which it
 * does behind its signal to the process. At most two seconds. From a coroutine. */
enum cancel_outcome {
    CANCEL_DELIVERED, /* the signal was sent */
    CANCEL_NOT_SENT,
    CANCEL_UNSURE, /* it may be under way: the server has not closed in time, or the link broke */
};
enum cancel_outcome backend_send_cancel(struct worker *w, const struct sockaddr_storage *address,
                                        socklen_t len, int32_t pid, const uint8_t *key,
                                        size_t key_len);

/* A ParameterStatus, or what was SET for sure: remembers the pair. */
void backend_set_parameter(struct backend *b, struct bytes name, struct bytes value);
/* text_settings.c: what statements are told apart by. After the login; for a client with these
 * settings; after a ParameterStatus of this name in a lease. */
void text_settings_begin(struct backend *b);
void text_settings_apply(struct backend *b, const struct parameter_set *wanted);
void text_settings_changed(struct backend *b, const struct parameter_set *wanted,
                           struct bytes name);
static inline bool text_settings_fit(const struct backend *b, const struct parameter_set *wanted)
{
    return b->digest_client == (wanted == NULL ? 0 : wanted->hash);
}
/* The key of a server parameter in the packed pairs; NULL when absent. */
struct bytes parameters_find(const struct packer *pairs, const char *name);

#endif
