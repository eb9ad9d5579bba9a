/* Idle backends: a stack by default, so that the surplus shows and ages; a queue with
 * server_round_robin. */
#include "actors/pool_internal.h"

#include <stdlib.h>

enum { IDLE_SIZE_MIN = 16 };

static struct backend *idle_at(const struct pool *p, uint32_t i)
{
    return p->idle[(p->idle_head + i) & (p->idle_size - 1)];
}

void pool_idle_push(struct pool *p, struct backend *b)
{
    if (p->idle_count == p->idle_size) {
        uint32_t size = MAX(p->idle_size * 2, (uint32_t)IDLE_SIZE_MIN);
        struct backend **ring = calloc(size, sizeof *ring);

        INVARIANT(ring != NULL);
        for (uint32_t i = 0; i < p->idle_count; i++)
            ring[i] = idle_at(p, i);
        free(p->idle);
        p->idle = ring;
        p->idle_head = 0;
        p->idle_size = size;
    }
    p->idle[(p->idle_head + p->idle_count++) & (p->idle_size - 1)] = b;
}

struct backend *pool_idle_pop(struct pool *p)
{
    if (p->idle_count == 0)
        return NULL;
    p->idle_count--;
    if (!p->effective->server_round_robin)
        return idle_at(p, p->idle_count);
    return p->idle[p->idle_head++ & (p->idle_size - 1)];
}

bool pool_idle_remove(struct pool *p, const struct backend *b)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < p->idle_count; i++) {
        struct backend *at = idle_at(p, i);

        if (at != b)
            p->idle[(p->idle_head + kept++) & (p->idle_size - 1)] = at;
    }
    bool found = kept != p->idle_count;
    p->idle_count = kept;
    return found;
}

bool pool_is_anothers(const struct backend *b, actor_id taker)
{
    return (b->dirt & DIRT_LAZY) != 0 && b->temp_owner != taker;
}

struct backend *pool_idle_pop_for(struct pool *p, actor_id taker)
{
    struct backend *b = pool_idle_pop(p);

    if (LIKELY(b == NULL || !pool_is_anothers(b, taker)))
        return b;
    for (uint32_t i = p->idle_count; i-- > 0;) {
        struct backend *other = idle_at(p, i);

        if (pool_is_anothers(other, taker))
            continue;
        pool_idle_remove(p, other);
        pool_idle_push(p, b);
        return other;
    }
    return b;
}

void pool_end_idle(struct worker *w, struct pool *p, const char *reason)
{
    struct backend *b;

    while ((b = pool_idle_pop(p)) != NULL)
        pool_backend_end(w, p, b, reason);
}
