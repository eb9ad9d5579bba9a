/* The tables that the actors of one process share. */
#include "actors/app.h"
#include "tests/unit/unit.h"

enum { SECRET = 5 };

static actor_id find(uint32_t pid, uint32_t secret)
{
    return cancel_find(pid, (struct bytes){(const uint8_t *)&secret, sizeof secret});
}

TEST(cancel_keys_are_found_until_forgotten)
{
    enum { KEYS = 20000 };

    for (uint32_t pid = 1; pid <= KEYS; pid++)
        cancel_register(pid, SECRET, pid + 1000000u);
    for (uint32_t pid = 1; pid <= KEYS; pid += 3)
        cancel_forget(pid, SECRET, pid + 1000000u);
    uint32_t wrong = 0;
    for (uint32_t pid = 1; pid <= KEYS; pid++)
        wrong += find(pid, SECRET) != (pid % 3 == 1 ? 0 : pid + 1000000u);
    EQ(wrong, 0);
    for (uint32_t pid = 1; pid <= KEYS; pid++)
        cancel_forget(pid, SECRET, pid + 1000000u);
    for (uint32_t pid = 1; pid <= KEYS; pid++)
        wrong += find(pid, SECRET) != 0;
    EQ(wrong, 0);
}

/* Runs of neighbours in one shard, with gaps torn into them in every order. */
TEST(cancel_keys_behind_a_gap_are_still_found)
{
    enum { SHARDS = 64, SIZE = 64, RUN = 12 };
    uint32_t wrong = 0;

    for (uint32_t gap = 0; gap < RUN; gap++) {
        /* All of them want the same place. */
        for (uint32_t i = 0; i < RUN; i++)
            cancel_register(SHARDS * (SIZE * (i + 1) - 2), SECRET, 100 + i);
        cancel_forget(SHARDS * (SIZE * (gap + 1) - 2), SECRET, 100 + gap);
        for (uint32_t i = 0; i < RUN; i++)
            wrong += find(SHARDS * (SIZE * (i + 1) - 2), SECRET) != (i == gap ? 0 : 100 + i);
        for (uint32_t i = 0; i < RUN; i++)
            cancel_forget(SHARDS * (SIZE * (i + 1) - 2), SECRET, 100 + i);
    }
    EQ(wrong, 0);
}

TEST(a_cancel_key_is_forgotten_by_its_session_only)
{
    cancel_register(7, SECRET, 11);
    cancel_register(7, SECRET, 12);
    cancel_forget(7, SECRET, 11);
    EQ(find(7, SECRET), 12, "the number came round and was given to another");
    cancel_forget(7, SECRET, 12);
    EQ(find(7, SECRET), 0);
}

TEST(two_sessions_may_have_one_number)
{
    cancel_register(7, 1, 11);
    cancel_register(7, 2, 12);
    EQ(find(7, 1), 11);
    EQ(find(7, 2), 12);
    EQ(find(7, 3), 0);
    EQ(cancel_find(7, bytes_of("abc")), 0, "too short for a secret");
    cancel_forget(7, 1, 11);
    EQ(find(7, 1), 0);
    EQ(find(7, 2), 12);
    cancel_forget(7, 2, 12);
}

TEST(overdue_logins_are_reported_once_oldest_first)
{
    struct login_entry entries[4] = {0};
    actor_id overdue[4];

    for (size_t i = 0; i < 4; i++)
        login_enter(&entries[i], i + 1, 100 * (i + 1));
    login_leave(&entries[1]);
    login_leave(&entries[1]);
    EQ(login_overdue(350, overdue, 1), 1);
    EQ(overdue[0], 1);
    EQ(login_overdue(350, overdue, 4), 1);
    EQ(overdue[0], 3);
    EQ(login_overdue(350, overdue, 4), 0);
    login_leave(&entries[3]);
    EQ(login_overdue(UINT64_MAX, overdue, 4), 0);
}

static void collect(void *context, struct pool_shared *shared)
{
    char *text = context;
    size_t len = strlen(text);

    snprintf(text + len, 200 - len, "%s/%s ", shared->database, shared->user);
}

TEST(the_directory_keeps_what_was_added)
{
    char text[200] = "";
    struct pool_shared *first = directory_add("ab", "c");
    struct pool_shared *second = directory_add("a", "bc");

    CHECK(first != second);
    directory_add("a", "aa");
    CHECK(directory_add("ab", "c") == first);
    CHECK(directory_find("a", "bc") == second);
    CHECK(directory_find("a", "c") == NULL);
    directory_each(collect, text);
    STR_EQ(text, "a/aa a/bc ab/c ");
}
