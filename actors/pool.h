/* pool.h: who gets which backend when.
 *
 * One actor per (database, user), claimed inline by whoever asks. One queue, first in first out:
 * a request enters it once, with an absolute deadline, and leaves it by being served, refused or
 * withdrawn. Creating backends is the pool's business, not a caller's: a finished backend goes to
 * the head of the queue, a failed one fails the head. Where max_db_connections caps the database,
 * each backend stands for a permit of the coordinator (actors/coordinator.h).
 *
 * The pool reads no clock and draws no chance but through its worker, so that the same messages
 * in the same order always have the same effect.
 */
#ifndef ACTORS_POOL_H
#define ACTORS_POOL_H

#include "actors/backend.h"
#include "actors/coordinator.h"

struct waiter {
    actor_id session; /* 0: withdrawn */
    uint64_t ticket;  /* the session's own number for its request */
    uint64_t deadline_us;
    uint64_t since_us; /* in the order of the queue, those who have gone included */
    bool login;        /* wants the server parameters, not a backend */
    bool gated;        /* found as many connections being opened as may be */
};

/* How often backends come back, to tell whether waiting is quicker than connecting. */
struct return_rate {
    uint64_t count; /* of all returns */
    uint64_t last_us;
    uint64_t mark_us; /* since then the present measurement runs */
    uint64_t mark_count;
    uint64_t gap_us; /* mean time between returns; 0: not known */
};

/* What the coordinator knows this pool by; all 0 without one. */
struct permits {
    struct coordination *coordination;
    actor_id coordinator; /* 0: the database has no cap */
    uint64_t term;        /* of joining it: answers to an earlier one are void */
    uint64_t number;      /* of the latest WANT */
    uint32_t held;        /* counted for this pool there */
    uint32_t unused;      /* of these, without a backend yet: 0 between messages */
    uint32_t wanted;      /* asked for and not granted */
    uint32_t owed;        /* backends that were promised to others, due when they come back */
    uint64_t blocked_us;  /* since when something is wanted in vain; 0: nothing is */
};

/* SHOW POOL_SCALING */
struct scaling_counters {
    uint64_t creations;        /* connections that were begun */
    uint64_t gate_waits;       /* waiters that found the gate full */
    uint64_t gate_exhausted;   /* of them, those that were not served soon */
    uint64_t served_by_return; /* waiters that got a backend which came back */
    uint64_t hope_in_vain;     /* connections begun after it had seemed quicker to wait */
    uint64_t above_warm;       /* connections begun for clients who found the pool warm */
    uint64_t deferred;         /* ticks that left the pool below its minimum */
    uint64_t replacements;     /* backends replaced before their time was up */
};

struct pool {
    struct actor actor;
    struct pool_shared *shared;
    struct config *config; /* referenced; `effective` lies within it */
    const struct effective *effective;

    struct backend *backends; /* all, doubly linked */
    struct backend **idle;    /* ring: pushed at the tail, taken from the tail (or head: FIFO) */
    uint32_t idle_head;
    uint32_t idle_count;
    uint32_t idle_size;
    uint32_t count[BACKEND_STATE_COUNT];
    uint32_t replaced; /* backends near their end for which another was opened */
    uint32_t extra;    /* backends that were inherited in use and have not come back yet */
    uint32_t staying;  /* backends that the predecessor still has, and will hand over or close */
    uint32_t staying_told;  /* the same while a round is built */
    uint32_t staying_extra; /* of them, not counted against pool_size: they do not come here */

    struct waiter *waiters; /* ring; positions run freely */
    uint64_t waiters_head;
    uint64_t waiters_tail;
    uint64_t waiters_size;
    uint32_t waiting;     /* not withdrawn */
    bool mixed_deadlines; /* they may not be in the order of the queue */
    bool hoping;          /* somebody waits for a return although there is room to grow */

    struct packer parameters; /* pairs that PostgreSQL reported to the newest backend */
    bool parameters_known;

    uint32_t epoch;
    bool paused;
    bool dynamic;        /* its user was found by auth_query; counted */
    bool draining;       /* backends are closed when they come back */
    bool removed;        /* no longer configured: ends when empty */
    uint64_t alarm_us;   /* the earliest alarm that is set; 0: none */
    uint32_t failures;   /* to connect, in a row */
    uint64_t retry_us;   /* no new connection before that */
    uint64_t served_us;  /* when a waiter was last served */
    uint64_t connect_us; /* what opening a connection takes, on average; 0: not known */
    uint64_t warm_us; /* since when there are scaling_warm_pool_ratio of them; 0: there are not */
    struct return_rate returns;

