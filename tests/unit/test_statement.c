#include "actors/statement_internal.h"
#include "tests/unit/unit.h"

#include <malloc.h>
#include <pthread.h>

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint32_t random_below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)(random_next(state) >> 32) % limit;
}

/* Longer for larger ids, so that texts are prefixes of each other now and then. */
static struct statement_cache *cache(void)
{
    static struct statement_cache one = {.lock = PTHREAD_MUTEX_INITIALIZER, .bound = UINT32_MAX};

    return &one;
}

/* Without the cache's own reference, so that the counts below are those of the test. */
static struct statement *statement_intern(const uint8_t *tail, size_t len)
{
    struct statement_key key = statement_key_of(cache(), 0, (struct bytes){tail, len});
    struct statement *s = statement_get(&key);

    statement_cache_dismiss(s);
    return s;
}

static struct statement *intern_numbered(uint32_t id)
{
    uint8_t tail[64];
    int len = snprintf((char *)tail, sizeof tail, "select %*u", (int)(id % 20), id);

    memset(tail + len, 0, 3);
    return statement_intern(tail, (size_t)len + 3);
}

static uint64_t statements_left(void)
{
    uint64_t count;
    uint64_t bytes;

    statement_registry_check();
    statement_totals(&count, &bytes);
    EQ(bytes == 0, count == 0);
    return count;
}

/* First in this file: it looks at the first number of the process. */
TEST(statement_numbers_count_from_zero_and_never_return)
{
    static const uint8_t text[] = "select 1\0\0";
    struct statement *first = statement_intern(text, sizeof text);
    struct statement *second = statement_intern(text, sizeof text - 1);
    struct statement *again;

    EQ(first->number, 0);
    STR_EQ(first->name, "DOORMAN_0");
    EQ(first->name_len, 9);
    EQ(second->number, 1);
    STR_EQ(second->name, "DOORMAN_1");
    statement_unref(first);
    again = statement_intern(text, sizeof text);
    STR_EQ(again->name, "DOORMAN_2");
    EQ(again->used, 0);
    statement_unref(second);
    statement_unref(again);
    EQ(statements_left(), 0);
}

/* From another implementation, with a key of zeroes: Python 3.11 under PYTHONHASHSEED=0. */
TEST(statement_siphash_agrees_with_others)
{
    static const uint64_t key[2] = {0, 0};
    static const struct {
        const char *text;
        uint64_t want;
    } rows[] = {
        {"a", 0x407448d2b89b1813},
        {"abcdefg", 0x6db12aae9070f506},
        {"abcdefgh", 0x3f7b849c0b8e35ea},
        {"select $1 from pg_class where oid = $2", 0x1f3f1c7f3504cd3e},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        EQ(statement_siphash(key, bytes_of(rows[i].text)), rows[i].want, "%s", rows[i].text);
    CHECK(statement_hash(bytes_of("a")) != rows[0].want);
}

TEST(statement_is_one_object_per_tail)
{
    static const struct {
        const char *what;
        uint8_t tail[16];
        size_t len;
    } rows[] = {
        {"nothing", "", 0},
        {"no text, no types", {0, 0, 0}, 3},
        {"text", {'s', 0, 0, 0}, 4},
        {"text and a type", {'s', 0, 0, 1, 0, 0, 0, 23}, 8},
        {"another type", {'s', 0, 0, 1, 0, 0, 0, 25}, 8},
        {"other case", {'S', 0, 0, 0}, 4},
        {"bytes that are no UTF-8", {0xff, 0xfe, 0, 0, 0}, 5},
    };
    struct statement *made[COUNT_OF(rows)];
    uint64_t count;
    uint64_t bytes;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        made[i] = statement_intern(rows[i].tail, rows[i].len);
        EQ(made[i]->text->tail_len, rows[i].len, "%s", rows[i].what);
        CHECK(memcmp(made[i]->text->tail, rows[i].tail, rows[i].len) == 0, "%s", rows[i].what);
        for (size_t j = 0; j < i; j++)
            CHECK(made[i] != made[j], "%s", rows[i].what);
    }
    statement_totals(&count, &bytes);
    EQ(count, COUNT_OF(rows));
    EQ(bytes, 0 + 3 + 4 + 8 + 8 + 4 + 5);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint8_t copy[16];

        memcpy(copy, rows[i].tail, sizeof copy);
        CHECK(statement_intern(copy, rows[i].len) == made[i], "%s", rows[i].what);
        EQ(made[i]->references, 2, "%s", rows[i].what);
        statement_unref(made[i]);
        statement_unref(made[i]);
    }
    EQ(statements_left(), 0);
}

