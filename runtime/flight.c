#include "runtime/flight.h"

#include "runtime/safe_text.h"

#include <stdlib.h>

_Static_assert((FLIGHT_RECORDS & (FLIGHT_RECORDS - 1)) == 0, "positions are masked");

/* DUMPED: of each worker. A crash report must stay readable, and come before its time limit. */
enum { RINGS_MAX = 1024, DUMPED_RECORDS = 256 };

static struct flight *_Atomic rings[RINGS_MAX];
static _Atomic uint32_t ring_count;

struct flight *flight_new(uint16_t worker)
{
    struct flight *f = calloc(1, sizeof *f);

    INVARIANT(f != NULL);
    f->worker = worker;
    /* Rings beyond the limit, in long simulations, record as well but are not dumped. */
    uint32_t at = atomic_load_explicit(&ring_count, memory_order_relaxed);
    while (at < RINGS_MAX && !atomic_compare_exchange_weak(&ring_count, &at, at + 1))
        ;
    if (at < RINGS_MAX)
        atomic_store_explicit(&rings[at], f, memory_order_release);
    return f;
}

/* False when the slot holds another position, or changes while it is read. */
static bool read_slot(const struct flight *f, uint64_t position, struct flight_record *out)
{
    const struct flight_slot *slot = &f->slots[position & (FLIGHT_RECORDS - 1)];

    if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != position + 1)
        return false;
    /* Acquire loads keep the second look at the sequence behind them: no fence is needed, and the
     * thread sanitizer understands it. */
    uint64_t at_us = atomic_load_explicit(&slot->at_us, memory_order_acquire);
    uint64_t actor = atomic_load_explicit(&slot->actor, memory_order_acquire);
    uint64_t what = atomic_load_explicit(&slot->what, memory_order_acquire);
    if (atomic_load_explicit(&slot->sequence, memory_order_relaxed) != position + 1)
        return false;
    *out = (struct flight_record){
        .at_us = at_us,
        .actor = actor,
        .detail = (uint32_t)(what >> 32),
        .kind = (uint16_t)(what >> 8),
        .type = (uint8_t)what,
        .worker = f->worker,
    };
    return true;
}

void flight_each(const struct flight *f,
                 void (*visit)(void *context, const struct flight_record *r), void *context)
{
    uint64_t end = atomic_load_explicit(&f->written, memory_order_acquire);
    uint64_t position = end > FLIGHT_RECORDS ? end - FLIGHT_RECORDS : 0;

    for (; position < end; position++) {
        struct flight_record r;

        if (read_slot(f, position, &r))
            visit(context, &r);
    }
}

static void dump_record(int fd, const struct flight_record *r,
                        const char *(*name)(uint8_t type, uint16_t kind))
{
    const char *text = name != NULL ? name(r->type, r->kind) : NULL;
    struct safe_text t;

    t.len = 0;
    safe_text_add(&t, "  ");
    safe_text_decimal(&t, r->at_us);
    safe_text_add(&t, "us ");
    safe_text_hex(&t, r->actor);
    safe_text_add(&t, " ");
    if (text != NULL) {
        safe_text_add(&t, text);
    } else {
        safe_text_decimal(&t, r->type);
        safe_text_add(&t, ".");
        safe_text_decimal(&t, r->kind);
    }
    safe_text_add(&t, " ");
    safe_text_decimal(&t, r->detail);
    safe_text_add(&t, "\n");
    safe_text_write(&t, fd);
}

static void dump_ring(int fd, const struct flight *f,
                      const char *(*name)(uint8_t type, uint16_t kind))
{
    uint64_t end = atomic_load_explicit(&f->written, memory_order_acquire);
    uint64_t position = end > DUMPED_RECORDS ? end - DUMPED_RECORDS : 0;
    struct safe_text t;

    t.len = 0;
    safe_text_add(&t, "last messages of worker ");
    safe_text_decimal(&t, f->worker);
    safe_text_add(&t, ", ");
    safe_text_decimal(&t, end - position);
    safe_text_add(&t, " of ");
    safe_text_decimal(&t, end);
    safe_text_add(&t, ":\n");
    safe_text_write(&t, fd);
    for (; position < end; position++) {
        struct flight_record r;

        if (read_slot(f, position, &r))
            dump_record(fd, &r, name);
    }
}

void flight_dump(int fd, const char *(*name)(uint8_t type, uint16_t kind))
{
    uint32_t count = atomic_load_explicit(&ring_count, memory_order_acquire);

    for (uint32_t i = 0; i < count; i++) {
        const struct flight *f = atomic_load_explicit(&rings[i], memory_order_acquire);

        if (f != NULL)
            dump_ring(fd, f, name);
    }
}
