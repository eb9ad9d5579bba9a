/* Counting permits, and giving them to whoever should have them first. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/coordinator.h"

#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    PASSED_MAX = 16,      /* grants to others before a demand goes first */
    ASK_AGAIN_US = 10000, /* a busy pool, of which backends are idle for moments */
};

/* --- claims --- */

static struct claim *claim_of(struct coordinator *c, const struct message *m, uint64_t term)
{
    for (size_t i = 0; i < c->claim_count; i++) {
        if (c->claims[i].pool == m->sender && c->claims[i].term == term)
            return &c->claims[i];
    }
    return NULL;
}

static struct claim *claim_add(struct coordinator *c)
{
    if (c->claim_count == c->claim_room) {
        c->claim_room = MAX(c->claim_room * 2, (size_t)8);
        c->claims = realloc(c->claims, c->claim_room * sizeof *c->claims);
        INVARIANT(c->claims != NULL);
    }
    struct claim *claim = &c->claims[c->claim_count++];
    *claim = (struct claim){0};
    return claim;
}

/* --- grants --- */

/* An equal part of the cap for each pool that has or wants something. */
static uint32_t fair_share(const struct coordinator *c)
{
    uint32_t active = 0;

    for (size_t i = 0; i < c->claim_count; i++)
        active += c->claims[i].held > 0 || c->claims[i].wanted > 0;
    return MAX(c->max / MAX(active, 1u), 1u);
}

/* Higher goes first. Who was passed over too often outranks all, so that nobody starves. */
static int urgency(const struct claim *claim, uint32_t share)
{
    if (claim->passed >= PASSED_MAX)
        return 3;
    if (claim->held < claim->minimum)
        return 2;
    return claim->held < share ? 1 : 0;
}

struct claim *coordinator_best_demand(struct coordinator *c)
{
    uint32_t share = fair_share(c);
    struct claim *best = NULL;
    int best_urgency = 0;

    for (size_t i = 0; i < c->claim_count; i++) {
        struct claim *claim = &c->claims[i];
        int its = urgency(claim, share);

        if (claim->wanted == 0 || (best != NULL && its < best_urgency))
            continue;
        if (best == NULL || its > best_urgency || claim->since < best->since) {
            best = claim;
            best_urgency = its;
        }
    }
    return best;
}

static void hand_out(struct coordinator *c, struct claim *to)
{
    for (size_t i = 0; i < c->claim_count; i++)
        c->claims[i].passed += c->claims[i].wanted > 0;
    to->held++;
    to->granted++;
    to->wanted--;
    to->passed = 0;
    to->since = ++c->tickets;
    c->current++;
    if (LIKELY(c->current <= c->max))
        return;
    c->reserve_acquisitions++;
    log_info("[%s@%s] gets a connection from the reserve, %u of %u in use", to->shared->user,
             to->shared->database, c->current - c->max, c->reserve);
}

static struct message *permit(const struct claim *claim, uint64_t count, bool background)
{
    return MESSAGE(POOL_PERMIT, .term = claim->term, .number = claim->number, .count = count,
                   .background = background);
}

/* A successor counts from what it was told that we have: clients that are still here wait, and move
 * with their place in the queue. */
static bool may_grant(const struct coordinator *c)
{
    return c->max > 0 && !atomic_load_explicit(&app.handed_over, memory_order_relaxed);
}

/* Grants what is free; then what is not is looked for elsewhere. The pool that asks with `m` is
 * answered, others are told. */
static void match(struct worker *w, struct coordinator *c, struct message *m)
{
    struct claim *best;

    c->withheld = !may_grant(c);
    while (!c->withheld && c->current < (uint64_t)c->max + c->reserve &&
           (best = coordinator_best_demand(c)) != NULL)
        hand_out(c, best);
    for (size_t i = 0; i < c->claim_count; i++) {
        struct claim *claim = &c->claims[i];

        if (claim->granted == 0)
            continue;
        struct message *answer = permit(claim, claim->granted, false);
        claim->granted = 0;
        if (m == NULL || claim->pool != m->sender) {
            actor_tell(w, claim->pool, answer);
            continue;
        }
        actor_reply(w, &c->actor, m, answer);
        message_free(answer);
    }
    atomic_store_explicit(&c->shared->current, c->current, memory_order_relaxed);
    coordinator_evict(w, c);
}

/* --- what it is told --- */

static void on_configure(struct worker *w, struct coordinator *c)
{
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, c->shared->database);
    bool capped = pool != NULL && config_caps(pool);

    c->max = capped ? (uint32_t)pool->max_db_connections : 0;
    c->reserve = capped ? (uint32_t)pool->reserve_pool_size : 0;
    config_unref(config);
    atomic_store(&c->shared->max, c->max);
    atomic_store(&c->shared->reserve, c->reserve);
    match(w, c, NULL);
}