/* Interns and forgets many in random order; each must stay findable until its end. */
static void churn_registry(uint32_t universe, uint32_t steps)
{
    struct statement **held = calloc(universe, sizeof *held);
    uint64_t seed = 88172645463325252;
    uint64_t count = 0;

    for (uint32_t step = 0; step < steps; step++) {
        uint32_t id = random_below(&seed, universe);
        struct statement *s = intern_numbered(id);

        CHECK(held[id] == NULL || held[id] == s, "id %u step %u", id, step);
        if (held[id] == NULL) {
            held[id] = s;
            continue;
        }
        statement_unref(s);
        if (random_below(&seed, 2) == 0) {
            statement_unref(s);
            held[id] = NULL;
        }
    }
    statement_registry_check();
    for (uint32_t id = 0; id < universe; id++)
        count += held[id] != NULL;
    EQ(statements_left(), count);
    for (uint32_t id = 0; id < universe; id++) {
        if (held[id] != NULL)
            statement_unref(held[id]);
        if (id % (universe / 8) == 0)
            statement_registry_check();
    }
    EQ(statements_left(), 0);
    free(held);
}

TEST(statement_registry_grows_and_shrinks)
{
    churn_registry(20000, 100000);
}

TEST(statement_registry_survives_equal_hashes)
{
    statement_hash_bits = 0;
    churn_registry(200, 4000);
    statement_hash_bits = 0x7;
    churn_registry(500, 4000);
    statement_hash_bits = UINT64_MAX;
}

enum { HAMMERS = 6, HAMMER_STEPS = 40000, HAMMER_TEXTS = 5 };

/* Few texts, held briefly: most steps are a first intern, a last unref or a race of the two. */
static void *hammer(void *argument)
{
    uint64_t seed = 0x9e3779b97f4a7c15 * (uint64_t)(uintptr_t)argument;
    struct statement *held[HAMMER_TEXTS] = {0};

    for (uint32_t step = 0; step < HAMMER_STEPS; step++) {
        uint32_t id = random_below(&seed, HAMMER_TEXTS);
        struct statement *s;
        uint64_t count;
        uint64_t bytes;

        if (held[id] != NULL) {
            statement_unref(held[id]);
            held[id] = NULL;
            continue;
        }
        s = intern_numbered(id);
        INVARIANT(s->text->tail[7 + id % 20 - (id % 20 != 0)] == '0' + id);
        INVARIANT(strncmp(s->name, "DOORMAN_", 8) == 0 && strlen(s->name) == s->name_len);
        atomic_fetch_add_explicit(&s->used, 1, memory_order_relaxed);
        held[id] = statement_ref(s);
        statement_unref(s);
        if (step % 1024 == 0) {
            statement_totals(&count, &bytes);
            INVARIANT(count >= 1 && count <= HAMMER_TEXTS);
        }
    }
    for (uint32_t id = 0; id < HAMMER_TEXTS; id++) {
        if (held[id] != NULL)
            statement_unref(held[id]);
    }
    return NULL;
}

TEST(statement_threads_may_meet_at_the_last_reference)
{
    pthread_t threads[HAMMERS];

    for (uintptr_t i = 0; i < HAMMERS; i++)
        EQ(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)), 0);
    for (size_t i = 0; i < HAMMERS; i++)
        pthread_join(threads[i], NULL);
    EQ(statements_left(), 0);
}

enum { UNIVERSE = 80 };

/* Ids from the least to the most recently used. */
struct lru_model {
    uint32_t ids[UNIVERSE];
    uint32_t count;
};

static bool model_remove(struct lru_model *model, uint32_t id)
{
    for (uint32_t i = 0; i < model->count; i++) {
        if (model->ids[i] != id)
            continue;
        model->count--;
        memmove(&model->ids[i], &model->ids[i + 1], (model->count - i) * sizeof model->ids[0]);
        return true;
    }
    return false;
}

