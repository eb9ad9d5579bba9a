/* Sessions that were taken over begin: at once who is in the middle of something or was heard of a
 * moment ago, and the others, of which there may be thousands, bit by bit. Each has to be run and
 * its receive armed, and whoever has a query under way would wait for all of that.
 *
 * One that has not begun yet is as if it was being run all the time: messages for it queue up, and
 * what its client sends waits in the socket. */
#include "actors/upgrade_building.h"

#include <stdlib.h>

enum { AT_A_TIME = 64, RECENT_US = 3000000 };

/* Those of one worker; owned by its post. */
struct beginners {
    struct post post;
    size_t next;
    size_t count;
    struct actor *actors[];
};

static bool is_busy(const struct building *b, const struct state_session *record)
{
    return record->phase != STATE_PHASE_IDLE || record->input.len > 0 || record->output.len > 0 ||
           b->d->header.frozen_us < record->query_us + RECENT_US;
}

static void begin_some(struct worker *w, struct post *post)
{
    struct beginners *list = CONTAINER_OF(post, struct beginners, post);

    for (unsigned i = 0; i < AT_A_TIME && list->next < list->count; i++)
        worker_schedule(w, list->actors[list->next++]);
    if (list->next < list->count)
        worker_post(w, post);
    else
        free(list);
}

static void begin_later(struct building *b, unsigned worker)
{
    size_t most = b->d->session_count / runtime_workers() + 1;
    struct beginners *list = malloc(sizeof *list + most * sizeof *list->actors);

    INVARIANT(list != NULL);
    *list = (struct beginners){.post.run = begin_some};
    for (size_t i = worker; i < b->d->session_count; i += runtime_workers()) {
        if (!is_busy(b, &b->d->sessions[i]))
            list->actors[list->count++] = actor_find(b->sessions[i]);
    }
    worker_post(runtime_worker(worker), &list->post);
}

void wake_sessions(struct building *b)
{
    for (size_t i = 0; i < b->d->session_count; i++) {
        struct actor *a = actor_find(b->sessions[i]);

        if (is_busy(b, &b->d->sessions[i]))
            worker_schedule(runtime_worker(a->home), a);
    }
    for (unsigned i = 0; i < runtime_workers(); i++)
        begin_later(b, i);
}
