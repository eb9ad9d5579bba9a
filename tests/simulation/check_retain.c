/* What a retain cycle does to a pool, seen from outside: which idle backends it closes, whether it
 * was their time, and how many all pools together lose. */
#include "tests/simulation/check.h"

#include "runtime/sim.h"

enum { IDLE_MAX = 128 };

/* An idle backend before the cycle. */
struct rested {
    const struct backend *backend;
    bool expired;
};

struct retain {
    struct rested rested[IDLE_MAX];
    unsigned count;
    uint32_t quota;
};

static bool is_expired(const struct worker *w, const struct backend *b)
{
    return (b->lifetime_us != 0 && w->now_us > b->created_us + b->lifetime_us) ||
           (b->idle_limit_us != 0 && b->uses > 0 &&
            w->now_us > b->idle_since_us + b->idle_limit_us);
}

static void check_limit(const struct backend *b, const char *what, uint64_t is_us, uint64_t base_ms)
{
    uint64_t base_us = base_ms * 1000;

    if (base_us == 0 ? is_us != 0 : is_us < base_us / 10 * 8 || is_us > base_us / 10 * 12 + 10)
        sim_fail("backend pid %d: %s is %llu us, of %llu", b->pid, what, (unsigned long long)is_us,
                 (unsigned long long)base_us);
}

/* Each backend draws its own; by chance two may have one in common, but not both. */
static void check_limits(const struct pool *p)
{
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        const struct backend *next = b->pool_next;

        check_limit(b, "lifetime", b->lifetime_us, p->effective->server_lifetime_ms);
        check_limit(b, "idle limit", b->idle_limit_us, p->effective->idle_timeout_ms);
        if (next != NULL && b->lifetime_us > 1000000 && b->lifetime_us == next->lifetime_us &&
            b->idle_limit_us == next->idle_limit_us)
            sim_fail("backends pid %d and %d have the same limits", b->pid, next->pid);
    }
}

static struct retain before(const struct worker *w, const struct pool *p)
{
    struct retain r = {.quota = atomic_load(&pool_trim_quota)};

    for (const struct backend *b = p->backends; b != NULL && r.count < IDLE_MAX; b = b->pool_next) {
        if (b->state == BACKEND_IDLE)
            r.rested[r.count++] = (struct rested){b, is_expired(w, b)};
    }
    return r;
}

static void check_trimmed(const struct pool *p, const struct retain *r, bool pressed)
{
    const struct backend *youngest = NULL; /* of those that were closed */
    uint32_t left = atomic_load(&pool_trim_quota);
    unsigned closed = 0;

    for (unsigned i = 0; i < r->count; i++) {
        const struct backend *b = r->rested[i].backend;

        if (b->state != BACKEND_CLOSING)
            continue;
        closed++;
        if (!r->rested[i].expired || pressed)
            sim_fail("backend pid %d is closed by the retain cycle %s", b->pid,
                     pressed ? "while clients wait" : "before its time");
        if (youngest == NULL || b->created_us > youngest->created_us)
            youngest = b;
    }
    if (r->quota == UINT32_MAX ? left != UINT32_MAX : closed != r->quota - left)
        sim_fail("%u backends are closed, and the quota goes from %u to %u", closed, r->quota,
                 left);
    for (unsigned i = 0; i < r->count; i++) {
        const struct backend *b = r->rested[i].backend;

        if (b->state != BACKEND_IDLE || !r->rested[i].expired)
            continue;
        if (left > 0 && !pressed)
            sim_fail("backend pid %d of pool %u outlives a retain cycle that may close it", b->pid,
                     p->actor.index);
        if (youngest != NULL && b->created_us < youngest->created_us)
            sim_fail("backend pid %d is closed before pid %d, which is older", youngest->pid,
                     b->pid);
    }
}

void check_retain(struct worker *w, struct pool *p, struct message *m,
                  void (*receive)(struct worker *w, struct actor *a, struct message *m))
{
    struct retain r = before(w, p);
    bool pressed = p->waiting > 0;

    if (p->effective != NULL)
        check_limits(p);
    receive(w, &p->actor, m);
    if (!p->actor.dying)
        check_trimmed(p, &r, pressed);
}
