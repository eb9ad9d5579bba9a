#include "runtime/log_internal.h"

#include <stdlib.h>

/* A slot's turn says whose it is: equal to a position, it is free for the writer that gets this
 * position; one more, it is full for the reader. Writers that are interrupted between claiming
 * and filling hold up the reader only, never each other. */
struct log_slot {
    uint64_t turn;
    struct log_record record;
};

struct log_ring {
    _Alignas(CACHE_LINE) uint64_t tail;
    _Alignas(CACHE_LINE) uint64_t head;
    _Alignas(CACHE_LINE) uint32_t lost;
    uint32_t heap_bytes;
    struct log_slot slots[LOG_SLOTS];
};

struct log_ring *log_ring_new(void)
{
    struct log_ring *ring = aligned_alloc(CACHE_LINE, sizeof *ring);

    _Static_assert((LOG_SLOTS & (LOG_SLOTS - 1)) == 0, "positions are masked");
    if (ring == NULL)
        return NULL;
    memset(ring, 0, sizeof *ring);
    for (uint64_t i = 0; i < LOG_SLOTS; i++)
        ring->slots[i].turn = i;
    return ring;
}

static bool heap_copy(struct log_ring *ring, const char *message, uint32_t len, char **out)
{
    char *copy = NULL;

    if (__atomic_add_fetch(&ring->heap_bytes, len, __ATOMIC_RELAXED) <= LOG_HEAP_LIMIT)
        copy = malloc(len);
    if (copy == NULL) {
        __atomic_sub_fetch(&ring->heap_bytes, len, __ATOMIC_RELAXED);
        return false;
    }
    memcpy(copy, message, len);
    *out = copy;
    return true;
}

static struct log_slot *claim(struct log_ring *ring, uint64_t *position)
{
    uint64_t tail = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);

    for (;;) {
        struct log_slot *slot = &ring->slots[tail & (LOG_SLOTS - 1)];
        int64_t ahead = (int64_t)(__atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) - tail);

        if (ahead < 0)
            return NULL;
        if (ahead > 0) {
            tail = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
            continue;
        }
        if (__atomic_compare_exchange_n(&ring->tail, &tail, tail + 1, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            *position = tail;
            return slot;
        }
    }
}

bool log_ring_put(struct log_ring *ring, const struct log_record *facts, const char *message)
{
    uint32_t len = MIN(facts->len, (uint32_t)LOG_MESSAGE_MAX);
    char *heap = NULL;
    uint64_t position;

    if (len > LOG_INLINE && !heap_copy(ring, message, len, &heap)) {
        __atomic_add_fetch(&ring->lost, 1, __ATOMIC_RELAXED);
        return false;
    }
    struct log_slot *slot = claim(ring, &position);
    if (slot == NULL) {
        if (heap != NULL)
            __atomic_sub_fetch(&ring->heap_bytes, len, __ATOMIC_RELAXED);
        free(heap);
        __atomic_add_fetch(&ring->lost, 1, __ATOMIC_RELAXED);
        return false;
    }
    struct log_record *r = &slot->record;
    r->at_ms = facts->at_ms;
    r->module = facts->module;
    r->file = facts->file;
    r->line = facts->line;
    r->level = facts->level;
    r->len = len;
    r->heap = heap;
    r->lost = 0;
    if (heap == NULL)
        memcpy(r->text, message, len);
    if (UNLIKELY(__atomic_load_n(&ring->lost, __ATOMIC_RELAXED) != 0))
        r->lost = __atomic_exchange_n(&ring->lost, 0, __ATOMIC_RELAXED);
    /* Sequentially consistent: orders this line before the look at the sleeping reader. */
    __atomic_store_n(&slot->turn, position + 1, __ATOMIC_SEQ_CST);
    return true;
}

bool log_ring_take(struct log_ring *ring, struct log_record *out)
{
    uint64_t head = ring->head;
    struct log_slot *slot = &ring->slots[head & (LOG_SLOTS - 1)];

    if (__atomic_load_n(&slot->turn, __ATOMIC_SEQ_CST) != head + 1)
        return false;
    *out = slot->record;
    if (out->heap != NULL)
        __atomic_sub_fetch(&ring->heap_bytes, out->len, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->turn, head + LOG_SLOTS, __ATOMIC_RELEASE);
    ring->head = head + 1;
    return true;
}

uint32_t log_ring_lost(struct log_ring *ring)
{
    if (__atomic_load_n(&ring->lost, __ATOMIC_RELAXED) == 0)
        return 0;
    return __atomic_exchange_n(&ring->lost, 0, __ATOMIC_RELAXED);
}

uint64_t log_ring_tail(struct log_ring *ring)
{
    return __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
}

uint64_t log_ring_head(struct log_ring *ring)
{
    return ring->head;
}
