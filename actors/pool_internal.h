/* pool_internal.h: what the files of the pool share. All of it runs in the pool's hands, and
 * nothing waits. */
#ifndef ACTORS_POOL_INTERNAL_H
#define ACTORS_POOL_INTERNAL_H

#include "actors/pool.h"

/* --- pool_queue.c: who waits, and for how long --- */
void pool_on_checkout(struct worker *w, struct pool *p, struct message *m);
void pool_on_login(struct worker *w, struct pool *p, struct message *m);
void pool_on_withdraw(struct worker *w, struct pool *p, struct message *m);
/* The longest waiter, borrowed until the queue changes; NULL: nobody. */
struct waiter *pool_first_waiter(struct pool *p);
/* Takes the waiter at this position out of the queue and tells it no. */
void pool_refuse_at(struct worker *w, struct pool *p, uint64_t at, const char *sqlstate,
                    const char *text);
/* Tells whoever asked no, without a place in the queue. */
void pool_refuse(struct worker *w, actor_id session, uint64_t ticket, const char *sqlstate,
                 const char *text);
void pool_refuse_all(struct worker *w, struct pool *p, const char *sqlstate, const char *text);
/* A failed creation fails the longest waiter, and all logins. */
void pool_fail_waiters(struct worker *w, struct pool *p, const char *sqlstate, const char *text);
/* Refuses those whose time is up. */
void pool_expire(struct worker *w, struct pool *p);
/* Every event ends here: idle backends to the longest waiters, then new ones for the rest. */
void pool_dispatch(struct worker *w, struct pool *p);
/* MESSAGE_ALARM at that time at the latest. */
void pool_want_alarm(struct worker *w, struct pool *p, uint64_t at_us);
/* The sentence around every reason for which no backend can be had. */
PRINTF_LIKE(3, 4) void pool_trouble(char *out, size_t size, const char *format, ...);
/* Said to whoever asks a pool that is no longer configured. */
#define POOL_CLOSED                                                                              \
    "Could not get a database connection from the pool. All servers may be busy or down. Error " \
    "details: Pool has been closed. Please try again later."

/* --- pool_shed.c --- */
/* Tells it no if the settings say that so many waiters are enough. Nothing was done for it yet. */
bool pool_shed(struct worker *w, struct pool *p, const struct waiter *waiter);

/* --- pool_backends.c: backends, one by one --- */
void pool_backend_go(struct pool *p, struct backend *b, enum backend_state to);
void pool_backend_add(struct pool *p, struct backend *b);
/* The pool no longer knows it: its memory is its own to give back, its permit the coordinator's. */
void pool_backend_drop(struct worker *w, struct pool *p, struct backend *b);
void pool_backend_end(struct worker *w, struct pool *p, struct backend *b, const char *reason);
/* The next idle backend that may be handed to `taker` now. Those that must be looked at or cleaned
 * first are sent to be, and come back as ready. */
struct backend *pool_next_usable(struct worker *w, struct pool *p, actor_id taker);
/* Binds the backend to the session. False: the session is gone. */
bool pool_lease(struct worker *w, struct pool *p, struct backend *b, actor_id to);
/* Puts a backend that is clean and synced among the idle ones, or ends it. */
void pool_make_idle(struct worker *w, struct pool *p, struct backend *b);
void pool_on_return(struct worker *w, struct pool *p, struct message *m);
void pool_on_gone(struct worker *w, struct pool *p, struct message *m);
void pool_on_hangup(struct worker *w, struct pool *p, struct message *m);

/* --- pool_idle.c: the ring --- */
void pool_idle_push(struct pool *p, struct backend *b);
struct backend *pool_idle_pop(struct pool *p);
/* Prefers those that can be handed to `taker` as they are. */
struct backend *pool_idle_pop_for(struct pool *p, actor_id taker);
bool pool_idle_remove(struct pool *p, const struct backend *b);
void pool_end_idle(struct worker *w, struct pool *p, const char *reason);
/* Does it hold what only another client may find? */
bool pool_is_anothers(const struct backend *b, actor_id taker);

