/* actor.h: a struct, a mailbox and one function.
 *
 * An actor's state is touched only by whoever runs it: the worker that was told to schedule it,
 * or a caller that found it idle and claimed it (inline delivery). Its behaviour is receive();
 * when that returns, the actor owns nothing but its struct. Kinds for which the type's blocks()
 * says yes run on a borrowed coroutine stack and may wait; all others run to completion on the
 * worker's own stack, and a wait there breaks an invariant.
 *
 * Memory of an actor is never given back to the allocator, only to its type's list: a pointer to a
 * dead actor is still a pointer to a mailbox, which is closed or has a new generation.
 */
#ifndef RUNTIME_ACTOR_H
#define RUNTIME_ACTOR_H

#include "runtime/mailbox.h"
#include "runtime/message.h"

struct worker;
struct actor;
struct packer;

/* A call to be made on a worker's own stack, posted from any thread. */
struct post {
    struct post *next;
    void (*run)(struct worker *w, struct post *post);
};

/* Which wait of which coroutine (runtime/worker.h). */
struct wait {
    struct coroutine *co;
    uint64_t id;
};

struct actor_type {
    const char *name;
    size_t size;    /* of the struct that begins with struct actor */
    uint8_t rank;   /* inline asks go from lower to higher rank only */
    uint8_t number; /* index in the table of types, from 1 */
    void (*receive)(struct worker *w, struct actor *self, struct message *m);
    bool (*blocks)(const struct actor *self, const struct message *m); /* NULL: never */
    /* Appends "key: value" pairs to an open map; returns how many. No secrets. */
    uint32_t (*pack)(const struct actor *self, struct packer *p);
    const char *(*state_name)(const struct actor *self);
    const char *(*kind_name)(uint16_t kind);
    /* A message that was accepted and will not be received, since the actor has ended: for those
     * whose sender waits for an answer. NULL: nobody minds. */
    void (*missed)(struct worker *w, struct message *m);
    /* Clears what lies behind the header for a new life; NULL: all of it is zeroed. */
    void (*reset)(struct actor *a);
};
enum { ACTOR_TYPES_MAX = 16 };

struct actor {
    struct mailbox box;
    struct actor *next_run; /* in a run queue, or free */
    uint32_t index;
    _Atomic uint32_t generation;
    uint8_t type;
    uint8_t dying; /* closes when the current message is done */
    uint16_t home; /* worker that schedules it when told from outside the workers */
};

/* Once at start, before any worker runs. */
void actor_type_register(const struct actor_type *type);
const struct actor_type *actor_type_of(const struct actor *a);

static inline actor_id actor_id_of(const struct actor *a)
{
    return (uint64_t)atomic_load_explicit(&a->generation, memory_order_relaxed) << 32 | a->index;
}

/* A new actor, zeroed behind the header, running in the caller's hands until actor_release() or
 * actor_launch(). Never NULL. */
struct actor *actor_new(const struct actor_type *type, uint16_t home);
/* Its first message will be MESSAGE_START, once it is released: until then its id can be told. */
void actor_prime(struct actor *a);
/* Sends MESSAGE_START and schedules it. */
void actor_launch(struct worker *w, struct actor *a);
/* For the actor itself, while it runs: it ends when the current message is done. */
void actor_exit(struct actor *self);

/* The actor with that identity, running or not; NULL when it is dead. Only its mailbox may be
 * touched without claiming it. */
struct actor *actor_find(actor_id id);

/* Gives m to the actor; scheduled on the calling worker when it was idle. Frees m and returns
 * false when the actor is dead. Any thread; w is NULL outside the workers. */
bool actor_tell(struct worker *w, actor_id to, struct message *m);
bool actor_tell_kind(struct worker *w, actor_id to, uint16_t kind);

enum ask_result { ASK_ANSWERED, ASK_QUEUED, ASK_DEAD };
/* Inline delivery: claims the target if it is idle and runs receive() here, with `reply` for the
 * answer: ANSWERED when the target filled it (reply->kind). Otherwise the request was queued, or
 * the target keeps it for later: QUEUED, and the answer comes as a message. The request's body is
 * copied when it has to be queued. */
MUST_CHECK enum ask_result actor_ask(struct worker *w, struct actor *self, actor_id to,
                                     struct message *request, struct message *reply);
/* In receive(): answers m at once, inline or by message. */
void actor_reply(struct worker *w, struct actor *self, const struct message *m,
                 const struct message *answer);

/* A message of kind MESSAGE_ALARM with this token at that time (or later). Cannot be taken back:
 * the receiver ignores tokens that it no longer wants. */
void actor_alarm(struct worker *w, actor_id to, uint64_t at_us, uint64_t token);

/* Runs fn in the actor's exclusive hands, here or on another worker, and waits for it, at most
 * until deadline_us (0 = for ever). From a coroutine only. 0; -ESRCH: dead; -EBUSY: not by then,
 * and fn will not be called. */
MUST_CHECK int actor_visit(struct worker *w, actor_id id, void (*run)(struct actor *, void *),
                           void *context, uint64_t deadline_us);
struct visit;
void visit_run(struct actor *a, struct visit *visit);
void visit_missed(struct visit *visit);

/* Identities of the living actors of one type (a snapshot; malloc'ed, *count of them). */
actor_id *actor_list(const struct actor_type *type, size_t *count);
uint32_t actor_count(const struct actor_type *type);

/* Any one, dead or alive; NULL: there was none yet. For simulations. */
struct actor *actor_pick(uint64_t number);

/* --- for the runtime --- */
/* Runs one message in the hands of the caller, who has claimed the actor. */
void actor_run_message(struct worker *w, struct actor *a, struct message *m);
/* How many messages an actor handles before others have their turn. */
extern unsigned actor_batch;
/* Drains the mailbox (bounded), then parks; reschedules when there is more. */
void actor_run(struct worker *w, struct actor *a);
/* After an inline run: parks, or schedules when messages came meanwhile. */
void actor_release(struct worker *w, struct actor *a);

#endif
