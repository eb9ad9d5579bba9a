#include "tests/unit/in_runtime.h"

#include <errno.h>

enum {
    KIND_COUNT = MESSAGE_KIND_FIRST,
    KIND_EXIT,
    KIND_QUERY,
    KIND_QUERY_LATER,
    KIND_ANSWER,
    KIND_BUSY, /* on a stack: suspended until the test lets it go on */
    KIND_SCRIPT,
    KIND_SPIN,
};

struct thing {
    struct actor actor;
    uint64_t counted;
    uint64_t started;
    actor_id asker;
    uint8_t order[64];
    unsigned ordered;
    void (*script)(struct worker *w, struct thing *thing);
};

static struct thing *thing_of(struct actor *a)
{
    return CONTAINER_OF(a, struct thing, actor);
}

static _Atomic bool let_go;
static _Atomic bool busy;

static void answer(struct worker *w, struct thing *thing, const struct message *m)
{
    struct message reply = {.kind = KIND_ANSWER};
    uint64_t value = thing->counted + 1000;

    message_set_body(&reply, &value, sizeof value);
    actor_reply(w, &thing->actor, m, &reply);
}

static void thing_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct thing *thing = thing_of(self);

    if (thing->ordered < sizeof thing->order)
        thing->order[thing->ordered++] = (uint8_t)m->kind;
    switch (m->kind) {
    case MESSAGE_START: thing->started++; break;
    case KIND_COUNT: thing->counted++; break;
    case KIND_EXIT: actor_exit(self); break;
    case KIND_QUERY: answer(w, thing, m); break;
    case KIND_QUERY_LATER: thing->asker = m->sender; break;
    case KIND_ANSWER: thing->counted += 100; break;
    case KIND_BUSY:
        atomic_store(&busy, true);
        while (!atomic_load(&let_go))
            wait_sleep(w, 100);
        atomic_store(&busy, false);
        break;
    case KIND_SCRIPT: thing->script(w, thing); break;
    case KIND_SPIN:
        for (uint64_t until = clock_us() + 300; clock_us() < until;)
            ;
        break;
    case MESSAGE_ALARM: thing->counted = thing->counted * 10 + m->alarm.token; break;
    }
}

static bool thing_blocks(const struct actor *self, const struct message *m)
{
    (void)self;
    return m->kind == KIND_BUSY || m->kind == KIND_SCRIPT;
}

static const struct actor_type low = {.name = "low",
                                      .size = sizeof(struct thing),
                                      .rank = 1,
                                      .number = 1,
                                      .receive = thing_receive,
                                      .blocks = thing_blocks};
static const struct actor_type high = {.name = "high",
                                       .size = sizeof(struct thing),
                                       .rank = 2,
                                       .number = 2,
                                       .receive = thing_receive,
                                       .blocks = thing_blocks};

static struct thing *thing_new(struct worker *w, const struct actor_type *type)
{
    struct thing *thing = thing_of(actor_new(type, 0));

    CHECK(thing->counted == 0 && thing->started == 0 && thing->ordered == 0, "not cleared");
    actor_launch(w, &thing->actor);
    return thing;
}

static actor_id id_of(struct thing *thing)
{
    return actor_id_of(&thing->actor);
}

static void nap(struct worker *w)
{
    wait_sleep(w, 2000);
}

/* Every test is a script of one actor. */
static void (*chosen)(struct worker *w, struct thing *self);

static void script(struct worker *w, struct thing *self)
{
    atomic_store(&let_go, false);
    chosen(w, self);
    runtime_stop();
}

static void script_start(struct worker *w)
{
    actor_type_register(&low);
    actor_type_register(&high);
    struct thing *self = thing_new(w, &low);
    self->script = script;
    actor_tell_kind(w, id_of(self), KIND_SCRIPT);
}

static void run(void (*test)(struct worker *w, struct thing *self))
{
    chosen = test;
    in_runtime(script_start, NULL);
}

static void look(struct actor *a, void *context)
{
    *(struct thing *)context = *thing_of(a);
}

/* --- identities --- */

static void generations(struct worker *w, struct thing *self)
{
    struct thing *first = thing_new(w, &high);
    actor_id old = id_of(first);

    (void)self;
    CHECK(actor_tell_kind(w, old, KIND_EXIT));
    CHECK(actor_tell_kind(w, old, KIND_COUNT), "behind the last message");
    while (actor_find(old) != NULL)
        nap(w);
    CHECK(!actor_tell_kind(w, old, KIND_COUNT), "dead");
    EQ(actor_visit(w, old, look, NULL, 0), -ESRCH);
    struct thing *second = thing_new(w, &high);
    CHECK(second == first && id_of(second) != old, "the same memory, another identity");
    CHECK(!actor_tell_kind(w, old, KIND_COUNT));
    /* A sender that found the actor just before it died. */
    struct message *late = message_new(KIND_COUNT);
    late->target = old;
    if (mailbox_push(&second->actor.box, late) == PUSHED_TO_IDLE)
        worker_schedule(w, &second->actor);
    CHECK(actor_tell_kind(w, id_of(second), KIND_COUNT));
    nap(w);
    struct thing seen;
    EQ(actor_visit(w, id_of(second), look, &seen, 0), 0);
    EQ(seen.counted, 1, "the late message was dropped");
    EQ(seen.started, 1);
}