static void set_against_model(uint32_t bound)
{
    struct statement_set *set = statement_set_new(bound);
    struct lru_model model = {0};
    struct statement *all[UNIVERSE];
    uint64_t seed = 1 + bound;

    for (uint32_t id = 0; id < UNIVERSE; id++)
        all[id] = intern_numbered(id);
    for (uint32_t step = 0; step < 8000; step++) {
        uint32_t id = random_below(&seed, UNIVERSE);
        uint32_t choice = random_below(&seed, 64);
        struct statement *excess;

        if (choice == 0) {
            statement_set_clear(set);
            model.count = 0;
        } else if (choice < 16) {
            statement_set_remove(set, all[id]);
            model_remove(&model, id);
        } else {
            bool there = model_remove(&model, id);

            EQ(statement_set_has(set, all[id]), there, "step %u bound %u", step, bound);
            if (!there)
                statement_set_add(set, all[id]);
            model.ids[model.count++] = id;
        }
        excess = statement_set_excess(set);
        CHECK(excess == (model.count > bound ? all[model.ids[0]] : NULL), "step %u bound %u", step,
              bound);
        /* Now and then let the bound be exceeded further. */
        while (choice % 2 == 0 && (excess = statement_set_excess(set)) != NULL) {
            CHECK(excess == all[model.ids[0]], "step %u bound %u", step, bound);
            model_remove(&model, model.ids[0]);
            statement_set_remove(set, excess);
        }
        EQ(statement_set_count(set), model.count, "step %u bound %u", step, bound);
        statement_set_check(set);
    }
    for (uint32_t id = 0; id < UNIVERSE; id++)
        statement_unref(all[id]);
    EQ(statements_left(), model.count);
    statement_set_free(set);
    EQ(statements_left(), 0);
}

TEST(statement_set_keeps_exact_order)
{
    static const uint32_t bounds[] = {0, 1, 2, 7, 8, 50, UNIVERSE};

    for (size_t i = 0; i < COUNT_OF(bounds); i++)
        set_against_model(bounds[i]);
    statement_hash_bits = 1;
    set_against_model(30);
    statement_hash_bits = UINT64_MAX;
    statement_set_free(NULL);
}

/* The C library counts for us; a sanitizer's allocator shows nothing, and proves nothing. */
TEST(statement_set_recycles_its_nodes)
{
    struct statement_set *set = statement_set_new(40);
    struct statement *all[UNIVERSE];
    size_t before = 0;

    for (uint32_t id = 0; id < UNIVERSE; id++)
        all[id] = intern_numbered(id);
    for (uint32_t step = 0; step < 10000; step++) {
        struct statement *excess;

        if (!statement_set_has(set, all[step % UNIVERSE]))
            statement_set_add(set, all[step % UNIVERSE]);
        if ((excess = statement_set_excess(set)) != NULL)
            statement_set_remove(set, excess);
        if (step == 100)
            before = mallinfo2().uordblks;
    }
    EQ(mallinfo2().uordblks, before);
    statement_set_free(set);
    for (uint32_t id = 0; id < UNIVERSE; id++)
        statement_unref(all[id]);
    EQ(statements_left(), 0);
}

/* Names of 0 to 39 bytes, around the limit of what an entry holds. */
static struct bytes name_numbered(uint32_t id, uint8_t at[40])
{
    memset(at, id % 3 == 0 ? 'm' : 'n', 40);
    if (id % 40 > 0)
        at[id % 40 - 1] = (uint8_t)(id + 1);
    return (struct bytes){at, id % 40};
}

struct map_visit {
    struct statement **model;
    uint32_t count;
};

static void compare_entry(void *context, struct bytes name, struct statement *s)
{
    struct map_visit *visit = context;
    uint8_t at[40];

    for (uint32_t id = 0; id < UNIVERSE; id++)
        visit->count += bytes_equal(name, name_numbered(id, at)) && visit->model[id] == s;
}

