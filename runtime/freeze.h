/* freeze.h: stopping all workers between two callbacks.
 *
 * While the world stands, no actor runs, no timer fires and no result is delivered: every actor
 * without a coroutine of its own is exactly its struct, its mailbox and what its connections hold.
 * The caller, a thread that is no worker, may then look at all of them and change them. Other
 * threads (helpers, the watch over backends) go on, and may fill mailboxes meanwhile.
 *
 * One caller at a time. freeze_begin() waits; the others wait for the workers, which are parked.
 */
#ifndef RUNTIME_FREEZE_H
#define RUNTIME_FREEZE_H

#include "runtime/worker.h"

/* False: not all workers came in that time, and none is held any more. */
MUST_CHECK bool freeze_begin(uint64_t timeout_us);
/* On every worker's own thread at once; back when all have done it. Only while the world stands. */
void freeze_each(void (*run)(struct worker *w, void *context), void *context);
/* The same on one worker. */
void freeze_on(unsigned index, void (*run)(struct worker *w, void *context), void *context);
void freeze_end(void);

/* For freeze_on(): runs what is scheduled, on whatever worker, until nothing is. No results come in
 * meanwhile, so it ends. Afterwards mailboxes are empty but for what other threads sent, and for
 * actors whose coroutine waits. */
void freeze_settle(struct worker *w, void *nothing);

#endif
