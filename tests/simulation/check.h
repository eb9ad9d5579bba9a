/* check.h: the invariants of the pooler, looked at from outside, after every step. */
#ifndef SIMULATION_CHECK_H
#define SIMULATION_CHECK_H

#include "actors/pool.h"
#include "actors/session.h"

/* The types of actors as they are registered: with a receive() that is watched. */
void check_register(void);
void check_step(void);
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

#endif