static void map_against_model(uint64_t seed)
{
    struct statement_map map = {0};
    struct statement *model[UNIVERSE] = {0};
    struct map_visit visit = {model, 0};
    uint32_t count = 0;
    uint8_t at[40];

    CHECK(statement_map_get(&map, bytes_of("")) == NULL);
    CHECK(!statement_map_remove(&map, bytes_of("")));
    CHECK(map.entries_ == NULL);
    for (uint32_t step = 0; step < 8000; step++) {
        /* 40 is the second empty name. Phases fill, then drain, so that the table also shrinks. */
        uint32_t id = random_below(&seed, UNIVERSE) % (UNIVERSE - 1);
        struct bytes name = name_numbered(id == 40 ? 0 : id, at);
        struct statement **slot = &model[id == 40 ? 0 : id];

        if (random_below(&seed, 8) < (step / 500 % 2 == 0 ? 6 : 1)) {
            struct statement *s = intern_numbered(random_below(&seed, 30));

            count += *slot == NULL;
            *slot = s;
            statement_map_put(&map, name, s);
            statement_unref(s);
        } else {
            EQ(statement_map_remove(&map, name), *slot != NULL, "step %u id %u", step, id);
            count -= *slot != NULL;
            *slot = NULL;
        }
        EQ(map.count, count, "step %u", step);
        statement_map_check(&map);
        id = random_below(&seed, UNIVERSE) % (UNIVERSE - 1);
        if (id != 40)
            CHECK(statement_map_get(&map, name_numbered(id, at)) == model[id], "step %u id %u",
                  step, id);
    }
    statement_map_each(&map, compare_entry, &visit);
    EQ(visit.count, count);
    statement_map_clear(&map);
    CHECK(map.entries_ == NULL && map.count == 0);
    EQ(statements_left(), 0);
}

TEST(statement_map_agrees_with_a_model)
{
    map_against_model(7);
    statement_hash_bits = 0;
    map_against_model(8);
    statement_hash_bits = 3;
    map_against_model(9);
    statement_hash_bits = UINT64_MAX;
}

TEST(statement_map_may_put_what_it_holds)
{
    struct statement_map map = {0};
    struct statement *s = intern_numbered(1);

    statement_map_put(&map, bytes_of("twice"), s);
    statement_unref(s);
    statement_map_put(&map, bytes_of("twice"), statement_map_get(&map, bytes_of("twice")));
    CHECK(statement_map_get(&map, bytes_of("twice")) == s);
    EQ(s->references, 1);
    EQ(map.count, 1);
    statement_map_clear(&map);
    EQ(statements_left(), 0);
}

static struct statement *get_in(struct statement_cache *in, uint64_t digest, const char *text)
{
    struct statement_key key = statement_key_of(
        in, digest, (struct bytes){(const uint8_t *)text, strlen(text) + 1});

    return statement_get(&key);
}

TEST(statement_of_another_pool_or_under_other_settings_is_another)
{
    struct statement_cache pools[2];
    struct statement *made[4];
    uint64_t count;
    uint64_t bytes;

    for (size_t i = 0; i < COUNT_OF(pools); i++) {
        statement_cache_init(&pools[i]);
        statement_cache_limit(&pools[i], 10);
    }
    for (size_t i = 0; i < COUNT_OF(made); i++)
        made[i] = get_in(&pools[i / 2], i % 2, "select 1");
    for (size_t i = 0; i < COUNT_OF(made); i++) {
        struct statement *again = get_in(&pools[i / 2], i % 2, "select 1");

        CHECK(again == made[i], "%zu", i);
        CHECK(made[i]->text == made[0]->text, "%zu", i);
        for (size_t j = 0; j < i; j++)
            CHECK(made[i] != made[j] && strcmp(made[i]->name, made[j]->name) != 0, "%zu", i);
        statement_unref(made[i]);
        statement_unref(made[i]);
    }
    statement_cache_totals(&pools[1], &count, &bytes);
    EQ(count, 2);
    EQ(statements_left(), 1);
    for (size_t i = 0; i < COUNT_OF(made); i++)
        statement_cache_dismiss(made[i]);
    statement_cache_totals(&pools[1], &count, &bytes);
    EQ(count, 0);
    EQ(bytes, 0);
    EQ(statements_left(), 0);
}

