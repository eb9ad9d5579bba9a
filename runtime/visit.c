/* Looking into an actor from outside: a function that runs in its exclusive hands. */
#include "runtime/worker.h"

#include <errno.h>
#include <stdlib.h>

enum visit_state { VISIT_PENDING, VISIT_RUNNING, VISIT_ABANDONED };

struct visit {
    struct post post;
    void (*run)(struct actor *a, void *context);
    void *context;
    struct worker *worker; /* of the coroutine that waits */
    struct wait wait;
    _Atomic int state;
    int result;
    bool ended; /* known to the worker of the coroutine, which frees it then */
};

static void visit_ended(struct worker *w, struct post *post)
{
    struct visit *visit = CONTAINER_OF(post, struct visit, post);

    /* Not freed here: its visitor may have been told of the deadline in this same turn, and is
     * about to look. */
    visit->ended = true;
    wait_end(w, visit->wait, visit->result);
}

/* True: the visitor still waits, and from now on until it is told. */
static bool visit_take(struct visit *visit)
{
    int pending = VISIT_PENDING;

    if (atomic_compare_exchange_strong(&visit->state, &pending, VISIT_RUNNING))
        return true;
    free(visit);
    return false;
}

static void visit_tell(struct visit *visit, int result)
{
    visit->result = result;
    visit->post.run = visit_ended;
    worker_post(visit->worker, &visit->post);
}

void visit_run(struct actor *a, struct visit *visit)
{
    if (!visit_take(visit))
        return;
    visit->run(a, visit->context);
    visit_tell(visit, 0);
}

void visit_missed(struct visit *visit)
{
    if (visit_take(visit))
        visit_tell(visit, -ESRCH);
}

static int visit_by_message(struct worker *w, actor_id id, void (*run)(struct actor *, void *),
                            void *context, uint64_t deadline_us)
{
    struct visit *visit = calloc(1, sizeof *visit);
    struct message *m = message_new(MESSAGE_VISIT);

    INVARIANT(visit != NULL);
    visit->run = run;
    visit->context = context;
    visit->worker = w;
    visit->wait = wait_begin(w);
    m->visit = visit;
    actor_tell(w, id, m); /* a refusal ends the wait too */
    wait_suspend(w, deadline_us);
    int pending = VISIT_PENDING;
    if (!visit->ended && atomic_compare_exchange_strong(&visit->state, &pending, VISIT_ABANDONED))
        return -EBUSY; /* whoever finds the message frees it */
    /* It runs at this moment, or has: its end is on the way, and the context must live till then.
     */
    if (!visit->ended) {
        visit->wait = wait_begin(w);
        wait_suspend(w, 0);
    }
    int result = visit->result;
    free(visit);
    return result;
}

int actor_visit(struct worker *w, actor_id id, void (*run)(struct actor *, void *), void *context,
                uint64_t deadline_us)
{
    struct actor *a = actor_find(id);

    if (a == NULL)
        return -ESRCH;
    if (w->coroutine->actor == a) {
        run(a, context);
        return 0;
    }
    if (!mailbox_claim(&a->box))
        return visit_by_message(w, id, run, context, deadline_us);
    bool same = actor_id_of(a) == id;
    w->inline_depth++; /* it must not wait */
    if (same)
        run(a, context);
    w->inline_depth--;
    actor_release(w, a);
    return same ? 0 : -ESRCH;
}
