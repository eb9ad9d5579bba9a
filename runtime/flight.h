/* flight.h: the last messages of each worker, for the crash report and the snapshot.
 *
 * A ring of records per worker, written by that worker alone with relaxed stores (a few
 * nanoseconds), read by anyone at any time: a record that is overwritten while it is read is
 * recognised by its sequence number and left out.
 */
#ifndef RUNTIME_FLIGHT_H
#define RUNTIME_FLIGHT_H

#include "runtime/base.h"

#include <stdatomic.h>

enum { FLIGHT_RECORDS = 4096 }; /* power of two */

struct flight_slot {
    _Atomic uint64_t at_us;
    _Atomic uint64_t actor;
    _Atomic uint64_t what;     /* detail << 32 | kind << 8 | type */
    _Atomic uint64_t sequence; /* written last; position + 1 */
};

struct flight {
    uint16_t worker;
    _Atomic uint64_t written;
    struct flight_slot slots[FLIGHT_RECORDS];
};

struct flight_record {
    uint64_t at_us;
    uint64_t actor;
    uint32_t detail;
    uint16_t kind;
    uint8_t type;
    uint16_t worker;
};

/* Registers the ring so that a crash dumps it. Never NULL, never freed. */
struct flight *flight_new(uint16_t worker);

/* Owner only. */
static inline void flight_record(struct flight *f, uint64_t at_us, uint64_t actor, uint8_t type,
                                 uint16_t kind, uint32_t detail)
{
    uint64_t position = atomic_load_explicit(&f->written, memory_order_relaxed);
    struct flight_slot *slot = &f->slots[position & (FLIGHT_RECORDS - 1)];

    /* A reader that sees the old sequence around new fields is told apart by the zero. */
    atomic_store_explicit(&slot->sequence, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&slot->at_us, at_us, memory_order_relaxed);
    atomic_store_explicit(&slot->actor, actor, memory_order_relaxed);
    atomic_store_explicit(&slot->what, (uint64_t)detail << 32 | (uint64_t)kind << 8 | type,
                          memory_order_relaxed);
    atomic_store_explicit(&slot->sequence, position + 1, memory_order_release);
    atomic_store_explicit(&f->written, position + 1, memory_order_release);
}

/* Calls visit for the records of one ring, oldest first. Any thread. */
void flight_each(const struct flight *f,
                 void (*visit)(void *context, const struct flight_record *r), void *context);
/* All registered rings as text, to a descriptor, with nothing but write(): for signal handlers.
 * The names of types and kinds come from the callback (NULL: numbers). */
void flight_dump(int fd, const char *(*name)(uint8_t type, uint16_t kind));

#endif
