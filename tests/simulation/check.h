/* check.h: the invariants of the pooler, looked at from outside, after every step. */
#ifndef SIMULATION_CHECK_H
#define SIMULATION_CHECK_H

#include "actors/auth_query.h"
#include "actors/pool.h"
#include "actors/session.h"

/* The types of actors as they are registered: with a receive() that is watched. */
void check_register(void);
void check_step(void);
/* Visits all actors of a type. */
void check_each(const struct actor_type *type, void (*visit)(struct actor *a));
/* Pools have got what they did not open. */
void check_adopted(void);
/* Nobody is a client any more, and nothing is under way. */
bool check_is_quiet(void);
/* What is not, on stdout. */
void check_tell(void);
/* And the pools have no backends any more. */
bool check_is_empty(void);
/* Then everything is home. */
void check_at_rest(void);
/* And nothing is kept for backends that are gone. */
void check_nothing_left(void);

/* check_queue.c: a message of a pool, and what it did. */
void check_pool_receives(struct worker *w, struct pool *p, struct message *m,
                         void (*receive)(struct worker *w, struct actor *a, struct message *m));
/* For a process that begins. */
void check_queue_begin(void);
/* A session has come from another process, behind all that wait by now. */
void check_queue_moved(const struct pool *p, actor_id session);
void check_deadlines(const struct pool *p);

/* check_retain.c: the message of a retain cycle, and what it did. */
void check_retain(struct worker *w, struct pool *p, struct message *m,
                  void (*receive)(struct worker *w, struct actor *a, struct message *m));

/* --- check_lookup.c: users that are looked up --- */
/* A pool before a message. */
struct pool_before {
    const struct pool_shared *shared;
    bool dynamic;
    bool removed;
    bool served; /* it has had a connection */
    bool busy;
    uint64_t created;
    uint64_t destroyed;
};
struct pool_before check_lookup_before(const struct pool *p);
void check_lookup_after(const struct pool *p, const struct pool_before *before, uint16_t kind);
/* Behind a message of its own. */
void check_auth_query(const struct auth_query *a);
/* After each step: one session, one pool; and behind all of them. */
void check_lookup_session(const struct session *s);
void check_lookup_pool(const struct pool *p);
void check_lookup_step(void);
/* Nobody is looked up; so many connections wait for the next. */
bool check_lookup_idle(unsigned *connections);
void check_lookup_at_rest(void);
/* Pools that nobody needs are gone; and what looks users up. */
bool check_lookup_is_collected(void);
bool check_lookup_is_gone(void);

#endif