TEST(statement_cache_spares_what_is_used)
{
    static const uint32_t bounds[] = {1, 2, 8, 100};

    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        struct statement_cache in;
        char text[32];
        struct statement *hot = NULL;

        statement_cache_init(&in);
        statement_cache_limit(&in, bounds[i]);
        for (uint32_t n = 0; n < 500; n++) {
            snprintf(text, sizeof text, "select %u", n);
            struct statement *s = get_in(&in, 0, text);

            statement_use(s, false, n);
            CHECK(s->cached, "bound %u", bounds[i]);
            statement_unref(s);
            hot = get_in(&in, 0, "the hot one");
            statement_use(hot, false, n);
            CHECK(n == 0 || bounds[i] == 1 || hot->used > 1, "bound %u step %u", bounds[i], n);
            statement_unref(hot);
            statement_cache_check(&in);
            EQ(in.count, MIN(bounds[i], n + 2), "bound %u step %u", bounds[i], n);
        }
        statement_cache_limit(&in, 0); /* one stays */
        EQ(in.count, 1);
        statement_cache_clear(&in);
        EQ(in.count, 0);
        CHECK(in.hand == NULL);
        EQ(statements_left(), 0);
    }
}

TEST(statement_that_its_cache_drops_is_still_found)
{
    struct statement_cache in;
    struct statement *kept;

    statement_cache_init(&in);
    statement_cache_limit(&in, 1);
    kept = get_in(&in, 0, "kept");
    for (int i = 0; i < 2; i++)
        statement_unref(get_in(&in, 0, "other"));
    statement_unref(get_in(&in, 0, "third"));
    CHECK(!kept->cached);
    CHECK(get_in(&in, 0, "kept") == kept);
    CHECK(kept->cached);
    statement_unref(kept);
    statement_unref(kept);
    statement_cache_dismiss(in.hand);
    EQ(statements_left(), 0);
}

TEST(statement_that_is_retired_comes_back_under_another_name)
{
    struct statement_cache in;
    struct statement *old;
    struct statement *new;

    statement_cache_init(&in);
    statement_cache_limit(&in, 5);
    old = get_in(&in, 0, "select 1");
    statement_retire(old);
    new = get_in(&in, 0, "select 1");
    CHECK(new != old &&strcmp(new->name, old->name) != 0);
    CHECK(old->retired && !new->retired);
    EQ(in.count, 1);
    statement_unref(old);
    statement_unref(new);
    statement_cache_dismiss(new);
    EQ(statements_left(), 0);
}

TEST(statement_get_refuses_texts_over_the_limit)
{
    struct statement *s;

    statement_bytes_limit = 20;
    s = get_in(cache(), 0, "select 1");
    CHECK(s != NULL);
    CHECK(get_in(cache(), 0, "select 1234567890") == NULL);
    CHECK(get_in(cache(), 0, "select 1") == s);
    statement_bytes_limit = UINT64_MAX;
    statement_unref(s);
    statement_unref(s);
    statement_cache_dismiss(s);
    EQ(statements_left(), 0);
}

/* "select <id>" and so many blanks. */
static struct statement *get_wide(struct statement_cache *in, uint32_t id, bool may_exceed)
{
    char text[101];

    snprintf(text, sizeof text, "select %-93u", id);
    struct statement_key key = statement_key_of(
        in, 0, (struct bytes){(const uint8_t *)text, sizeof text - 1});
    key.may_exceed = may_exceed;
    return statement_get(&key);
}

TEST(statement_cache_gives_up_by_bytes_what_nobody_refers_to)
{
    struct statement_cache in;
    struct statement *kept[4];
    uint64_t count;
    uint64_t bytes;

    statement_cache_init(&in);
    statement_cache_limit(&in, 1000);
    for (uint32_t id = 0; id < 20; id++) {
        struct statement *s = get_wide(&in, id, false);

        if (id < COUNT_OF(kept))
            kept[id] = s;
        else
            statement_unref(s);
    }
    EQ(in.count, 20);
    EQ(statement_cache_relieve(&in, UINT32_MAX), 0);
    statement_bytes_limit = 2000;
    CHECK(statement_pressed());
    EQ(statement_cache_relieve(&in, 5), 1); /* four of these five are referred to */
    EQ(statement_cache_relieve(&in, UINT32_MAX), 9);
    CHECK(!statement_pressed());
    statement_cache_check(&in);
    for (uint32_t id = 100; id < 200; id++) {
        struct statement *s = get_wide(&in, id, false);

        CHECK(s != NULL, "%u", id);
        statement_unref(s);
        statement_totals(&count, &bytes);
        CHECK(count <= 11 && bytes <= 1100, "%u: %u", id, (unsigned)count);
    }
    statement_cache_check(&in);
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        CHECK(get_wide(&in, (uint32_t)i, false) == kept[i], "%zu", i);
        statement_unref(kept[i]);
        statement_unref(kept[i]);
    }
    statement_bytes_limit = UINT64_MAX;
    statement_cache_clear(&in);
    EQ(statements_left(), 0);
}

