/* pool.h: who gets which backend when.
 *
 * One actor per (database, user), claimed inline by whoever asks. One queue, first in first out:
 * a request enters it once, with an absolute deadline, and leaves it by being served, refused or
 * withdrawn. Creating backends is the pool's business, not a caller's: a finished backend goes to
 * the head of the queue, a failed one fails the head.
 */
#ifndef ACTORS_POOL_H
#define ACTORS_POOL_H

#include "actors/backend.h"

struct waiter {
    actor_id session; /* 0: withdrawn */
    uint64_t ticket;  /* the session's own number for its request */
    uint64_t deadline_us;
    uint64_t since_us;
    bool login; /* wants the server parameters, not a backend */
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

    struct waiter *waiters; /* ring; positions run freely */
    uint64_t waiters_head;
    uint64_t waiters_tail;
    uint64_t waiters_size;
    uint32_t waiting; /* not withdrawn */

    struct packer parameters; /* pairs that PostgreSQL reported to the newest backend */
    bool parameters_known;

    uint32_t epoch;
    bool paused;
    bool draining;     /* backends are closed when they come back */
    bool removed;      /* no longer configured: ends when empty */
    uint64_t alarm_us; /* the earliest alarm that is set; 0: none */
    uint32_t failures; /* to connect, in a row */
    uint64_t retry_us; /* no new connection before that */
    char last_sqlstate[6];
    char last_error[256];

    uint64_t creations;
    uint64_t oldest_wait_us;
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

/* Makes or finds the pools of a configuration, in place: connections that may be kept are kept.
 * From the daemon. */
void pools_configure(struct worker *w, struct config *config);
/* Walks everything and checks the counts. */
void pool_check(const struct pool *p);
/* Quota of one retain cycle over all pools; UINT32_MAX: no limit. */
extern _Atomic uint32_t pool_trim_quota;

#endif