/* --- pool_growth.c: when a connection is opened --- */
void pool_grow(struct worker *w, struct pool *p);
/* Mean time between returns: an average that forgets within about a second, and at least as long as
 * it is since the last one. 0: none has been seen. */
uint64_t pool_return_gap_us(struct worker *w, struct pool *p);
/* As many connections as may be opened at a time. */
uint32_t pool_gate(const struct pool *p);
void pool_on_ready(struct worker *w, struct pool *p, struct message *m);
void pool_on_failed(struct worker *w, struct pool *p, struct message *m);
/* A backend is handed out that is near the end of its lifetime: opens another in time. */
void pool_replace_early(struct worker *w, struct pool *p, struct backend *b);

/* --- pool_permits.c: the coordinator --- */
/* Joins, leaves or tells the coordinator of the configuration that was just taken over. */
void pool_permits_configure(struct worker *w, struct pool *p);
void pool_permits_leave(struct worker *w, struct pool *p);
/* May one more connection be opened? Otherwise `count` are asked for, and it will be told. */
bool pool_permit_take(struct worker *w, struct pool *p, uint32_t count);
/* The same without waiting: false is the last word. As long as `spare` more are free. */
bool pool_permit_take_now(struct worker *w, struct pool *p, uint32_t spare);
/* Nothing is wanted any more. */
void pool_permits_unwant(struct worker *w, struct pool *p);
/* What was granted and not used goes back. */
void pool_permits_settle(struct worker *w, struct pool *p);
/* So many come from another process, free or not. */
void pool_permits_inherit(struct worker *w, struct pool *p, uint32_t count);
void pool_permit_release(struct worker *w, struct pool *p, enum eviction evicted);
void pool_on_permit(struct worker *w, struct pool *p, struct message *m);
void pool_on_evict(struct worker *w, struct pool *p, struct message *m);
void pool_on_keep(struct worker *w, struct pool *p, struct message *m);
/* A backend comes back: is it owed to another pool? Then it has been ended. */
bool pool_pay_debt(struct worker *w, struct pool *p, struct backend *b);
/* It is gone: as what its permit goes back. */
enum eviction pool_last_debt(struct pool *p, const struct backend *b);
/* A backend is idle: whoever waits in another pool may want it. */
void pool_offer(struct worker *w, struct pool *p);
/* While a permit is wanted in vain: refuses those who have waited for it for too long. True when
 * there were any. */
bool pool_expire_blocked(struct worker *w, struct pool *p);

/* --- pool_upkeep.c: from time to time, and what is told from above --- */
void pool_on_configure(struct worker *w, struct pool *p);
void pool_on_tick(struct worker *w, struct pool *p);
void pool_on_pause(struct worker *w, struct pool *p, bool paused);
void pool_on_alone(struct worker *w, struct pool *p);
void pool_on_reconnect(struct worker *w, struct pool *p);
/* The settings of a pool that has had none. No connection is opened, no permit asked for. */
void pool_configure_quietly(struct worker *w, struct pool *p);
/* Nobody is served any more; it ends with its last backend. */
void pool_close(struct worker *w, struct pool *p);

/* --- statistics.c --- */
/* A line in the log about the last STATISTICS_US, if the pool had clients in it. */
void statistics_log(struct pool *p);

/* --- pools_dynamic.c: pools that are there because auth_query has found their user --- */
/* It is, and is not one any more; counts: as destroyed. */
void pool_dynamic_begin(struct pool *p);
void pool_dynamic_end(struct pool *p, bool counts);
/* One that is empty, and that no session refers to, ends. */
void pool_collect(struct worker *w, struct pool *p);
/* The same for one whose configuration has changed, be it empty or not. True: it has ended. */
bool pool_collect_reconfigured(struct worker *w, struct pool *p);

#endif
