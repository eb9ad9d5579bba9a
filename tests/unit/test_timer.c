#include "runtime/timer.h"
#include "tests/unit/unit.h"

enum { TIMERS = 200, ROUNDS = 20000 };

struct tested {
    struct timer timer;
    uint64_t want_us; /* the model: 0 = not armed */
    uint64_t fired;
};

static struct timer_heap heap;
static struct tested tested[TIMERS];
static uint64_t now_us;
static uint64_t last_fired_us;
static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void fired(struct worker *w, struct timer *timer)
{
    struct tested *t = CONTAINER_OF(timer, struct tested, timer);

    (void)w;
    CHECK(t->want_us != 0 && t->want_us <= now_us, "not due");
    EQ(timer->at_us, t->want_us);
    EQ(timer->place, 0);
    CHECK(timer->at_us >= last_fired_us, "earliest first");
    last_fired_us = timer->at_us;
    t->want_us = 0;
    t->fired++;
    if (next_random() % 4 == 0) { /* again, from its own call */
        t->want_us = now_us + 1 + next_random() % 50;
        timer_arm(&heap, timer, t->want_us);
    }
}

static void arm(struct tested *t)
{
    t->timer.fire = fired;
    t->want_us = now_us + 1 + next_random() % 1000;
    timer_arm(&heap, &t->timer, t->want_us);
}

static void check_against_model(void)
{
    uint64_t earliest = UINT64_MAX;
    uint32_t armed = 0;

    for (int i = 0; i < TIMERS; i++) {
        EQ(tested[i].timer.place != 0, tested[i].want_us != 0);
        if (tested[i].want_us == 0)
            continue;
        armed++;
        earliest = MIN(earliest, tested[i].want_us);
    }
    EQ(heap.count, armed);
    CHECK(timer_next_us(&heap) == earliest);
    CHECK(timer_heap_valid(&heap));
}

TEST(random_operations_agree_with_a_model)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct tested *t = &tested[next_random() % TIMERS];

        switch (next_random() % 4) {
        case 0:
        case 1: arm(t); break;
        case 2:
            timer_disarm(&heap, &t->timer);
            t->want_us = 0;
            break;
        case 3:
            now_us += next_random() % 40;
            last_fired_us = 0;
            timer_run(&heap, NULL, now_us);
            break;
        }
        check_against_model();
    }
    now_us += 1000000;
    for (int i = 0; i < 1000 && heap.count > 0; i++, now_us += 100) {
        last_fired_us = 0;
        timer_run(&heap, NULL, now_us);
    }
    EQ(heap.count, 0);
    CHECK(timer_next_us(&heap) == UINT64_MAX);
    timer_heap_free(&heap);
}

static struct timer *victim;

static void disarms_another(struct worker *w, struct timer *timer)
{
    (void)w;
    (void)timer;
    timer_disarm(&heap, victim);
}

static void must_not_fire(struct worker *w, struct timer *timer)
{
    (void)w;
    (void)timer;
    unit_fail(__FILE__, __LINE__, "a disarmed timer fired");
}

TEST(a_timer_may_disarm_one_that_is_due_as_well)
{
    struct timer first = {.fire = disarms_another};
    struct timer second = {.fire = must_not_fire};

    victim = &second;
    timer_arm(&heap, &first, 10);
    timer_arm(&heap, &second, 11);
    timer_run(&heap, NULL, 100);
    EQ(heap.count, 0);
    timer_disarm(&heap, &second); /* harmless */
    timer_heap_free(&heap);
}