TEST(a_late_message_to_a_dead_actor_is_dropped)
{
    run(generations);
}

static void census(struct worker *w, struct thing *self)
{
    actor_id ids[300];
    size_t count;

    (void)self;
    for (size_t i = 0; i < COUNT_OF(ids); i++)
        ids[i] = id_of(thing_new(w, &high));
    EQ(actor_count(&high), COUNT_OF(ids));
    actor_id *list = actor_list(&high, &count);
    EQ(count, COUNT_OF(ids));
    free(list);
    for (size_t i = 0; i < COUNT_OF(ids); i += 2)
        actor_tell_kind(w, ids[i], KIND_EXIT);
    while (actor_count(&high) > COUNT_OF(ids) / 2)
        nap(w);
    list = actor_list(&high, &count);
    EQ(count, COUNT_OF(ids) / 2);
    for (size_t i = 0; i < count; i++)
        CHECK(actor_find(list[i]) != NULL);
    free(list);
}

TEST(the_living_are_counted_and_listed)
{
    run(census);
}

/* --- asking --- */

static uint64_t value_of(const struct message *m)
{
    uint64_t value;

    EQ(m->kind, KIND_ANSWER);
    EQ(m->len, sizeof value);
    memcpy(&value, message_body(m), sizeof value);
    return value;
}

static void asking(struct worker *w, struct thing *self)
{
    struct thing *target = thing_new(w, &high);
    struct message request = {.kind = KIND_QUERY};
    struct message reply;

    while (!actor_tell_kind(w, id_of(target), KIND_COUNT))
        nap(w);
    nap(w);
    EQ(actor_ask(w, &self->actor, id_of(target), &request, &reply), ASK_ANSWERED);
    EQ(value_of(&reply), 1001);
    request.kind = KIND_QUERY_LATER;
    EQ(actor_ask(w, &self->actor, id_of(target), &request, &reply), ASK_QUEUED, "kept for later");
    CHECK(target->asker == id_of(self));
    /* Busy: queued, and answered by a message when it comes to it. */
    actor_tell_kind(w, id_of(target), KIND_BUSY);
    while (!atomic_load(&busy))
        nap(w);
    request.kind = KIND_QUERY;
    EQ(actor_ask(w, &self->actor, id_of(target), &request, &reply), ASK_QUEUED);
    atomic_store(&let_go, true);
    while (atomic_load(&busy))
        nap(w);
    nap(w);
    actor_tell_kind(w, id_of(target), KIND_EXIT);
    while (actor_find(id_of(target)) != NULL)
        nap(w);
    EQ(actor_ask(w, &self->actor, id_of(target), &request, &reply), ASK_DEAD);
}

TEST(an_idle_actor_answers_inline_and_a_busy_one_later)
{
    run(asking);
}

static struct thing *asked_down;

static void asks_down(struct worker *w, struct thing *self)
{
    struct message request = {.kind = KIND_QUERY};
    struct message reply;

    if (actor_ask(w, &self->actor, id_of(asked_down), &request, &reply) == ASK_DEAD)
        runtime_stop();
}

static void downward_start(struct worker *w)
{
    actor_type_register(&low);
    actor_type_register(&high);
    asked_down = thing_new(w, &low);
    struct thing *asker = thing_new(w, &high);
    asker->script = asks_down;
    actor_tell_kind(w, id_of(asker), KIND_SCRIPT);
}

static const struct actor_type waits_inline = {.name = "waits inline",
                                               .size = sizeof(struct thing),
                                               .rank = 3,
                                               .number = 3,
                                               .receive = thing_receive};

static void asks_one_that_waits(struct worker *w, struct thing *self)
{
    struct thing *target = thing_new(w, &waits_inline);
    struct message request = {.kind = KIND_BUSY};
    struct message reply;

    nap(w);
    if (actor_ask(w, &self->actor, id_of(target), &request, &reply) == ASK_DEAD)
        runtime_stop();
}

static void inline_wait_start(struct worker *w)
{
    actor_type_register(&low);
    actor_type_register(&waits_inline);
    struct thing *asker = thing_new(w, &low);
    asker->script = asks_one_that_waits;
    actor_tell_kind(w, id_of(asker), KIND_SCRIPT);
}

