/* app.h: what the actors of one process share: the configuration in force, the directory of pools,
 * process-wide counters. Everything here is either immutable, atomic, or behind a lock that is held
 * for a few instructions; no lock is held across a wait.
 */
#ifndef ACTORS_APP_H
#define ACTORS_APP_H

#include "actors/histogram.h"
#include "actors/messages.h"
#include "actors/statement.h"
#include "auth/scram.h"
#include "config/config.h"
#include "runtime/io.h"
#include "runtime/worker.h"

#include <pthread.h>
#include <stdalign.h>

extern const struct actor_type session_type;
extern const struct actor_type backend_type;
extern const struct actor_type pool_type;
extern const struct actor_type listener_type;
extern const struct actor_type daemon_type;
extern const struct actor_type admin_type;
extern const struct actor_type coordinator_type;
extern const struct actor_type auth_query_type;

/* Ranks: inline asks go upward only. */
enum { RANK_SESSION = 1, RANK_BACKEND = 2, RANK_POOL = 3, RANK_COORDINATOR = 4, RANK_ROOT = 9 };

/* How the pooler came to know a user. */
enum pool_origin {
    ORIGIN_NONE,      /* it was configured once */
    ORIGIN_STATIC,    /* it is configured */
    ORIGIN_SHARED,    /* auth_query.server_user, for all that are found */
    ORIGIN_LOOKED_UP, /* auth_query has found it */
};

/* Messages of the server that may be larger than message_size_to_be_stream. */
enum stream_kind { STREAM_DATA_ROW, STREAM_COPY_DATA, STREAM_FUNCTION_RESULT, STREAM_KINDS };

/* What one worker has counted for one pool; SHOW adds the workers' up. */
struct pool_counters {
    uint64_t transactions;
    uint64_t queries;
    uint64_t bytes_received; /* from PostgreSQL */
    uint64_t bytes_sent;     /* to PostgreSQL */
    uint64_t transaction_us;
    uint64_t query_us;
    uint64_t wait_us;
    uint64_t waits;
    uint64_t errors;
    uint64_t streams[STREAM_KINDS]; /* large messages that were passed in pieces, to their end */
    uint64_t streams_broken[STREAM_KINDS]; /* and not to their end */
    uint64_t stream_bytes[STREAM_KINDS];   /* of both, with headers */
} __attribute__((aligned(CACHE_LINE)));

/* What is measured of each pool. */
/* The windows of averages, and of lines about pools in the log. */
enum { STATISTICS_US = 15000000 };

enum pool_time { TIME_QUERY, TIME_TRANSACTION, TIME_WAIT, TIME_CONNECT, TIME_KINDS };

enum material_kind { MATERIAL_NONE, MATERIAL_PLAIN, MATERIAL_MD5, MATERIAL_KEYS, MATERIAL_PENDING };

/* One (database, user): what outlives the pool actor, never freed. */
struct pool_shared {
    char *database;
    char *user;
    _Atomic actor_id pool; /* 0: no longer configured */
    _Atomic int mode;      /* enum pool_mode, for new sessions */
    _Atomic int origin;    /* enum pool_origin; written with the lock */
    _Atomic uint32_t
        clients; /* sessions that were looked up: their pool is kept (pools_dynamic.c) */
    _Atomic uint32_t logged_in; /* sessions, of whatever kind */

    pthread_mutex_t lock;        /* guards what follows, up to the counters */
    struct pair_list *overlay;   /* startup parameters of a user that was looked up; NULL: none */
    enum material_kind material; /* what backends log in with */
    char md5[MD5_TEXT + 1];
    uint8_t client_key[SCRAM_KEY];
    uint8_t server_key[SCRAM_KEY];
    char *secret; /* what a client must know */
    enum secret_kind secret_kind;
    struct scram_verifier verifier; /* of a SCRAM secret, or derived from a plain one */
    bool verifier_known;
    char *check_query;    /* pooler_check_query */
    uint8_t *check_reply; /* what the server said to it; NULL: not asked yet */
    size_t check_reply_len;

    struct statement_cache statements;
    _Atomic uint32_t backend_limit;   /* statements that a backend keeps */
    _Atomic bool sequences_read;      /* a client has called currval or lastval */
    _Atomic uint32_t anonymous_limit; /* texts without a name per client; 0: no limit */
    _Atomic uint32_t ddl_epoch;       /* statements parsed earlier may refer to what has changed */
    _Atomic uint32_t check_len;     /* of the check query with its NUL: tells most queries apart */
    struct pool_shared *next;       /* in the directory's chain */
    struct pool_counters *counters; /* one per worker */
    struct pool_counters previous;  /* at the last tick (admin only) */
    struct pool_counters average;
    struct pool_counters told;          /* in the log's latest line about it (pool only) */
    struct histogram times[TIME_KINDS]; /* a shard per worker */
    uint64_t rolled_activity;           /* of the counters, at the last roll (daemon only) */
    uint32_t quiet_rolls;
    /* Of the transactions in the window, as of the last roll: for decisions on the way. */
    _Atomic uint64_t transaction_p95_us;
    _Atomic uint64_t transaction_p99_us;
    struct pool_counters handed_over;         /* what a successor was told of them (upgrade only) */
    struct histogram_view *times_handed_over; /* the same of each of `times`; NULL: nothing yet */
};

