/* statement_set.c: a chained hash table whose nodes also form a list from newest to oldest.
 *
 * Nodes live in one array and know each other by index: half the size of pointers, one allocation
 * when the set grows, and none when a statement replaces another one. There are as many buckets as
 * nodes. A backend that never saw a statement has neither.
 */
#include "actors/statement_internal.h"

#include <stdlib.h>

#define NONE         UINT32_MAX
#define CAPACITY_MIN 4u

struct set_node {
    struct statement *statement; /* NULL: free */
    uint32_t chain;              /* the next one in the bucket or on the free list */
    uint32_t newer;
    uint32_t older;
    uint32_t stamp; /* the caller's */
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
    uint64_t text_bytes;
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

void statement_set_limit(struct statement_set *set, uint32_t bound)
{
    set->bound = bound;
}

static uint32_t *bucket_of(const struct statement_set *set, uint64_t hash)
{
    return &set->buckets[(uint32_t)hash & (set->capacity - 1)];
}

/* The set holds a reference to what is in it, so the address tells statements apart. */
static uint32_t set_find(const struct statement_set *set, const struct statement *s)
{
    uint32_t i;

    if (set->count == 0)
        return NONE;
    for (i = *bucket_of(set, s->hash); i != NONE; i = set->nodes[i].chain) {
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

static void order_trail(struct statement_set *set, uint32_t i)
{
    set->nodes[i].older = NONE;
    set->nodes[i].newer = set->oldest;
    *(set->oldest == NONE ? &set->newest : &set->nodes[set->oldest].older) = i;
    set->oldest = i;
}

static void bucket_link(struct statement_set *set, uint32_t i)
{
    uint32_t *bucket = bucket_of(set, set->nodes[i].statement->hash);

    set->nodes[i].chain = *bucket;
    *bucket = i;
}

static void bucket_unlink(struct statement_set *set, uint32_t i)
{
    uint32_t *link = bucket_of(set, set->nodes[i].statement->hash);

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

static void promote(struct statement_set *set, uint32_t i)
{
    if (i == set->newest)
        return;
    order_unlink(set, &set->nodes[i]);
    order_lead(set, i);
}

bool statement_set_has(struct statement_set *set, const struct statement *s)
{
    uint32_t i = set_find(set, s);

    if (i == NONE)
        return false;
    promote(set, i);
    return true;
}

struct statement *statement_set_find(struct statement_set *set, const struct statement_key *key)
{
    if (set->count == 0)
        return NULL;
    for (uint32_t i = *bucket_of(set, key->hash); i != NONE; i = set->nodes[i].chain) {
        struct statement *s = set->nodes[i].statement;

        if (s->hash != key->hash || !statement_is(s, key))
            continue;
        promote(set, i);
        return s;
    }
    return NULL;
}

static uint32_t set_place(struct statement_set *set, struct statement *s)
{
    uint32_t i;

    INVARIANT(set_find(set, s) == NONE);
    if (set->free == NONE)
        set_grow(set);
    i = set->free;
    set->free = set->nodes[i].chain;
    set->nodes[i] = (struct set_node){.statement = statement_ref(s)};
    bucket_link(set, i);
    set->count++;
    set->text_bytes += s->text->tail_len;
    return i;
}

void statement_set_add(struct statement_set *set, struct statement *s)
{
    order_lead(set, set_place(set, s));
}

void statement_set_restore(struct statement_set *set, struct statement *s)
{
    order_trail(set, set_place(set, s));
}

void statement_set_restore_stamped(struct statement_set *set, struct statement *s, uint32_t stamp)
{
    uint32_t i = set_place(set, s);

    set->nodes[i].stamp = stamp;
    order_trail(set, i);
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
    set->text_bytes -= s->text->tail_len;
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

void statement_set_each_stamped(const struct statement_set *set,
                                void (*visit)(void *context, struct statement *s, uint32_t stamp),
                                void *context)
{
    for (uint32_t i = set->newest; i != NONE; i = set->nodes[i].older)
        visit(context, set->nodes[i].statement, set->nodes[i].stamp);
}

struct statement *statement_set_excess(const struct statement_set *set)
{
    return set->count > set->bound ? set->nodes[set->oldest].statement : NULL;
}

uint32_t *statement_set_stamp(struct statement_set *set)
{
    return &set->nodes[set->newest].stamp;
}

struct statement *statement_set_oldest(const struct statement_set *set, uint32_t *stamp)
{
    if (set->oldest == NONE)
        return NULL;
    *stamp = set->nodes[set->oldest].stamp;
    return set->nodes[set->oldest].statement;
}

size_t statement_set_bytes(const struct statement_set *set)
{
    return sizeof *set + set->capacity * (sizeof *set->nodes + sizeof *set->buckets);
}

uint64_t statement_set_text_bytes(const struct statement_set *set)
{
    return set->text_bytes;
}

/* A share of the limit: with a usual number of backends all shares are less than half of it. When
 * they turn out not to be, a share that is small for a thousand of them. */
uint64_t statement_set_allowance(void)
{
    uint64_t bytes = atomic_load_explicit(&statement_text_bytes, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&statement_bytes_limit, memory_order_relaxed);

    if (bytes <= limit / 2)
        return UINT64_MAX;
    return bytes <= limit - limit / 4 ? limit / 64 : limit / 1024;
}

void statement_set_each(const struct statement_set *set,
                        void (*visit)(void *context, struct statement *s), void *context)
{
    for (uint32_t i = set->newest; i != NONE; i = set->nodes[i].older)
        visit(context, set->nodes[i].statement);
}

void statement_set_check(const struct statement_set *set)
{
    uint32_t in_order = 0;
    uint32_t in_chains = 0;
    uint32_t unused = 0;
    uint32_t newer = NONE;
    uint64_t text_bytes = 0;

    for (uint32_t i = set->newest; i != NONE; i = set->nodes[i].older) {
        INVARIANT(i < set->capacity && ++in_order <= set->count);
        INVARIANT(set->nodes[i].newer == newer);
        INVARIANT(set_find(set, set->nodes[i].statement) == i);
        text_bytes += set->nodes[i].statement->text->tail_len;
        newer = i;
    }
    for (uint32_t b = 0; b < set->capacity; b++) {
        for (uint32_t i = set->buckets[b]; i != NONE; i = set->nodes[i].chain)
            INVARIANT(++in_chains <= set->count);
    }
    for (uint32_t i = set->free; i != NONE; i = set->nodes[i].chain)
        INVARIANT(set->nodes[i].statement == NULL && ++unused <= set->capacity);
    INVARIANT(set->oldest == newer && set->text_bytes == text_bytes);
    INVARIANT(in_order == set->count && in_chains == set->count);
    INVARIANT(set->count + unused == set->capacity);
}