    struct permits permits;
    uint64_t evict_age_us;      /* min_connection_lifetime */
    uint64_t reserve_wait_us;   /* reserve_pool_timeout */
    uint32_t effective_minimum; /* the larger of min_ and min_guaranteed_pool_size */

    struct scaling_counters scaling;
};

static inline struct pool *pool_of(struct actor *a)
{
    return CONTAINER_OF(a, struct pool, actor);
}
/* Backends that exist or are being opened. */
static inline uint32_t pool_size_now(const struct pool *p)
{
    uint32_t size = 0;

    for (int state = 0; state < BACKEND_STATE_COUNT; state++)
        size += p->count[state];
    return size;
}
/* What counts against pool_size. */
static inline uint32_t pool_size_counted(const struct pool *p)
{
    return pool_size_now(p) - p->extra;
}
/* Of those, the ones that are not being closed. */
uint32_t pool_size_kept(const struct pool *p);

/* --- pool_handover.c: between processes, while the world stands --- */
/* It is another process's: neither counted nor closed here. It gives its memory back by itself. */
void pool_forget_backend(struct worker *w, struct pool *p, struct backend *b);
/* A backend from another process, idle (behind the others) or leased; whether that counts against
 * pool_size is for upgrade_inherited_accounting to say. */
void pool_adopt_backend(struct worker *w, struct pool *p, struct backend *b, bool leased);
/* Behind them: how many stay with the other process. They hold permits until it says otherwise, or
 * POOL_ALONE that it has ended. */
void pool_adopt_end(struct worker *w, struct pool *p, uint32_t staying, bool drains);
void pool_append_waiter(struct pool *p, struct waiter waiter);
/* A pool that this configuration does not have, for server connections from another process that
 * are in use: it serves nobody else, and ends with the last of them. POOL_CONFIGURE must follow. */
struct pool *pool_adopt_gone(struct worker *w, struct pool_shared *shared);

/* Makes or finds the pools of a configuration, in place: connections that may be kept are kept.
 * From the daemon. */
void pools_configure(struct worker *w, struct config *config);
/* A pool actor for it, in its directory entry; it configures itself. There must be none. */
void pool_create(struct worker *w, struct pool_shared *shared);
/* What sessions and caches read of the settings. */
void pool_follow(struct pool_shared *shared, const struct effective *effective);
/* With shared's lock: the secret that was found, and what backends can do with it. */
void secret_look_up(struct pool_shared *shared, const char *secret);

/* --- pools_dynamic.c --- */
/* auth_query has found that user. Unless it is configured, this is its secret, and these are
 * startup parameters for its backends. */
void pools_looked_up(struct worker *w, const char *database, const char *user, const char *secret,
                     const struct pair_list *overlay);
/* The same, from another process: and its pool, which is there at once and opens nothing yet.
 * POOL_CONFIGURE must follow. Nothing happens where the configuration would not look it up. */
void pools_restore(struct worker *w, const char *database, const char *user, const char *secret,
                   const struct pair_list *overlay);
/* The settings that a configuration has for a pool, within it; NULL: none. */
const struct effective *pool_wanted(struct config *config, struct pool_shared *shared);
/* Is that because auth_query may find it? */
bool pool_wanted_dynamic(const struct config *config, const struct pool_shared *shared);
/* Makes a pool for it, unless there is one. */
void pools_ensure(struct worker *w, struct pool_shared *shared);
/* A session that was looked up will use this pool from now on: it is made if it is not there, and
 * stays as long as sessions refer to it. */
void pools_admit(struct worker *w, struct pool_shared *shared);
/* The same for a session from another process. True: it was, for its pool is such a one. */
bool pools_stay(const struct pool *p);
/* The session does not any more; in_vain: its login has failed. */
void pools_leave(struct worker *w, struct pool_shared *shared, bool in_vain);
/* Every invariant of one pool that can be told from the pool alone: counts of states, idle and
 * leased backends, order and number of waiters, size, permits. Cheap ones always, walks in debug
 * builds. Between messages. */
void pool_check(const struct pool *p);
/* Quota of one retain cycle over all pools; UINT32_MAX: no limit. */
extern _Atomic uint32_t pool_trim_quota;

#endif