TEST(statement_get_goes_over_the_limit_for_those_who_may)
{
    struct statement_cache in;
    struct statement *held[20];
    uint32_t count = 0;

    statement_cache_init(&in);
    statement_cache_limit(&in, 1000);
    statement_bytes_limit = 1000;
    while (count < COUNT_OF(held) && (held[count] = get_wide(&in, count, false)) != NULL)
        count++;
    EQ(count, 10);
    while (count < COUNT_OF(held) && (held[count] = get_wide(&in, count, true)) != NULL)
        count++;
    EQ(count, 20);
    CHECK(get_wide(&in, count, true) == NULL);
    struct statement_key key = statement_key_of(&in, 0,
                                                (struct bytes){(const uint8_t *)"moved", 6});
    struct statement *moved = statement_restore(&key, statement_numbers_next());
    CHECK(moved != NULL);
    statement_numbers_begin(statement_numbers_next() + 1);
    statement_cache_dismiss(moved);
    statement_unref(moved);
    statement_unref(held[--count]); /* in the cache, it gives way */
    struct statement *another = get_wide(&in, 100, true);
    CHECK(another != NULL);
    statement_unref(another);
    while (count > 0)
        statement_unref(held[--count]);
    statement_bytes_limit = UINT64_MAX;
    statement_cache_clear(&in);
    EQ(statements_left(), 0);
}

TEST(statement_set_has_an_allowance_under_pressure)
{
    struct statement_cache in;
    struct statement_set *set = statement_set_new(UINT32_MAX);

    statement_cache_init(&in);
    statement_cache_limit(&in, 1000);
    for (uint32_t id = 0; id < 10; id++) {
        struct statement *s = get_wide(&in, id, false);

        statement_set_add(set, s);
        statement_unref(s);
    }
    EQ(statement_set_text_bytes(set), 1000);
    CHECK(statement_set_allowance() == UINT64_MAX);
    statement_bytes_limit = 2000;
    CHECK(statement_set_allowance() == UINT64_MAX);
    statement_bytes_limit = 1999;
    EQ(statement_set_allowance(), 1999 / 64);
    statement_bytes_limit = 1024;
    EQ(statement_set_allowance(), 1);
    statement_bytes_limit = UINT64_MAX;
    uint32_t stamp;
    statement_set_remove(set, statement_set_oldest(set, &stamp));
    EQ(statement_set_text_bytes(set), 900);
    statement_set_check(set);
    statement_set_free(set);
    statement_cache_clear(&in);
    EQ(statements_left(), 0);
}

static void count_listed(void *context, const struct statement_text *text)
{
    uint32_t *listed = context;

    for (int kind = 0; kind < STATEMENT_IS_COUNT; kind++)
        listed[kind] += text->seen_us[kind] != 0;
}

static void listed_are(uint32_t named, uint32_t anonymous, const char *when)
{
    uint32_t listed[STATEMENT_IS_COUNT] = {0};

    statement_text_each(count_listed, listed);
    EQ(listed[STATEMENT_IS_NAMED], named, "%s", when);
    EQ(listed[STATEMENT_IS_ANONYMOUS], anonymous, "%s", when);
}

TEST(statement_text_is_listed_while_it_is_used)
{
    enum { SECOND = 1000000 };
    struct statement *s = get_in(cache(), 0, "select 1");

    listed_are(0, 0, "at first");
    statement_use(s, false, 1 * SECOND);
    statement_use(s, true, 1 * SECOND);
    listed_are(1, 1, "used as both");
    statement_text_sweep(10 * SECOND, 9 * SECOND);
    statement_text_sweep(10 * SECOND, 9 * SECOND);
    listed_are(1, 1, "not longer than its time");
    statement_text_sweep(11 * SECOND, 9 * SECOND);
    listed_are(1, 1, "marked");
    statement_use(s, true, 11 * SECOND);
    statement_text_sweep(12 * SECOND, 9 * SECOND);
    statement_text_sweep(12 * SECOND, 9 * SECOND);
    listed_are(1, 1, "used in between");
    statement_text_sweep(30 * SECOND, 0);
    statement_text_sweep(30 * SECOND, 0);
    listed_are(1, 1, "for ever");
    statement_text_sweep(30 * SECOND, 9 * SECOND);
    statement_text_sweep(30 * SECOND, 9 * SECOND);
    listed_are(1, 0, "rested");
    statement_use(s, true, 31 * SECOND);
    listed_are(1, 1, "back");
    statement_text_reset();
    listed_are(0, 0, "reset");
    statement_use(s, false, 32 * SECOND);
    listed_are(1, 0, "used after the reset");
    statement_unref(s);
    statement_cache_dismiss(s);
    EQ(statements_left(), 0);
}

