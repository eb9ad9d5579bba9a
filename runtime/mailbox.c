#include "runtime/mailbox.h"

#include "runtime/message.h"

void mailbox_init(struct mailbox *box)
{
    atomic_store_explicit(&box->word, MAILBOX_RUNNING, memory_order_relaxed);
    box->ready_ = NULL;
}

enum mailbox_pushed mailbox_push(struct mailbox *box, struct message *m)
{
    uintptr_t seen = atomic_load_explicit(&box->word, memory_order_relaxed);
    uintptr_t next;

    do {
        if (seen == MAILBOX_CLOSED) {
            m->next = NULL; /* what it found before the owner closed is not the caller's */
            return PUSH_REFUSED;
        }
        next = (uintptr_t)m;
        m->next = seen <= MAILBOX_CLOSED ? NULL : (struct message *)seen;
        /* Release publishes the message; acquire is for the sender that finds IDLE and so
         * becomes the one who runs the owner. */
    } while (!atomic_compare_exchange_weak_explicit(&box->word, &seen, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
    return seen == MAILBOX_IDLE ? PUSHED_TO_IDLE : PUSHED;
}

static struct message *turn_round(uintptr_t newest)
{
    struct message *oldest = NULL;
    struct message *m = newest <= MAILBOX_CLOSED ? NULL : (struct message *)newest;

    while (m != NULL) {
        struct message *older = m->next;

        m->next = oldest;
        oldest = m;
        m = older;
    }
    return oldest;
}

struct message *mailbox_pop(struct mailbox *box)
{
    struct message *m = box->ready_;

    if (m == NULL) {
        if (atomic_load_explicit(&box->word, memory_order_relaxed) == MAILBOX_RUNNING)
            return NULL;
        /* Acquire pairs with the senders' release. */
        m = turn_round(atomic_exchange_explicit(&box->word, MAILBOX_RUNNING, memory_order_acquire));
        if (m == NULL)
            return NULL;
    }
    box->ready_ = m->next;
    m->next = NULL;
    return m;
}

struct message *mailbox_extract(struct mailbox *box,
                                bool (*wanted)(const struct message *m, const void *context),
                                const void *context)
{
    struct message **at = &box->ready_;

    for (; *at != NULL; at = &(*at)->next) {
        if (wanted(*at, context))
            break;
    }
    if (*at == NULL && atomic_load_explicit(&box->word, memory_order_relaxed) != MAILBOX_RUNNING) {
        /* Those that came since go behind, and are looked through too. */
        *at = turn_round(
            atomic_exchange_explicit(&box->word, MAILBOX_RUNNING, memory_order_acquire));
        while (*at != NULL && !wanted(*at, context))
            at = &(*at)->next;
    }
    struct message *m = *at;
    if (m != NULL) {
        *at = m->next;
        m->next = NULL;
    }
    return m;
}

void mailbox_each(const struct mailbox *box, void (*visit)(void *context, struct message *m),
                  void *context)
{
    uintptr_t newest = atomic_load_explicit(&box->word, memory_order_acquire);
    struct message *m = newest <= MAILBOX_CLOSED ? NULL : (struct message *)newest;

    for (; m != NULL; m = m->next)
        visit(context, m);
    for (m = box->ready_; m != NULL; m = m->next)
        visit(context, m);
}

bool mailbox_park(struct mailbox *box)
{
    uintptr_t running = MAILBOX_RUNNING;

    if (box->ready_ != NULL)
        return false;
    /* Release: the next owner, on whatever thread, sees all that this one wrote. */
    return atomic_compare_exchange_strong_explicit(&box->word, &running, MAILBOX_IDLE,
                                                   memory_order_release, memory_order_relaxed);
}

struct message *mailbox_close(struct mailbox *box)
{
    struct message *ready = box->ready_;
    struct message *late = turn_round(
        atomic_exchange_explicit(&box->word, MAILBOX_CLOSED, memory_order_acq_rel));

    box->ready_ = NULL;
    if (ready == NULL)
        return late;
    struct message *last = ready;
    while (last->next != NULL)
        last = last->next;
    last->next = late;
    return ready;
}