static void on_join(struct worker *w, struct coordinator *c, struct message *m)
{
    struct msg_COORDINATOR_JOIN join = message_get_COORDINATOR_JOIN(m);
    struct claim *claim = claim_of(c, m, join.term);

    if (claim == NULL) {
        char *user = strndup((const char *)join.user.at, join.user.len);

        INVARIANT(user != NULL);
        claim = claim_add(c);
        claim->pool = m->sender;
        claim->shared = directory_find(c->shared->database, user);
        free(user);
        INVARIANT(claim->shared != NULL);
        claim->term = join.term;
        claim->held = (uint32_t)join.held;
        c->current += claim->held;
    }
    claim->minimum = (uint32_t)join.minimum;
    match(w, c, NULL);
}

static void on_inherit(struct coordinator *c, struct message *m)
{
    struct msg_COORDINATOR_INHERIT inherit = message_get_COORDINATOR_INHERIT(m);
    struct claim *claim = claim_of(c, m, inherit.term);

    if (claim == NULL)
        return;
    claim->held += (uint32_t)inherit.count;
    c->current += (uint32_t)inherit.count;
    atomic_store_explicit(&c->shared->current, c->current, memory_order_relaxed);
}

/* What it held is written off with it, granted on the way or not. */
static void on_leave(struct worker *w, struct coordinator *c, struct message *m)
{
    struct claim *claim = claim_of(c, m, message_get_COORDINATOR_LEAVE(m).term);

    if (claim == NULL)
        return;
    c->current -= claim->held;
    if (c->asking == claim->pool)
        c->asking = 0;
    *claim = c->claims[--c->claim_count];
    match(w, c, NULL);
}

/* Asked for in the background: not from the reserve, and only while `spare` are free. */
static void want_now(struct worker *w, struct coordinator *c, struct claim *claim, uint64_t spare,
                     struct message *m)
{
    if (!may_grant(c) || c->current + MAX(spare, 1ull) > c->max)
        return;
    claim->held++;
    c->current++;
    struct message *answer = permit(claim, 1, true);
    actor_reply(w, &c->actor, m, answer);
    message_free(answer);
}

static void on_want(struct worker *w, struct coordinator *c, struct message *m)
{
    struct msg_COORDINATOR_WANT want = message_get_COORDINATOR_WANT(m);
    struct claim *claim = claim_of(c, m, want.term);

    if (claim == NULL)
        return;
    if (want.background) {
        want_now(w, c, claim, want.spare, m);
        return;
    }
    if (claim->wanted == 0) {
        claim->since = ++c->tickets;
        claim->passed = 0;
    }
    claim->wanted = (uint32_t)want.count;
    claim->number = want.number;
    for (size_t i = 0; i < c->claim_count && want.count > 0; i++)
        c->claims[i].asked = false;
    match(w, c, m);
}

static void on_release(struct worker *w, struct coordinator *c, struct message *m)
{
    struct msg_COORDINATOR_RELEASE release = message_get_COORDINATOR_RELEASE(m);
    struct claim *claim = claim_of(c, m, release.term);
    bool promised = release.evicted == EVICTED_LATER || release.evicted == EVICTED_LOST;

    if (claim == NULL)
        return;
    INVARIANT(claim->held > 0 && c->current > 0);
    claim->held--;
    c->current--;
    if (release.evicted != EVICTED_NOT)
        claim->closing--;
    if (promised && claim->paid > 0)
        claim->paid--;
    else
        claim->promised -= promised;
    c->evictions += release.evicted == EVICTED_NOW || release.evicted == EVICTED_LATER;
    match(w, c, NULL);
}

static void on_idle(struct worker *w, struct coordinator *c, struct message *m)
{
    struct claim *claim = claim_of(c, m, message_get_COORDINATOR_IDLE(m).term);

    if (claim == NULL)
        return;
    claim->asked = false;
    claim->ask_us = claim->asked_us + ASK_AGAIN_US;
    coordinator_evict(w, c);
}

static void on_kept(struct worker *w, struct coordinator *c, struct message *m)
{
    struct msg_COORDINATOR_KEPT kept = message_get_COORDINATOR_KEPT(m);
    struct claim *claim = claim_of(c, m, kept.term);

    if (claim == NULL)
        return;
    claim->keeping--;
    claim->promised--;
    if (kept.done)
        claim->closing--;
    else
        claim->paid++; /* it is being closed already */
    coordinator_evict(w, c);
}

/* What the limits do not cover is the reserve's: what has rested may go, main being full. */
static void on_tick(struct worker *w, struct coordinator *c)
{
    c->stale = c->current > c->max ? c->current - c->max : 0;
    for (size_t i = 0; i < c->claim_count; i++)
        c->claims[i].asked_stale = false;
    coordinator_evict(w, c);
}