TEST(asking_downward_or_waiting_inline_breaks_an_invariant)
{
    breaks_invariant(downward_start, "downward");
    breaks_invariant(inline_wait_start, "waiting inline");
}

/* --- visits --- */

static void add_one(struct actor *a, void *context)
{
    thing_of(a)->counted++;
    ++*(int *)context;
}

static void visiting(struct worker *w, struct thing *self)
{
    struct thing *host = thing_new(w, &high);
    int visits = 0;

    EQ(actor_visit(w, id_of(self), add_one, &visits, 0), 0, "oneself");
    EQ(self->counted, 1);
    EQ(actor_visit(w, id_of(host), add_one, &visits, 0), 0);
    actor_tell_kind(w, id_of(host), KIND_BUSY);
    while (!atomic_load(&busy))
        nap(w);
    int abandoned = 0;
    for (int i = 0; i < 5; i++)
        EQ(actor_visit(w, id_of(host), add_one, &abandoned, clock_us() + 1000), -EBUSY);
    atomic_store(&let_go, true);
    EQ(actor_visit(w, id_of(host), add_one, &visits, 0), 0);
    EQ(visits, 3);
    EQ(abandoned, 0, "an abandoned visit never takes place");
    struct thing seen;
    EQ(actor_visit(w, id_of(host), look, &seen, 0), 0);
    EQ(seen.counted, 2);
    /* One that waits behind the host's end. */
    atomic_store(&let_go, false);
    actor_tell_kind(w, id_of(host), KIND_BUSY);
    while (!atomic_load(&busy))
        nap(w);
    actor_tell_kind(w, id_of(host), KIND_EXIT);
    atomic_store(&let_go, true);
    int result = actor_visit(w, id_of(host), add_one, &visits, 0);
    CHECK(result == -ESRCH, "%d", result);
}

TEST(a_visit_runs_in_the_hosts_hands_or_not_at_all)
{
    run(visiting);
}

/* Deadlines that pass while the visit runs, and while its end is on its way. */
static void racing_visits(struct worker *w, struct thing *self)
{
    struct thing *host = thing_new(w, &high);
    struct thing *spinner = thing_new(w, &high);
    int expected = 0;
    int visits = 0;

    (void)self;
    for (int i = 0; i < 400; i++) {
        actor_tell_kind(w, id_of(host), KIND_SPIN);
        actor_tell_kind(w, id_of(spinner), KIND_SPIN);
        int result = actor_visit(w, id_of(host), add_one, &visits,
                                 clock_us() + 1 + random_u64(w) % 800);
        CHECK(result == 0 || result == -EBUSY, "%d", result);
        expected += result == 0;
        EQ(visits, expected);
    }
}

TEST(a_visit_and_its_deadline_may_meet)
{
    run(racing_visits);
}

/* --- order, alarms --- */

static void ordering(struct worker *w, struct thing *self)
{
    struct thing *target = thing_new(w, &high);
    static const uint8_t want[] = {MESSAGE_START, KIND_COUNT, KIND_BUSY, KIND_ANSWER,
                                   KIND_COUNT,    KIND_BUSY,  KIND_COUNT};

    (void)self;
    for (size_t i = 1; i < sizeof want; i++) {
        actor_tell_kind(w, id_of(target), want[i]);
        if (i == 3)
            nap(w);
    }
    nap(w);
    atomic_store(&let_go, true);
    struct thing seen = {0};
    while (seen.ordered < sizeof want)
        EQ(actor_visit(w, id_of(target), look, &seen, 0), 0);
    CHECK(memcmp(seen.order, want, sizeof want) == 0);
}

TEST(what_comes_while_a_handler_waits_is_handled_afterwards_in_order)
{
    run(ordering);
}

static void alarms(struct worker *w, struct thing *self)
{
    struct thing *target = thing_new(w, &high);
    struct thing *dead = thing_new(w, &high);
    uint64_t now = clock_us();

    (void)self;
    actor_alarm(w, id_of(target), now + 9000, 3);
    actor_alarm(w, id_of(target), now + 3000, 1);
    actor_alarm(w, id_of(target), now + 6000, 2);
    actor_alarm(w, id_of(dead), now + 3000, 1);
    actor_tell_kind(w, id_of(dead), KIND_EXIT);
    struct thing seen = {0};
    while (seen.counted < 100) {
        wait_sleep(w, 500);
        EQ(actor_visit(w, id_of(target), look, &seen, 0), 0);
        uint64_t elapsed = clock_us() - now;
        CHECK(seen.counted == 0 || elapsed >= 3000);
        CHECK(seen.counted < 10 || elapsed >= 6000);
        CHECK(seen.counted < 100 || elapsed >= 9000);
    }
    EQ(seen.counted, 123);
}

TEST(alarms_come_in_time_and_in_order)
{
    run(alarms);
}
