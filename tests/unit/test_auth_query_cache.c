#include "actors/auth_query_cache.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static struct auth_query_cache fresh(void)
{
    return (struct auth_query_cache){.ttl_us = {[false] = 30, [true] = 3600}};
}

static void put_numbered(struct auth_query_cache *c, const char *prefix, int number, bool found,
                         uint64_t now_us)
{
    char user[ROLE_NAME_MAX + 1];

    snprintf(user, sizeof user, "%s%d", prefix, number);
    cache_put(c, user, found, now_us);
}

TEST(an_answer_lasts_as_long_as_its_kind)
{
    struct auth_query_cache c = fresh();

    CHECK(cache_find(&c, "anna") == NULL);
    cache_put(&c, "anna", true, 1000);
    cache_put(&c, "nobody", false, 1000);
    CHECK(cache_valid(&c, cache_find(&c, "anna"), 1000 + 3599));
    CHECK(!cache_valid(&c, cache_find(&c, "anna"), 1000 + 3600));
    CHECK(cache_valid(&c, cache_find(&c, "nobody"), 1000 + 29));
    CHECK(!cache_valid(&c, cache_find(&c, "nobody"), 1000 + 30));
    CHECK(cache_valid(&c, cache_find(&c, "anna"), 10), "a clock that is a little behind");
    cache_clear(&c);
    EQ(c.count, 0);
    CHECK(cache_find(&c, "anna") == NULL);
}

TEST(a_ttl_of_zero_remembers_nothing)
{
    struct auth_query_cache c = fresh();

    c.ttl_us[true] = 0;
    CHECK(!cache_valid(&c, cache_put(&c, "anna", true, 5), 5));
    cache_clear(&c);
}

TEST(a_later_answer_takes_the_place_of_an_earlier_one)
{
    struct auth_query_cache c = fresh();

    cache_put(&c, "anna", false, 10)->refetched_us = 7;
    struct cache_entry *entry = cache_put(&c, "anna", true, 50);
    EQ(c.count, 1);
    CHECK(entry->found);
    EQ(entry->refetched_us, 7, "how often one may ask does not depend on the answer");
    entry->distrusted = true;
    CHECK(!cache_valid(&c, entry, 50));
    CHECK(cache_valid(&c, cache_put(&c, "anna", true, 51), 51));
    CHECK(c.lists[false].oldest == NULL && c.lists[true].oldest == entry);
    cache_clear(&c);
}

TEST(strangers_cannot_push_out_those_who_are_known)
{
    struct auth_query_cache c = fresh();

    c.ttl_us[false] = c.ttl_us[true] = UINT64_MAX;
    for (int i = 0; i < 50; i++)
        put_numbered(&c, "role", i, true, 1);
    for (int i = 0; i < 3 * CACHE_ENTRIES_MAX; i++)
        put_numbered(&c, "stranger", i, false, 2);
    EQ(c.count, CACHE_ENTRIES_MAX);
    for (int i = 0; i < 50; i++) {
        char user[ROLE_NAME_MAX + 1];

        snprintf(user, sizeof user, "role%d", i);
        CHECK(cache_find(&c, user) != NULL, "%s", user);
    }
    CHECK(cache_find(&c, "stranger0") == NULL, "the oldest went first");
    CHECK(cache_find(&c, "stranger29999") != NULL);
    cache_clear(&c);
}

TEST(known_ones_make_room_for_each_other_by_age)
{
    struct auth_query_cache c = fresh();

    c.ttl_us[true] = UINT64_MAX;
    for (int i = 0; i < CACHE_ENTRIES_MAX; i++)
        put_numbered(&c, "role", i, true, (uint64_t)i);
    put_numbered(&c, "role", 0, true, CACHE_ENTRIES_MAX); /* fetched anew */
    put_numbered(&c, "another", 1, true, CACHE_ENTRIES_MAX);
    EQ(c.count, CACHE_ENTRIES_MAX);
    CHECK(cache_find(&c, "role0") != NULL);
    CHECK(cache_find(&c, "role1") == NULL);
    cache_clear(&c);
}

TEST(what_is_over_its_time_goes_when_others_come)
{
    struct auth_query_cache c = fresh();

    for (int i = 0; i < 100; i++)
        put_numbered(&c, "stranger", i, false, 1);
    for (int i = 0; i < 100; i++)
        put_numbered(&c, "later", i, false, 1000);
    EQ(c.count, 100);
    cache_clear(&c);
}
