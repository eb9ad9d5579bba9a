/* coordinator.h: who of a database's users may have how many connections.
 *
 * One actor per database with max_db_connections, for the life of the process; its limits may
 * change. A permit is a counted thing: a pool gets one before it opens a connection, and gives it
 * back when that is closed. Permits are all alike; as long as more are out than
 * max_db_connections, the excess is the reserve. So one that comes back while reserve is in use
 * lessens the reserve, whichever backend it was for.
 *
 * Pools ask inline (COORDINATOR_WANT) and are answered at once, or stand here as wanting until
 * they are granted (POOL_PERMIT) or want no more. A demand is met, in this order: from what is
 * free; from the reserve; by taking a connection from another pool, one question at a time
 * (POOL_EVICT). Nothing waits, and nobody polls.
 */
#ifndef ACTORS_COORDINATOR_H
#define ACTORS_COORDINATOR_H

#include "actors/app.h"

/* What is known of one database without asking its coordinator; never freed. */
struct coordination {
    struct coordination *next;
    char *database;
    actor_id actor;
    _Atomic bool hungry;      /* some pool wants what another has: idle backends are worth a word */
    _Atomic uint32_t max;     /* max_db_connections; 0: no longer capped */
    _Atomic uint32_t reserve; /* reserve_pool_size */
    _Atomic uint32_t current; /* permits that are out */
};

/* A pool, as its coordinator sees it. */
struct claim {
    actor_id pool;
    const struct pool_shared *shared;
    uint64_t term;     /* of its joining */
    uint64_t number;   /* of its latest WANT */
    uint32_t held;     /* permits */
    uint32_t minimum;  /* not taken from it below that */
    uint32_t wanted;   /* permits, beyond those */
    uint32_t granted;  /* just now, and not told yet */
    uint32_t passed;   /* grants to others since it began to want */
    uint32_t closing;  /* of those held, sure to come back: being closed, or promised */
    uint32_t promised; /* of these, still in use */
    uint32_t keeping;  /* promises that were given back, without an answer yet */
    uint32_t paid;     /* promises that could not be given back: those are being closed */
    uint64_t since;    /* a ticket: who wants longer has the smaller one */
    uint64_t asked_us; /* when it was last asked */
    uint64_t ask_us;   /* nothing can be had from it before */
    bool asked;        /* in this round */
    bool asked_stale;  /* in this retain cycle */
};

struct coordinator {
    struct actor actor;
    struct coordination *shared;
    uint32_t max;
    uint32_t reserve;
    uint32_t current; /* the sum of all that is held */
    uint32_t stale; /* backends that have rested long enough to be closed for the reserve's sake */
    struct claim *claims;
    size_t claim_count;
    size_t claim_room;
    bool withheld;   /* what is free was kept for the successor, when last looked at */
    actor_id asking; /* the pool that is being asked for a connection; 0: none */
    const struct pool_shared *asking_for; /* NULL: for the reserve's sake */
    uint64_t tickets;
    uint64_t alarm_us;
    uint64_t evictions;
    uint64_t reserve_acquisitions;
    uint64_t exhaustions;
};

/* From the daemon, before pools are told of a new configuration. */
void coordinators_configure(struct worker *w, struct config *config);
/* The retain cycle: connections that keep the reserve in use and have rested are closed. */
void coordinators_tick(struct worker *w);
/* Of the database; NULL when it was never capped. Any thread. */
struct coordination *coordination_find(const char *database);
/* Calls visit for each that is capped now, in order of names. */
void coordinations_each(void (*visit)(void *context, struct coordination *shared), void *context);
static inline bool config_caps(const struct pool_config *pool)
{
    return pool->max_db_connections != SETTING_UNSET && pool->max_db_connections > 0;
}
/* Why a client of this user gets no connection (spec: pool, errors). */
void coordinator_trouble(const struct coordination *shared, const char *user, char *out,
                         size_t size);
/* Permits add up, none is granted beyond the limits. Between messages. */
void coordinator_check(const struct coordinator *c);

/* --- between its files --- */
static inline struct coordinator *coordinator_of(struct actor *a)
{
    return CONTAINER_OF(a, struct coordinator, actor);
}
/* coordinator_evict.c: asks pools to give up what demands lack; or takes promises back. */
void coordinator_evict(struct worker *w, struct coordinator *c);
void coordinator_on_evicting(struct worker *w, struct coordinator *c, struct message *m);
/* The demand that is to be met first; NULL: none. */
struct claim *coordinator_best_demand(struct coordinator *c);

#endif
