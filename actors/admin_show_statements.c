/* SHOW: prepared statements, and the store of their texts. */
#include "actors/admin.h"
#include "actors/statement.h"

#include <stdlib.h>

/* --- the pools' statements --- */

struct statement_row {
    const char *pool; /* user@database */
    uint64_t hash;
    const char *name;
    const char *query;
    uint64_t count_used;
    const char *kind;
    uint64_t number;
};
struct statements {
    struct arena *arena;
    const char *pool;
    struct statement_row *rows;
    size_t count;
    size_t room;
};

static const struct column statement_columns[] = {
    COLUMN(statement_row, CELL_TEXT, pool),         COLUMN(statement_row, CELL_NUMBER, hash),
    COLUMN(statement_row, CELL_TEXT, name),         COLUMN(statement_row, CELL_TEXT, query),
    COLUMN(statement_row, CELL_NUMBER, count_used), COLUMN(statement_row, CELL_TEXT, kind),
};

static void add_statement(void *context, const struct statement *s)
{
    struct statements *all = context;

    if (all->count == all->room)
        all->rows = arena_grow(all->arena, all->rows, all->count, &all->room, sizeof *all->rows);
    all->rows[all->count++] = (struct statement_row){
        .pool = all->pool,
        .hash = s->text->hash,
        .name = arena_text(all->arena, s->name),
        .query = arena_text(all->arena, (const char *)s->text->tail),
        .count_used = atomic_load_explicit(&s->used, memory_order_relaxed),
        .kind = statement_kind_name(s),
        .number = s->number,
    };
}

static void add_pool(void *context, struct pool_shared *shared)
{
    struct statements *all = context;

    if (atomic_load(&shared->pool) == 0)
        return;
    all->pool = arena_format(all->arena, "%s@%s", shared->user, shared->database);
    statement_cache_each(&shared->statements, add_statement, all);
}

static int by_pool_and_number(const void *a, const void *b)
{
    const struct statement_row *x = a;
    const struct statement_row *y = b;
    int order = strcmp(x->pool, y->pool);

    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

void show_prepared_statements(struct admin_run *run)
{
    struct table table = TABLE(&run->out, statement_columns);
    struct statements all = {.arena = &run->arena};

    directory_each(add_pool, &all);
    if (all.count > 0)
        qsort(all.rows, all.count, sizeof *all.rows, by_pool_and_number);
    table_head(&table);
    for (size_t i = 0; i < all.count; i++)
        table_row(&table, &all.rows[i]);
}

/* --- the store --- */

enum { QUERY_CHARACTERS = 120 };

struct text_row {
    uint64_t hash;
    const char *kind;
    uint64_t bytes;
    int64_t idle_ms; /* of a named one -1 */
    const char *query;
};
struct texts {
    struct arena *arena;
    uint64_t now_us;
    struct text_row *rows;
    size_t count;
    size_t room;
};

static const struct column text_columns[] = {
    COLUMN(text_row, CELL_HEX, hash),     COLUMN(text_row, CELL_TEXT, kind),
    COLUMN(text_row, CELL_NUMBER, bytes), COLUMN(text_row, CELL_SIGNED, idle_ms),
    COLUMN(text_row, CELL_TEXT, query),
};

/* Cut between characters, not within one. */
static const char *shorten(struct arena *arena, const char *text)
{
    size_t characters = 0;
    size_t len = 0;

    for (; text[len] != '\0'; len++) {
        bool begins = ((uint8_t)text[len] & 0xc0) != 0x80;

        if (begins && characters++ == QUERY_CHARACTERS)
            break;
    }
    return arena_copy(arena, text, len);
}

static void add_text(void *context, const struct statement_text *text)
{
    struct texts *t = context;

    for (int kind = 0; kind < STATEMENT_IS_COUNT; kind++) {
        uint64_t seen_us = atomic_load_explicit(&text->seen_us[kind], memory_order_relaxed);
        bool anonymous = kind == STATEMENT_IS_ANONYMOUS;

        if (seen_us == 0)
            continue;
        if (t->count == t->room)
            t->rows = arena_grow(t->arena, t->rows, t->count, &t->room, sizeof *t->rows);
        t->rows[t->count++] = (struct text_row){
            .hash = text->hash,
            .kind = anonymous ? "anonymous" : "named",
            .bytes = text->query_len,
            .idle_ms = anonymous ? (int64_t)((t->now_us - MIN(seen_us, t->now_us)) / 1000) : -1,
            .query = shorten(t->arena, (const char *)text->tail),
        };
    }
}

static int longest_first(const void *a, const void *b)
{
    const struct text_row *x = a;
    const struct text_row *y = b;

    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

static void put_texts(struct admin_run *run, uint64_t limit)
{
    struct table table = TABLE(&run->out, text_columns);
    struct texts t = {.arena = &run->arena, .now_us = clock_us()};

    statement_text_each(add_text, &t);
    if (t.count > 0)
        qsort(t.rows, t.count, sizeof *t.rows, longest_first);
    table_head(&table);
    for (size_t i = 0; i < t.count && i < limit; i++)
        table_row(&table, &t.rows[i]);
}

struct kind_row {
    const char *kind;
    uint64_t entries;
    uint64_t bytes;
};

static void count_text(void *context, const struct statement_text *text)
{
    struct kind_row *rows = context;

    for (int kind = 0; kind < STATEMENT_IS_COUNT; kind++) {
        if (atomic_load_explicit(&text->seen_us[kind], memory_order_relaxed) == 0)
            continue;
        rows[kind].entries++;
        rows[kind].bytes += text->query_len;
    }
}

static void put_totals(struct admin_run *run)
{
    static const struct column columns[] = {
        COLUMN(kind_row, CELL_TEXT, kind),
        COLUMN(kind_row, CELL_NUMBER, entries),
        COLUMN(kind_row, CELL_NUMBER, bytes),
    };
    struct table table = TABLE(&run->out, columns);
    struct kind_row rows[] = {{"named", 0, 0}, {"anonymous", 0, 0}};

    statement_text_each(count_text, rows);
    table_head(&table);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        table_row(&table, &rows[i]);
}

void show_interner(struct admin_run *run, const char *limit)
{
    char *end;
    unsigned long long count = strtoull(limit, &end, 10);

    if (limit[0] >= '0' && limit[0] <= '9' && *end == '\0')
        put_texts(run, count);
    else
        put_totals(run);
}
