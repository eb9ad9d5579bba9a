/* statement_set.c: a chained hash table whose nodes also form a list from newest to oldest.
 *
 * Nodes live in one array and know each other by index: half the size of pointers, one allocation
 * when the set grows, and none when a statement replaces another one. There are as many buckets as
 * nodes. A backend that never saw a statement has neither.
 */
#include "actors/statement_internal.h"

#include <stdlib.h>

#define NONE         UINT32_MAX
#define CAPACITY_MIN 8u

struct set_node {
    struct statement *statement; /* NULL: free */
    uint32_t chain;              /* the next one in the bucket or on the free list */
    uint32_t newer;
    uint32_t older;
};

struct statement_set {
    struct set_node *nodes;
    uint32_t *buckets;
    uint32_t capacity; /* of both; 0 or a power of two */
    uint32_t bound;
    uint32_t count;
    uint32_t newest;
    uint32_t oldest;
    uint32_t free;
};

struct statement_set *statement_set_new(uint32_t bound)
{
    struct statement_set *set = calloc(1, sizeof *set);

    INVARIANT(set != NULL);
    set->bound = bound;
    set->newest = NONE;
    set->oldest = NONE;
    set->free = NONE;
    return set;
}

void statement_set_free(struct statement_set *set)
{
    if (set == NULL)
        return;
    statement_set_clear(set);
    free(set->nodes);
    free(set->buckets);
    free(set);
}

static uint32_t *bucket_of(const struct statement_set *set, const struct statement *s)
{
    return &set->buckets[(uint32_t)s->hash & (set->capacity - 1)];
}

/* The set holds a reference to what is in it, so the address tells statements apart. */
static uint32_t set_find(const struct statement_set *set, const struct statement *s)
{
    uint32_t i;

    if (set->count == 0)
        return NONE;
    for (i = *bucket_of(set, s); i != NONE; i = set->nodes[i].chain) {
        if (set->nodes[i].statement == s)
            break;
    }
    return i;
}

static void order_unlink(struct statement_set *set, const struct set_node *node)
{
    *(node->newer == NONE ? &set->newest : &set->nodes[node->newer].older) = node->older;
    *(node->older == NONE ? &set->oldest : &set->nodes[node->older].newer) = node->newer;
}

static void order_lead(struct statement_set *set, uint32_t i)
{
    set->nodes[i].newer = NONE;
    set->nodes[i].older = set->newest;
    *(set->newest == NONE ? &set->oldest : &set->nodes[set->newest].newer) = i;
    set->newest = i;
}

static void bucket_link(struct statement_set *set, uint32_t i)
{
    uint32_t *bucket = bucket_of(set, set->nodes[i].statement);

    set->nodes[i].chain = *bucket;
    *bucket = i;
}

static void bucket_unlink(struct statement_set *set, uint32_t i)
{
    uint32_t *link = bucket_of(set, set->nodes[i].statement);

    while (*link != i)
        link = &set->nodes[*link].chain;
    *link = set->nodes[i].chain;
}

/* Called when every node is in use, so that all old ones go into new buckets. */
static void set_grow(struct statement_set *set)
{
    uint32_t before = set->capacity;
    uint32_t capacity = MAX(2 * before, CAPACITY_MIN);

    INVARIANT(set->count == before && before <= UINT32_MAX / 4);
    set->nodes = realloc(set->nodes, capacity * sizeof *set->nodes);
    free(set->buckets);
    set->buckets = malloc(capacity * sizeof *set->buckets);
    INVARIANT(set->nodes != NULL && set->buckets != NULL);
    set->capacity = capacity;

    for (uint32_t i = 0; i < capacity; i++)
        set->buckets[i] = NONE;
    for (uint32_t i = 0; i < before; i++)
        bucket_link(set, i);
    for (uint32_t i = capacity; i-- > before;) {
        set->nodes[i] = (struct set_node){.chain = set->free};
        set->free = i;
    }
    DEBUG_CHECK((statement_set_check(set), true));
}

bool statement_set_has(struct statement_set *set, const struct statement *s)
{
    uint32_t i = set_find(set, s);

    if (i == NONE)
        return false;
    if (i != set->newest) {
        order_unlink(set, &set->nodes[i]);
        order_lead(set, i);
    }
    return true;
}

void statement_set_add(struct statement_set *set, struct statement *s)
{
    uint32_t i;

    INVARIANT(set_find(set, s) == NONE);
    if (set->free == NONE)
        set_grow(set);
    i = set->free;
    set->free = set->nodes[i].chain;
    set->nodes[i].statement = statement_ref(s);
    bucket_link(set, i);
    order_lead(set, i);
    set->count++;
}

static void set_drop(struct statement_set *set, uint32_t i)
{
    struct set_node *node = &set->nodes[i];
    struct statement *s = node->statement;

    bucket_unlink(set, i);
    order_unlink(set, node);
    *node = (struct set_node){.chain = set->free};
    set->free = i;
    set->count--;
    statement_unref(s);
}

void statement_set_remove(struct statement_set *set, const struct statement *s)
{
    uint32_t i = set_find(set, s);

    if (i != NONE)
        set_drop(set, i);
}

void statement_set_clear(struct statement_set *set)
{
    DEBUG_CHECK((statement_set_check(set), true));
    while (set->oldest != NONE)
        set_drop(set, set->oldest);
    INVARIANT(set->count == 0);
}

uint32_t statement_set_count(const struct statement_set *set)
{
    return set->count;
}

struct statement *statement_set_excess(const struct statement_set *set)
{
    return set->count > set->bound ? set->nodes[set->oldest].statement : NULL;
}

void statement_set_check(const struct statement_set *set)
{
    uint32_t in_order = 0;
    uint32_t in_chains = 0;
    uint32_t unused = 0;
    uint32_t newer = NONE;

    for (uint32_t i = set->newest; i != NONE; i = set->nodes[i].older) {
        INVARIANT(i < set->capacity && ++in_order <= set->count);
        INVARIANT(set->nodes[i].newer == newer);
        INVARIANT(set_find(set, set->nodes[i].statement) == i);
        newer = i;
    }
    for (uint32_t b = 0; b < set->capacity; b++) {
        for (uint32_t i = set->buckets[b]; i != NONE; i = set->nodes[i].chain)
            INVARIANT(++in_chains <= set->count);
    }
    for (uint32_t i = set->free; i != NONE; i = set->nodes[i].chain)
        INVARIANT(set->nodes[i].statement == NULL && ++unused <= set->capacity);
    INVARIANT(set->oldest == newer);
    INVARIANT(in_order == set->count && in_chains == set->count);
    INVARIANT(set->count + unused == set->capacity);
}
