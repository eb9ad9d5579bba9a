/* Taking a connection from one pool for another: one question at a time, to whom it hurts least. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/coordinator.h"

#include "runtime/log.h"

enum { REST_US = 500000 }; /* of a connection that goes to a pool which has as many */

static uint32_t remaining(const struct claim *claim)
{
    return claim->held - claim->closing;
}

static uint32_t surplus(const struct claim *claim)
{
    return remaining(claim) > claim->minimum ? remaining(claim) - claim->minimum : 0;
}

/* The larger surplus first; among equals those whose transactions are slower (95th percentile),
 * since they miss a connection less often. */
static bool gives_rather(const struct claim *a, const struct claim *b)
{
    if (surplus(a) != surplus(b))
        return surplus(a) > surplus(b);
    return atomic_load_explicit(&a->shared->transaction_p95_us, memory_order_relaxed) >
           atomic_load_explicit(&b->shared->transaction_p95_us, memory_order_relaxed);
}

/* Whom to ask next for the sake of `taker` (NULL: the reserve's). */
static struct claim *next_donor(struct worker *w, struct coordinator *c, const struct claim *taker)
{
    struct claim *best = NULL;

    for (size_t i = 0; i < c->claim_count; i++) {
        struct claim *claim = &c->claims[i];
        bool asked = taker != NULL ? claim->asked : claim->asked_stale;

        if (claim == taker || asked || surplus(claim) == 0 ||
            (taker != NULL && claim->ask_us > w->now_us))
            continue;
        if (best == NULL || gives_rather(claim, best))
            best = claim;
    }
    return best;
}

/* In use or not, the pool that has more than one more than the taker shall give one; what is idle
 * for a moment only stays with a pool that has no more than the taker. */
static bool ask(struct worker *w, struct coordinator *c, struct claim *donor,
                const struct claim *taker)
{
    struct message *m = MESSAGE(
        POOL_EVICT, .term = donor->term, .stale = taker == NULL,
        .yield = taker != NULL && remaining(donor) > taker->held + 1,
        .rest_us = taker != NULL && remaining(donor) <= taker->held ? REST_US : 0);

    donor->asked_us = w->now_us;
    if (taker != NULL)
        donor->asked = true;
    else
        donor->asked_stale = true;
    if (!actor_tell(w, donor->pool, m))
        return false;
    c->asking = donor->pool;
    c->asking_for = taker == NULL ? NULL : taker->shared;
    return true;
}

/* Those who could not give now are asked again when they may be able to. */
static void want_alarm(struct worker *w, struct coordinator *c)
{
    uint64_t at_us = 0;

    for (size_t i = 0; i < c->claim_count; i++) {
        const struct claim *claim = &c->claims[i];

        if (claim->ask_us > w->now_us && surplus(claim) > 0)
            at_us = at_us == 0 ? claim->ask_us : MIN(at_us, claim->ask_us);
    }
    if (at_us == 0 || (c->alarm_us != 0 && c->alarm_us <= at_us))
        return;
    c->alarm_us = at_us;
    actor_alarm(w, actor_id_of(&c->actor), at_us, at_us);
}

static void take_back_promises(struct worker *w, struct coordinator *c, uint32_t excess)
{
    for (size_t i = 0; i < c->claim_count && excess > 0; i++) {
        struct claim *claim = &c->claims[i];

        while (excess > 0 && claim->promised > claim->keeping) {
            claim->keeping++;
            excess--;
            actor_tell(w, claim->pool, MESSAGE(POOL_KEEP, .term = claim->term));
        }
    }
}

static bool ask_for(struct worker *w, struct coordinator *c, const struct claim *taker)
{
    struct claim *donor;

    while ((donor = next_donor(w, c, taker)) != NULL) {
        if (ask(w, c, donor, taker))
            return true;
    }
    return false;
}

void coordinator_evict(struct worker *w, struct coordinator *c)
{
    uint32_t wanted = 0;
    uint32_t closing = 0;

    for (size_t i = 0; i < c->claim_count; i++) {
        const struct claim *claim = &c->claims[i];

        wanted += claim->wanted;
        /* What was paid before it could be given back is not kept. */
        closing += claim->closing - MIN(claim->keeping, claim->promised);
    }
    /* What closes over a cap that was lowered helps nobody. */
    uint32_t over = c->current > c->max + c->reserve ? c->current - c->max - c->reserve : 0;
    bool hungry = c->max > 0 && wanted > 0 && wanted + over > closing;
    atomic_store_explicit(&c->shared->hungry, hungry, memory_order_relaxed);
    if (closing > wanted + over)
        take_back_promises(w, c, closing - wanted - over);
    if (c->asking != 0)
        return;
    const struct claim *taker = coordinator_best_demand(c);
    if (hungry && taker != NULL && ask_for(w, c, taker))
        return;
    if (hungry && taker != NULL)
        want_alarm(w, c);
    if (c->stale > 0)
        ask_for(w, c, NULL);
}

void coordinator_on_evicting(struct worker *w, struct coordinator *c, struct message *m)
{
    struct msg_COORDINATOR_EVICTING answer = message_get_COORDINATOR_EVICTING(m);

    for (size_t i = 0; i < c->claim_count; i++) {
        struct claim *claim = &c->claims[i];

        if (claim->pool != m->sender || claim->term != answer.term)
            continue;
        c->asking = 0;
        claim->closing += answer.how != EVICTED_NOT;
        claim->promised += answer.how == EVICTED_LATER;
        c->stale -= answer.how == EVICTED_STALE && c->stale > 0;
        claim->ask_us = answer.next_us;
        if (answer.how == EVICTED_NOW || answer.how == EVICTED_LATER)
            log_info("[%s@%s] gives a connection to user %s, %u stay, %u are its minimum",
                     claim->shared->user, claim->shared->database,
                     c->asking_for == NULL ? "(none)" : c->asking_for->user, remaining(claim),
                     claim->minimum);
        /* It may have more to give. */
        if (answer.how == EVICTED_NOW)
            claim->asked = false;
        if (answer.how == EVICTED_STALE)
            claim->asked_stale = false;
    }
    coordinator_evict(w, c);
}
