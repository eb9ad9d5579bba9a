/* SHOW: prepared statements, and the store of their texts. */
#include "actors/admin.h"
#include "actors/statement.h"

#include <stdlib.h>

static const char *kind_name(unsigned kinds)
{
    if (kinds == (STATEMENT_NAMED | STATEMENT_ANONYMOUS))
        return "mixed";
    return kinds == STATEMENT_ANONYMOUS ? "anonymous" : "named";
}

/* --- texts --- */

struct text_row {
    uint64_t number;
    uint64_t hash;
    uint64_t bytes;
    uint64_t used;
    int64_t idle_ms;
    const char *name;
    const char *kind;
    const char *query;
    unsigned kinds;
    bool shown; /* with a pool */
};
struct texts {
    struct arena *arena;
    struct text_row *rows;
    size_t count;
    size_t room;
};

static void add_text(void *context, const struct statement *s)
{
    struct texts *t = context;

    if (t->count == t->room)
        t->rows = arena_grow(t->arena, t->rows, t->count, &t->room, sizeof *t->rows);
    t->rows[t->count++] = (struct text_row){
        .number = s->number,
        .hash = s->hash,
        .bytes = strlen((const char *)s->tail),
        .used = atomic_load_explicit(&s->used, memory_order_relaxed),
        .idle_ms = -1,
        .name = arena_text(t->arena, s->name),
        .query = arena_text(t->arena, (const char *)s->tail),
    };
}

static int by_statement(const void *a, const void *b)
{
    const struct text_row *x = a;
    const struct text_row *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static struct text_row *text_find(struct texts *t, uint64_t number)
{
    struct text_row key = {.number = number};

    return t->count == 0 ? NULL : bsearch(&key, t->rows, t->count, sizeof key, by_statement);
}

/* Every text there is. Which clients know it as what, the census tells. */
static void collect(struct admin_run *run, struct texts *t, struct census *c)
{
    *t = (struct texts){.arena = &run->arena};
    census_take(run->worker, c, &run->arena, true);
    statement_each(add_text, t);
    if (t->count > 0)
        qsort(t->rows, t->count, sizeof *t->rows, by_statement);
    for (size_t i = 0; i < c->statement_count; i++) {
        struct text_row *row = text_find(t, c->statements[i].number);

        if (row == NULL)
            continue;
        row->kinds |= c->statements[i].kinds;
        row->shown = true;
    }
}

/* --- statements --- */

static const struct column statement_columns[] = {
    COLUMN(statement_row, CELL_TEXT, pool),         COLUMN(statement_row, CELL_NUMBER, hash),
    COLUMN(statement_row, CELL_TEXT, name),         COLUMN(statement_row, CELL_TEXT, query),
    COLUMN(statement_row, CELL_NUMBER, count_used), COLUMN(statement_row, CELL_TEXT, kind),
};

void show_prepared_statements(struct admin_run *run)
{
    struct table table = TABLE(&run->out, statement_columns);
    struct census c;
    struct texts t;

    collect(run, &t, &c);
    table_head(&table);
    for (size_t i = 0; i < c.statement_count; i++) {
        struct statement_row *row = &c.statements[i];

        row->pool = arena_format(&run->arena, "%s@%s", row->shared->user, row->shared->database);
        row->kind = kind_name(row->kinds);
        table_row(&table, row);
    }
    /* Those whose clients have left: backends still hold them, whichever these are. */
    for (size_t i = 0; i < t.count; i++) {
        const struct text_row *text = &t.rows[i];

        if (!text->shown)
            table_row(&table, &(struct statement_row){.pool = "-",
                                                      .hash = text->hash,
                                                      .name = text->name,
                                                      .query = text->query,
                                                      .count_used = text->used,
                                                      .kind = "named"});
    }
}

/* --- the store --- */

enum { QUERY_CHARACTERS = 120 };

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

static int longest_first(const void *a, const void *b)
{
    const struct text_row *x = a;
    const struct text_row *y = b;

    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return by_statement(a, b);
}

static void put_texts(struct admin_run *run, struct texts *t, uint64_t limit)
{
    struct table table = TABLE(&run->out, text_columns);

    if (t->count > 0)
        qsort(t->rows, t->count, sizeof *t->rows, longest_first);
    table_head(&table);
    for (size_t i = 0; i < t->count && i < limit; i++) {
        t->rows[i].kind = t->rows[i].kinds == STATEMENT_ANONYMOUS ? "anonymous" : "named";
        t->rows[i].query = shorten(&run->arena, t->rows[i].query);
        table_row(&table, &t->rows[i]);
    }
}

struct kind_row {
    const char *kind;
    uint64_t entries;
    uint64_t bytes;
};

static void put_totals(struct admin_run *run, const struct texts *t)
{
    static const struct column columns[] = {
        COLUMN(kind_row, CELL_TEXT, kind),
        COLUMN(kind_row, CELL_NUMBER, entries),
        COLUMN(kind_row, CELL_NUMBER, bytes),
    };
    struct table table = TABLE(&run->out, columns);
    struct kind_row rows[] = {{"named", 0, 0}, {"anonymous", 0, 0}};

    for (size_t i = 0; i < t->count; i++) {
        struct kind_row *row = &rows[t->rows[i].kinds == STATEMENT_ANONYMOUS];

        row->entries++;
        row->bytes += t->rows[i].bytes;
    }
    table_head(&table);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        table_row(&table, &rows[i]);
}

void show_interner(struct admin_run *run, const char *limit)
{
    struct census c;
    struct texts t;
    char *end;
    unsigned long long count = strtoull(limit, &end, 10);

    collect(run, &t, &c);
    if (limit[0] >= '0' && limit[0] <= '9' && *end == '\0')
        put_texts(run, &t, count);
    else
        put_totals(run, &t);
}