struct app {
    const char *config_path;
    const char *argv0;
    bool daemonized;
    bool interactive; /* SIGINT only shuts down */
    uint64_t started_us;
    uint64_t started_at; /* wall clock, seconds */
    actor_id daemon;
    actor_id admin;
    _Atomic uint64_t connection_number;
    _Atomic uint32_t clients; /* connected, of whatever kind */
    _Atomic uint64_t connections_total;
    _Atomic uint64_t connections_plain;
    _Atomic uint64_t connections_tls;
    _Atomic uint64_t connections_cancel;
    _Atomic uint64_t connections_error;
    _Atomic uint64_t check_backend; /* check queries sent to a server, and answered from memory */
    _Atomic uint64_t check_cache;
    _Atomic bool draining;
    _Atomic bool handed_over;  /* the successor says how many connections there may be */
    _Atomic bool resting;      /* somebody who is to leave has come to rest */
    _Atomic bool handing_over; /* an upgrade is under way: no connections are opened in advance */
    /* Leases taken less leases given back, by worker: their sum counts, one alone may be below 0.
     */
    struct {
        alignas(CACHE_LINE) uint32_t count;
    } leases[WORKERS_MAX];
    _Atomic int64_t input_held;  /* bytes of client messages in memory, of those who hold much */
    _Atomic int64_t input_limit; /* max_memory_usage */
    _Atomic uint32_t anonymous_ttl_s; /* of texts without a name; 0: they stay */
    _Atomic uint64_t directory_generation;
};
extern struct app app;

/* After their number, in the log. */
#define CLIENTS(n) ((n) == 1 ? "client" : "clients")

/* Sharded counters are written by one thread and read by any: no read-modify-write needed. */
#ifndef DOORMAN_UNCOUNTED
#define COUNT(counter, n)                                                             \
    __atomic_store_n(&(counter), __atomic_load_n(&(counter), __ATOMIC_RELAXED) + (n), \
                     __ATOMIC_RELAXED)
#else /* tests/bench/counting.py: what does it cost? */
#define COUNT(counter, n) ((void)(counter), (void)(n))
#endif

/* Counts a lease on this worker: 1 when a session gets a backend, -1 when it goes back. */
static inline void app_count_lease(const struct worker *w, int change)
{
    COUNT(app.leases[w->index].count, (uint32_t)change);
}

/* Sessions that have a backend. Any thread; while others work it is about right. */
uint32_t app_leases(void);

/* The configuration in force, with a reference for the caller. Any thread. */
struct config *app_config(void);
/* Publishes a new one; takes over the caller's reference. */
void app_publish(struct config *config);

/* The directory. A name that was ever configured keeps its pool_shared. */
struct pool_shared *directory_find(const char *database, const char *user);
struct pool_shared *directory_add(const char *database, const char *user);
/* Calls visit for each, in order of database and user. */
void directory_each(void (*visit)(void *context, struct pool_shared *shared), void *context);
/* Tables, types or functions of the database have changed: its pools parse statements again. */
void directory_schema_changed(const char *database);

/* Cancel keys: low half of the connection number and the first bytes of the secret -> session. The
 * number alone may belong to two: it comes round again, and clients that PgDoorman 3.10 hands over
 * bring theirs with them. */
void cancel_register(uint32_t pid, uint32_t secret, actor_id session);
void cancel_forget(uint32_t pid, uint32_t secret, actor_id session);
/* 0: nobody. It may still have another secret, if this one is longer. */
actor_id cancel_find(uint32_t pid, struct bytes secret);

/* Sessions that have not logged in yet, oldest first; the daemon ends those over the limit. */
struct login_entry {
    struct login_entry *next;
    struct login_entry *previous;
    actor_id session;
    uint64_t since_us;
    bool begun;
};
void login_enter(struct login_entry *entry, actor_id session, uint64_t now_us);
void login_leave(struct login_entry *entry); /* harmless when not in it */
/* It has said who it is; how many have. */
void login_begin(struct login_entry *entry);
uint32_t logins_begun(void);
/* Fills out with sessions that entered before; returns how many, at most max. */
size_t login_overdue(uint64_t before_us, actor_id *out, size_t max);

/* Socket options of the configuration for a client or backend socket (spec: sockets). */
void socket_options(int fd, bool local, const struct general_config *general);

/* Tells the actor when the peer of this descriptor hangs up: one edge-triggered registration for
 * the life of the descriptor, watched by a thread of its own, so that an idle backend costs
 * nothing and still cannot die unnoticed. */
MUST_CHECK int watch_start(struct failure *why);
void watch_stop(void);
void watch_hangup(int fd, actor_id backend);

static inline struct pool_counters *counters_of(struct worker *w, struct pool_shared *shared)
{
    return &shared->counters[w->index];
}
static inline void time_record(struct worker *w, struct pool_shared *shared, enum pool_time what,
                               uint64_t us)
{
#ifndef DOORMAN_UNCOUNTED
    histogram_record(&shared->times[what], w->index, us);
#else
    (void)w, (void)shared, (void)what, (void)us;
#endif
}
/* Ends a slot of every pool's windows: every HISTOGRAM_SLOT_US, by the daemon. */
void times_roll(void);
/* All workers' shards together; they go on counting meanwhile. */
struct pool_counters pool_counters_sum(const struct pool_shared *shared);

/* How long ago, on this worker's clock. Workers read theirs at different moments, so `since_us` may
 * lie a little ahead. */
static inline uint64_t elapsed_us(const struct worker *w, uint64_t since_us)
{
    return w->now_us > since_us ? w->now_us - since_us : 0;
}

#endif
