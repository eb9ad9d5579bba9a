#include "runtime/mailbox.h"
#include "runtime/message.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sched.h>

static struct message *numbered(uint64_t number)
{
    struct message *m = message_new(MESSAGE_KIND_FIRST);

    m->alarm.token = number;
    return m;
}

static void box_open(struct mailbox *box)
{
    mailbox_init(box);
    CHECK(mailbox_park(box));
}

static void expect(struct message *m, uint64_t number)
{
    CHECK(m != NULL, "%" PRIu64, number);
    if (m == NULL)
        return;
    EQ(m->alarm.token, number);
    message_free(m);
}

TEST(only_the_first_message_to_an_idle_owner_schedules_it)
{
    struct mailbox box;

    box_open(&box);
    EQ(mailbox_push(&box, numbered(1)), PUSHED_TO_IDLE);
    EQ(mailbox_push(&box, numbered(2)), PUSHED);
    expect(mailbox_pop(&box), 1);
    EQ(mailbox_push(&box, numbered(3)), PUSHED);
    expect(mailbox_pop(&box), 2);
    expect(mailbox_pop(&box), 3);
    CHECK(mailbox_pop(&box) == NULL);
    EQ(mailbox_push(&box, numbered(4)), PUSHED, "an empty mailbox of one who runs");
    CHECK(!mailbox_park(&box), "a message waits");
    expect(mailbox_pop(&box), 4);
    CHECK(mailbox_park(&box));
    EQ(mailbox_push(&box, numbered(5)), PUSHED_TO_IDLE);
    expect(mailbox_pop(&box), 5);
}

TEST(an_owner_with_messages_taken_but_not_read_does_not_park)
{
    struct mailbox box;

    box_open(&box);
    EQ(mailbox_push(&box, numbered(1)), PUSHED_TO_IDLE);
    EQ(mailbox_push(&box, numbered(2)), PUSHED);
    expect(mailbox_pop(&box), 1);
    CHECK(!mailbox_park(&box));
    expect(mailbox_pop(&box), 2);
    CHECK(mailbox_park(&box));
}

TEST(only_an_idle_owner_is_claimed)
{
    struct mailbox box;

    mailbox_init(&box);
    CHECK(!mailbox_claim(&box), "its creator has it");
    CHECK(mailbox_park(&box));
    CHECK(mailbox_claim(&box));
    CHECK(!mailbox_claim(&box));
    EQ(mailbox_push(&box, numbered(1)), PUSHED);
    CHECK(!mailbox_claim(&box));
    expect(mailbox_pop(&box), 1);
    CHECK(mailbox_park(&box));
    CHECK(mailbox_close(&box) == NULL);
    CHECK(!mailbox_claim(&box), "closed");
}

TEST(a_closed_mailbox_gives_back_what_waited_and_refuses_more)
{
    struct mailbox box;

    box_open(&box);
    for (uint64_t i = 0; i < 6; i++)
        CHECK(mailbox_push(&box, numbered(i)) != PUSH_REFUSED);
    expect(mailbox_pop(&box), 0);
    EQ(mailbox_push(&box, numbered(6)), PUSHED);
    struct message *left = mailbox_close(&box);
    for (uint64_t i = 1; i < 7; i++) {
        struct message *next = left->next;

        expect(left, i);
        left = next;
    }
    CHECK(left == NULL);
    struct message *late = numbered(7);
    EQ(mailbox_push(&box, late), PUSH_REFUSED);
    message_free(late);
}

static bool has_number(const struct message *m, const void *context)
{
    return m->alarm.token == *(const uint64_t *)context;
}

TEST(a_wanted_message_is_taken_out_of_its_turn)
{
    for (uint64_t wanted = 0; wanted < 6; wanted++) {
        struct mailbox box;

        box_open(&box);
        for (uint64_t i = 0; i < 3; i++)
            CHECK(mailbox_push(&box, numbered(i)) != PUSH_REFUSED);
        uint64_t none = 99;
        CHECK(mailbox_extract(&box, has_number, &none) == NULL);
        for (uint64_t i = 3; i < 6; i++)
            EQ(mailbox_push(&box, numbered(i)), PUSHED);
        expect(mailbox_extract(&box, has_number, &wanted), wanted);
        CHECK(mailbox_extract(&box, has_number, &wanted) == NULL);
        for (uint64_t i = 0; i < 6; i++) {
            if (i != wanted)
                expect(mailbox_pop(&box), i);
        }
        CHECK(mailbox_pop(&box) == NULL && mailbox_park(&box));
    }
}

/* --- many threads that send, and claim the owner when it is idle --- */

enum { SENDERS = 4, EACH = 100000 };

static struct mailbox shared;
static _Atomic int inside;
static uint64_t heard[SENDERS]; /* owner only: how many from each, in order */
static _Atomic uint64_t total;

static void owner_runs(void)
{
    struct message *m;

    do {
        CHECK(atomic_fetch_add(&inside, 1) == 0, "two owners");
        while ((m = mailbox_pop(&shared)) != NULL) {
            uint64_t sender = m->alarm.token >> 32;

            if ((uint32_t)m->alarm.token != heard[sender])
                unit_fail(__FILE__, __LINE__, "out of order");
            heard[sender]++;
            atomic_fetch_add_explicit(&total, 1, memory_order_relaxed);
            message_free(m);
        }
        atomic_fetch_sub(&inside, 1);
    } while (!mailbox_park(&shared));
}

static void *send_all(void *argument)
{
    uint64_t sender = (uintptr_t)argument;

    for (uint64_t i = 0; i < EACH; i++) {
        if (mailbox_push(&shared, numbered(sender << 32 | i)) == PUSHED_TO_IDLE)
            owner_runs();
        if (i % 7 == 0 && mailbox_claim(&shared))
            owner_runs();
        if (i % 1000 == 0)
            sched_yield();
    }
    return NULL;
}

TEST(many_senders_lose_nothing_and_never_meet_in_the_owner)
{
    pthread_t threads[SENDERS];

    box_open(&shared);
    for (uintptr_t i = 0; i < SENDERS; i++)
        EQ(pthread_create(&threads[i], NULL, send_all, (void *)i), 0);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    EQ(atomic_load(&total), SENDERS * EACH);
    CHECK(mailbox_claim(&shared), "idle in the end");
}