static void on_alarm(struct worker *w, struct coordinator *c, struct message *m)
{
    if (m->alarm.token == c->alarm_us)
        c->alarm_us = 0;
    for (size_t i = 0; i < c->claim_count; i++) {
        if (c->claims[i].ask_us <= w->now_us)
            c->claims[i].asked = false;
    }
    coordinator_evict(w, c);
}

static void coordinator_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct coordinator *c = coordinator_of(self);

    switch (m->kind) {
    case MESSAGE_START:
    case MSG_COORDINATOR_CONFIGURE: on_configure(w, c); break;
    case MSG_COORDINATOR_JOIN: on_join(w, c, m); break;
    case MSG_COORDINATOR_INHERIT: on_inherit(c, m); break;
    case MSG_COORDINATOR_LEAVE: on_leave(w, c, m); break;
    case MSG_COORDINATOR_WANT: on_want(w, c, m); break;
    case MSG_COORDINATOR_RELEASE: on_release(w, c, m); break;
    case MSG_COORDINATOR_IDLE: on_idle(w, c, m); break;
    case MSG_COORDINATOR_EVICTING: coordinator_on_evicting(w, c, m); break;
    case MSG_COORDINATOR_KEPT: on_kept(w, c, m); break;
    case MSG_COORDINATOR_EXHAUSTED: c->exhaustions++; break;
    case MSG_COORDINATOR_TICK: on_tick(w, c); break;
    case MESSAGE_ALARM: on_alarm(w, c, m); break;
    default: INVARIANT(!"a coordinator does not understand this kind of message");
    }
    if (UNLIKELY(c->withheld) && may_grant(c)) /* the successor has died */
        match(w, c, NULL);
    coordinator_check(c);
}

void coordinator_check(const struct coordinator *c)
{
    uint64_t held = 0;
    uint64_t wanted = 0;

    for (size_t i = 0; i < c->claim_count; i++) {
        const struct claim *claim = &c->claims[i];

        INVARIANT(claim->closing <= claim->held && claim->keeping <= claim->promised);
        INVARIANT(claim->promised + claim->paid <= claim->closing);
        INVARIANT(claim->granted == 0);
        held += claim->held;
        wanted += claim->wanted;
    }
    INVARIANT(held == c->current);
    /* Nobody wants what is free. */
    INVARIANT(wanted == 0 || c->withheld || c->current >= (uint64_t)c->max + c->reserve);
}

/* --- for people --- */

void coordinator_trouble(const struct coordination *shared, const char *user, char *out,
                         size_t size)
{
    uint32_t max = atomic_load(&shared->max);
    uint32_t reserve = atomic_load(&shared->reserve);
    uint32_t current = atomic_load(&shared->current);
    char room[64] = "";

    if (reserve > 0)
        snprintf(room, sizeof room, ", reserve=%u/%u", current > max ? current - max : 0, reserve);
    snprintf(out, size, "all server connections to database '%s' are in use (max=%u%s, user='%s')",
             shared->database, max, room, user);
}

static void pack_claim(const struct claim *claim, struct packer *out)
{
    pack_map(out, 5);
    pack_str(out, "user");
    pack_str(out, claim->shared->user);
    pack_str(out, "held");
    pack_uint(out, claim->held);
    pack_str(out, "wanted");
    pack_uint(out, claim->wanted);
    pack_str(out, "closing");
    pack_uint(out, claim->closing);
    pack_str(out, "minimum");
    pack_uint(out, claim->minimum);
}

static uint32_t coordinator_pack(const struct actor *a, struct packer *out)
{
    const struct coordinator *c = CONTAINER_OF(a, struct coordinator, actor);

    pack_str(out, "database");
    pack_str(out, c->shared->database);
    pack_str(out, "max");
    pack_uint(out, c->max);
    pack_str(out, "reserve");
    pack_uint(out, c->reserve);
    pack_str(out, "current");
    pack_uint(out, c->current);
    pack_str(out, "claims");
    pack_array(out, (uint32_t)c->claim_count);
    for (size_t i = 0; i < c->claim_count; i++)
        pack_claim(&c->claims[i], out);
    return 5;
}

static const char *coordinator_state(const struct actor *a)
{
    const struct coordinator *c = CONTAINER_OF(a, struct coordinator, actor);

    return c->max == 0 ? "off" : c->current < c->max ? "open" : "full";
}

const struct actor_type coordinator_type = {
    .name = "coordinator",
    .size = sizeof(struct coordinator),
    .rank = RANK_COORDINATOR,
    .number = 7,
    .receive = coordinator_receive,
    .pack = coordinator_pack,
    .state_name = coordinator_state,
    .kind_name = message_kind_name,
};
