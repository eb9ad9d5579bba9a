/* mailbox.h: many senders, one owner, first in first out.
 *
 * One word says it all: IDLE (nobody runs the owner, nothing waits), CLOSED (the owner is gone),
 * RUNNING (somebody runs it, nothing new) or the newest of the messages that wait, linked to the
 * older ones. So exactly one sender learns that it must schedule the owner, and an idle owner can
 * be claimed with one compare-and-swap and run right there. Senders push at the front; the owner
 * takes everything with one exchange and turns it round, which gives the order of arrival. A push
 * that meets a recycled address (ABA) still links to what is there, so it is harmless.
 * Never allocates. Any thread may call, except where it says "owner only".
 */
#ifndef RUNTIME_MAILBOX_H
#define RUNTIME_MAILBOX_H

#include "runtime/base.h"

#include <stdatomic.h>

struct message;

#define MAILBOX_RUNNING ((uintptr_t)0)
#define MAILBOX_IDLE    ((uintptr_t)1)
#define MAILBOX_CLOSED  ((uintptr_t)2)

struct mailbox {
    _Atomic uintptr_t word;
    struct message *ready_; /* owner only: taken, oldest first */
};

enum mailbox_pushed { PUSHED, PUSHED_TO_IDLE, PUSH_REFUSED };

/* An owner that runs (so that its creator can finish it before anyone else claims it). */
void mailbox_init(struct mailbox *box);
/* Gives m to the owner. TO_IDLE: the owner was idle, now counts as running, and the caller must
 * schedule it. REFUSED: closed; m is still the caller's. */
MUST_CHECK enum mailbox_pushed mailbox_push(struct mailbox *box, struct message *m);
/* Owner only. The next message, the caller's from now on; NULL if there is none. */
struct message *mailbox_pop(struct mailbox *box);
/* Owner only. Takes the oldest message that is wanted out of its turn; NULL if there is none. */
struct message *mailbox_extract(struct mailbox *box,
                                bool (*wanted)(const struct message *m, const void *context),
                                const void *context);
/* Owner only, and while no one else sends: what waits, in no order, left where it is. */
void mailbox_each(const struct mailbox *box, void (*visit)(void *context, struct message *m),
                  void *context);
/* Owner only, as its last act. True: idle, and no longer yours to touch. False: run on. */
MUST_CHECK bool mailbox_park(struct mailbox *box);
/* Takes an idle owner as if a message had scheduled it. False when it runs or is closed. */
MUST_CHECK static inline bool mailbox_claim(struct mailbox *box)
{
    uintptr_t idle = MAILBOX_IDLE;

    /* Acquire pairs with the release in mailbox_park: what the last owner wrote is seen. */
    return atomic_compare_exchange_strong_explicit(&box->word, &idle, MAILBOX_RUNNING,
                                                   memory_order_acquire, memory_order_relaxed);
}
/* Owner only. Refuses messages from now on and returns what waited, oldest first, for the caller
 * to drop. */
struct message *mailbox_close(struct mailbox *box);

#endif