TEST(statement_set_finds_by_text_and_keeps_stamps)
{
    struct statement_set *set = statement_set_new(10);
    struct statement *all[5];
    uint32_t stamp;

    for (uint32_t id = 0; id < COUNT_OF(all); id++) {
        all[id] = intern_numbered(id);
        statement_set_add(set, all[id]);
        *statement_set_stamp(set) = 100 + id;
    }
    CHECK(statement_set_oldest(set, &stamp) == all[0]);
    EQ(stamp, 100);
    struct statement_key key = statement_key_of(
        cache(), 0, (struct bytes){all[0]->text->tail, all[0]->text->tail_len});
    CHECK(statement_set_find(set, &key) == all[0]);
    EQ(*statement_set_stamp(set), 100);
    CHECK(statement_set_oldest(set, &stamp) == all[1]);
    key.digest = 1;
    CHECK(statement_set_find(set, &key) == NULL);
    statement_set_remove(set, all[2]);
    statement_set_restore(set, all[2]);
    CHECK(statement_set_oldest(set, &stamp) == all[2]);
    EQ(stamp, 0);
    statement_set_check(set);
    statement_set_free(set);
    for (uint32_t id = 0; id < COUNT_OF(all); id++)
        statement_unref(all[id]);
    EQ(statements_left(), 0);
}

TEST(statement_map_hides_until_it_is_settled)
{
    static const char *const names[] = {"near", "a name of more than eight bytes"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct statement_map map = {0};
        struct statement *s = intern_numbered(1);
        struct statement *other = intern_numbered(2);
        struct bytes name = bytes_of(names[i]);
        uint32_t ticket = 0;

        CHECK(statement_map_hide(&map, name, &ticket) == NULL);
        statement_map_put(&map, name, s);
        CHECK(statement_map_hide(&map, name, &ticket) == s);
        CHECK(statement_map_get(&map, name) == NULL);
        CHECK(statement_map_hide(&map, name, &ticket) == NULL);
        statement_map_settle(&map, s, ticket, false);
        CHECK(statement_map_get(&map, name) == s);
        CHECK(statement_map_hide(&map, name, &ticket) == s);
        statement_map_put(&map, name, other);
        statement_map_settle(&map, s, ticket, true);
        CHECK(statement_map_get(&map, name) == other);
        CHECK(statement_map_hide(&map, name, &ticket) == other);
        statement_map_settle(&map, other, ticket, true);
        EQ(map.count, 0);
        statement_map_check(&map);
        statement_map_clear(&map);
        statement_unref(s);
        statement_unref(other);
        EQ(statements_left(), 0);
    }
}

/* A hundred statements, as a thousand clients have them each. */
TEST(statement_map_needs_few_bytes)
{
    static const char *const formats[] = {"S_%u", "stmtcache_0123456789abcdef0123456789abcdef%08u"};

    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        struct statement_map maps[3] = {0};
        char name[80];

        for (size_t m = 0; m < COUNT_OF(maps); m++) {
            for (uint32_t id = 0; id < 100; id++) {
                struct statement *s = intern_numbered(id);

                snprintf(name, sizeof name, formats[i], id);
                statement_map_put(&maps[m], bytes_of(name), s);
                statement_unref(s);
            }
            CHECK(statement_map_bytes(&maps[m]) < 100 * 25, "%zu bytes for %s",
                  statement_map_bytes(&maps[m]), formats[i]);
            statement_map_check(&maps[m]);
        }
        for (size_t m = 0; m < COUNT_OF(maps); m++)
            statement_map_clear(&maps[m]);
        EQ(statements_left(), 0);
    }
}
