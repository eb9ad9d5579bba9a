/* auth_query.h: users that are not written down are looked up in PostgreSQL.
 *
 * One actor per pool section with auth_query. Sessions ask it for a name (AUTH_LOOKUP); it answers
 * from its cache, or runs the query on a connection of its own: one query per name at a time,
 * however many ask. What was found lies in struct pool_shared of that name when the answer comes
 * (secret, material for backends, startup parameters), so that the login goes on like that of a
 * user who is configured. The actor never waits: its connections are backends (actors/backend.h)
 * whose pool it is.
 */
#ifndef ACTORS_AUTH_QUERY_H
#define ACTORS_AUTH_QUERY_H

#include "actors/auth_query_cache.h"
#include "actors/auth_query_result.h"
#include "actors/backend.h"

struct auth_query_counters {
    _Atomic uint64_t entries;
    _Atomic uint64_t hits;
    _Atomic uint64_t misses;
    _Atomic uint64_t refetches;
    _Atomic uint64_t rate_limited;
    _Atomic uint64_t success;
    _Atomic uint64_t failure;
    _Atomic uint64_t queries;
    _Atomic uint64_t errors;
    _Atomic uint64_t created; /* dynamic pools */
    _Atomic uint64_t destroyed;
};

/* What is known of one database without asking its actor; never freed. */
struct auth_query_state {
    struct auth_query_state *next;
    char *database;
    _Atomic actor_id actor;              /* 0: not configured */
    _Atomic uint32_t dynamic_pools;      /* as of now */
    struct auth_query_counters counters; /* since it was configured in this way */
};

/* Of that database; NULL: it has no auth_query now. Any thread. */
struct auth_query_state *auth_query_find(const char *database);
/* The same, also when it has none any more, or has had none yet. */
struct auth_query_state *auth_query_state_of(const char *database);
/* Calls visit, which may not wait, for each that is configured, in order of names. */
void auth_query_each(void (*visit)(void *context, struct auth_query_state *state), void *context);
/* From the daemon, when a configuration is in force: tells living ones, and makes new ones. */
void auth_queries_configure(struct worker *w, struct config *config);

/* --- the actor --- */

/* Somebody who waits for an answer. */
struct asker {
    struct asker *next;
    actor_id session;
    uint64_t ticket;
};

/* A name that is being looked up. */
struct lookup {
    struct lookup *next;
    struct asker *askers;
    uint64_t deadline_us;
    actor_id backend; /* that runs the query; 0: it waits for one */
    bool again;       /* after a failed login */
    bool repeated;    /* its first connection was lost */
    char user[ROLE_NAME_MAX + 1];
};

enum executor_state { EXECUTOR_OPENING, EXECUTOR_IDLE, EXECUTOR_BUSY, EXECUTOR_CLOSING };

struct executor {
    actor_id backend; /* 0: no connection */
    enum executor_state state;
    bool outdated; /* of an earlier configuration */
};

struct auth_query {
    struct actor actor;
    struct auth_query_state *state;
    struct config *config; /* referenced; the next two lie within it */
    const struct pool_config *pool;
    const struct auth_query_config *settings;
    struct auth_query_cache cache;
    struct lookup *lookups;     /* in the order in which they came */
    struct pool_shared *shared; /* of the role that runs the query */
    struct executor *executors;
    uint32_t executor_count;
    uint32_t failures; /* to connect, in a row */
    uint64_t retry_us; /* no new connection before that */
    uint64_t alarm_us; /* the earliest alarm that is set; 0: none */
    bool ready_told;
    bool removed; /* not configured any more: ends with its last connection */
};

static inline struct auth_query *auth_query_of(struct actor *a)
{
    return CONTAINER_OF(a, struct auth_query, actor);
}

/* --- between its files --- */
/* auth_query_executor.c: gives names that wait to connections that rest; opens connections. */
void executor_dispatch(struct worker *w, struct auth_query *a);
/* The connections of an earlier configuration are closed, as soon as they rest. */
void executor_outdate(struct worker *w, struct auth_query *a);
bool executor_empty(const struct auth_query *a);
void executor_on_ready(struct worker *w, struct auth_query *a, struct message *m);
void executor_on_failed(struct worker *w, struct auth_query *a, struct message *m);
void executor_on_gone(struct worker *w, struct auth_query *a, struct message *m);
void executor_on_hangup(struct worker *w, struct auth_query *a, struct message *m);
/* The connection has run a query; lost: it will be closed by itself. */
void executor_rest(struct worker *w, struct auth_query *a, actor_id backend, bool lost);
/* auth_query.c */
/* Answers all who wait for it, and forgets it. */
void lookup_end(struct worker *w, struct auth_query *a, struct lookup *lookup,
                enum lookup_outcome outcome);
/* MESSAGE_ALARM at that time at the latest. */
void auth_query_alarm(struct worker *w, struct auth_query *a, uint64_t at_us);

#endif
