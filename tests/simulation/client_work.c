/* What simulated clients ask for. */
#include "tests/simulation/client.h"

#include <stdarg.h>
#include <stdio.h>

/* --- pieces --- */

/* Messages that are to come, by type, behind those that are awaited already. */
static void expect_more(struct want *want, const char *types)
{
    size_t have = strlen(want->expect), more = strlen(types);

    INVARIANT(have + more < sizeof want->expect);
    memcpy(want->expect + have, types, more + 1);
}

static struct execute *add(struct client *c, struct want *want, const char *expect)
{
    struct execute *x = &want->executes[want->count++];

    INVARIANT(want->count <= EXECUTES_MAX);
    *x = (struct execute){.query = c->next_query++};
    INVARIANT(x->query < QUERIES_MAX);
    expect_more(want, expect);
    return x;
}

static unsigned some_time(void)
{
    if (sim_chance(plan.slow_pm))
        return (unsigned)sim_below(sim_chance(100) ? 3000000 : 100000) + 1;
    return sim_chance(500) ? 0 : (unsigned)sim_below(2000) + 1;
}

PRINTF_LIKE(3, 4)
static void query(struct client *c, const struct execute *x, const char *format, ...)
{
    char text[256];
    char whole[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(whole, sizeof whole, "%s /*c=%u q=%u rows=%u size=%u n=%u v=%u us=%u fails=%d*/", text,
             c->number, x->query, x->rows, x->size, x->number, x->value, some_time(), x->fails);
    sim_note("client %u asks %s", c->number, whole);
    write_query(&c->out, whole);
    c->left -= c->left > 0;
}

static unsigned some_rows(void)
{
    return sim_chance(50) ? (unsigned)sim_below(200) : (unsigned)sim_below(4);
}

static unsigned some_size(void)
{
    return sim_chance(30) ? (unsigned)sim_below(50000) : (unsigned)sim_below(60);
}

/* --- simple queries --- */

static void ask_select(struct client *c)
{
    struct execute *x = add(c, client_want(c), "TRC");

    x->rows = some_rows();
    x->size = x->rows > 20 ? 0 : some_size();
    x->fails = sim_chance(plan.error_pm);
    query(c, x, "SELECT 1");
}

/* Two statements in one Query. */
static void ask_two(struct client *c)
{
    struct want *want = client_want(c);
    struct execute *x = add(c, want, "TRC");
    struct execute *y = add(c, want, "TRC");
    char text[256];

    x->rows = 1;
    y->rows = 2;
    snprintf(text, sizeof text,
             "SELECT 1 /*c=%u q=%u rows=1 n=0*/; SELECT 2 /*c=%u q=%u rows=2 n=0 us=%u*/",
             c->number, x->query, c->number, y->query, some_time());
    write_query(&c->out, text);
    c->left -= c->left > 0;
}

static void ask_empty(struct client *c)
{
    struct want *want = client_want(c);

    add(c, want, "I");
    want->count = 0;
    sim_note("client %u asks nothing", c->number);
    write_query(&c->out, sim_chance(500) ? "" : ";");
    c->left -= c->left > 0;
}

static void ask_insert(struct client *c)
{
    struct execute *x = add(c, client_want(c), "C");

    x->tag = "INSERT 0 1";
    x->act = ACT_INSERT;
    query(c, x, "INSERT INTO t VALUES (1)");
}

static void ask_transaction(struct client *c, enum act act)
{
    struct execute *x = add(c, client_want(c), "C");

    x->act = act;
    x->tag = act == ACT_BEGIN ? "BEGIN" : act == ACT_COMMIT ? "COMMIT" : "ROLLBACK";
    if (act == ACT_BEGIN && sim_chance(500)) {
        sim_note("client %u asks begin;", c->number);
        write_query(&c->out, sim_chance(500) ? "begin;" : "BEGIN");
        return;
    }
    query(c, x, "%s", act == ACT_COMMIT && sim_chance(300) ? "END" : x->tag);
}

static void ask_set(struct client *c)
{
    struct execute *x = add(c, client_want(c), "C");

    x->act = ACT_SET;
    x->tag = "SET";
    x->number = (unsigned)sim_below(MODEL_SETTINGS);
    x->value = c->next_query;
    query(c, x, "SET sim.x%u = 'v%u'", x->number, x->value);
}

static void ask_show(struct client *c)
{
    struct execute *x = add(c, client_want(c), "TRC");

    x->tag = "SHOW";
    x->rows = 1;
    x->number = (unsigned)sim_below(MODEL_SETTINGS);
    snprintf(x->answer, sizeof x->answer, "v%d", c->now.settings[x->number]);
    query(c, x, "SHOW sim.x%u", x->number);
}

static void ask_temp(struct client *c)
{
    struct execute *x = add(c, client_want(c), "C");

    x->act = ACT_TEMP;
    x->tag = "CREATE TABLE";
    x->number = (unsigned)sim_below(8);
    query(c, x, "CREATE TEMP TABLE t%u (i int)", x->number);
}

/* One that it made in an earlier transaction may still be there, when the backend is the same. */
static void ask_table(struct client *c)
{
    struct execute *x = add(c, client_want(c), "TRC");
    unsigned number = (unsigned)sim_below(8);
    bool there = c->now.temp >> number & 1;
    bool perhaps = !plan.session_mode && (c->ever_temp >> number & 1);

    x->rows = 1;
    x->number = number;
    snprintf(x->answer, sizeof x->answer, "%d", there);
    snprintf(x->other, sizeof x->other, "%d", there || perhaps);
    query(c, x, "TABLE t%u", number);
}

static void ask_session_state(struct client *c)
{
    struct execute *x = add(c, client_want(c), sim_chance(333) ? "TRC" : "C");
    bool lock = strcmp(client_oldest(c)->expect, "TRC") == 0;

    x->number = (unsigned)sim_below(8);
    x->tag = lock ? "SELECT 1" : sim_chance(500) ? "LISTEN" : "DECLARE CURSOR";
    if (lock) {
        x->rows = 1;
        x->other[0] = x->answer[0] = '\0';
        snprintf(x->answer, sizeof x->answer, "%s", "l");
        query(c, x, "SELECT pg_advisory_lock(%u)", x->number);
    } else if (strcmp(x->tag, "LISTEN") == 0) {
        query(c, x, "LISTEN n%u", x->number);
    } else {
        query(c, x, "DECLARE d%u CURSOR WITH HOLD FOR SELECT 1", x->number);
    }
}

static void ask_prepare(struct client *c)
{
    unsigned number = (unsigned)sim_below(8);

    if (c->now.prepared >> number & 1) {
        struct execute *x = add(c, client_want(c), "TRC");

        x->rows = 1;
        x->number = number;
        snprintf(x->answer, sizeof x->answer, "v%d", c->now.prepared_value[number]);
        query(c, x, "EXECUTE sql%u", number);
        return;
    }
    struct execute *x = add(c, client_want(c), "C");
    x->number = number;
    x->value = c->next_query;
    x->act = ACT_PREPARE;
    x->tag = "PREPARE";
    query(c, x, "PREPARE sql%u AS SELECT 1", number);
}

static void ask_discard(struct client *c)
{
    struct execute *x = add(c, client_want(c), "C");

    x->act = ACT_DISCARD;
    x->tag = "DISCARD ALL";
    query(c, x, "DISCARD ALL");
}

static void ask_copy(struct client *c)
{
    struct want *want = client_want(c);
    bool in = sim_chance(600);
    struct execute *x = add(c, want, in ? "GC" : "HRC");

    x->size = (unsigned)sim_below(6);
    x->rows = in ? 0 : (unsigned)sim_below(4);
    x->tag = "COPY ";
    x->counted = true;
    if (!in)
        x->size = 0;
    query(c, x, in ? "COPY t FROM STDIN" : "COPY t TO STDOUT");
}

/* --- the extended protocol --- */

static void put_parse(struct client *c, const char *name, unsigned text)
{
    char sql[128];

    snprintf(sql, sizeof sql, "SELECT $1 /*n=%u*/", text);
    writer_begin(&c->out, 'P');
    writer_string(&c->out, name);
    writer_string(&c->out, sql);
    writer_u16(&c->out, 0);
    writer_end(&c->out);
}

static void put_bind(struct client *c, const char *name, const struct execute *x)
{
    char value[128];
    int len = snprintf(value, sizeof value, "c=%u q=%u rows=%u size=%u us=%u fails=%d", c->number,
                       x->query, x->rows, x->size, some_time(), x->fails);

    writer_begin(&c->out, 'B');
    writer_string(&c->out, "");
    writer_string(&c->out, name);
    writer_u16(&c->out, 0);
    writer_u16(&c->out, 1);
    writer_u32(&c->out, (uint32_t)len);
    writer_raw(&c->out, value, (size_t)len);
    writer_u16(&c->out, 0);
    writer_end(&c->out);
    sim_note("client %u binds '%s' %s", c->number, name, value);
}

static void put_describe(struct client *c, char what, const char *name)
{
    writer_begin(&c->out, 'D');
    writer_u8(&c->out, (uint8_t)what);
    writer_string(&c->out, name);
    writer_end(&c->out);
}

static void put_execute(struct client *c)
{
    writer_begin(&c->out, 'E');
    writer_string(&c->out, "");
    writer_u32(&c->out, 0);
    writer_end(&c->out);
}

static void put_close(struct client *c, const char *name)
{
    writer_begin(&c->out, 'C');
    writer_u8(&c->out, 'S');
    writer_string(&c->out, name);
    writer_end(&c->out);
}

static void put_plain(struct client *c, char type)
{
    writer_begin(&c->out, type);
    writer_end(&c->out);
}

/* One statement: the unnamed one or one with a name, which is parsed first when it is not known.
 * Each name of each client stands for one of a few texts, which other clients have under other
 * names. */
static void put_statement(struct client *c, struct want *want)
{
    /* Without the pooler's names and without cleaning, clients meet one another's names. */
    bool names = plan.cleanup || (plan.prepared && !plan.session_mode);
    unsigned named = names ? (unsigned)sim_below(NAMED + 2) : NAMED;
    unsigned text = (c->number * 3 + named) % 10;
    bool unnamed = named >= NAMED;
    char name[16] = "";

    if (!unnamed)
        snprintf(name, sizeof name, "s%u", named);
    if (!unnamed && c->named[named] && sim_chance(100)) {
        put_close(c, name);
        expect_more(want, "3");
        c->named[named] = false;
    }
    if (unnamed || !c->named[named]) {
        put_parse(c, name, text);
        expect_more(want, "1");
        if (!unnamed)
            c->named[named] = true;
    }
    if (sim_chance(200)) {
        put_describe(c, 'S', name);
        expect_more(want, "tT");
    }
    bool described = sim_chance(300);
    struct execute *x = add(c, want, described ? "2TRC" : "2RC");
    x->number = text;
    x->rows = some_rows();
    x->size = x->rows > 20 ? 0 : some_size();
    x->fails = sim_chance(plan.error_pm);
    /* After an error in the same transaction or batch it may never have been parsed. */
    x->may_miss = !unnamed;
    put_bind(c, name, x);
    if (described)
        put_describe(c, 'P', "");
    put_execute(c);
    if (sim_chance(50))
        put_plain(c, 'H');
    c->left -= c->left > 0;
}

static void ask_extended(struct client *c)
{
    struct want *want = client_want(c);
    unsigned count = sim_chance(700) ? 1 : 1 + (unsigned)sim_below(EXECUTES_MAX);

    for (unsigned i = 0; i < count; i++)
        put_statement(c, want);
    put_plain(c, 'S');
}

/* --- choosing --- */

static void ask_in_failed_transaction(struct client *c)
{
    if (sim_chance(300))
        ask_select(c);
    else
        ask_transaction(c, sim_chance(500) ? ACT_ROLLBACK : ACT_COMMIT);
}

static void ask_state(struct client *c)
{
    if (!plan.cleanup) {
        ask_select(c);
        return;
    }
    switch (sim_below(8)) {
    case 0:
    case 1: ask_set(c); return;
    case 2:
    case 3: ask_show(c); return;
    case 4: ask_temp(c); return;
    case 5: ask_table(c); return;
    case 6: ask_session_state(c); return;
    default: ask_prepare(c); return;
    }
}

static void ask_one(struct client *c)
{
    bool within = c->status != 'I';

    switch (sim_below(16)) {
    case 0:
    case 1:
    case 2:
    case 3: ask_select(c); return;
    case 4:
    case 5:
    case 6:
    case 7: ask_extended(c); return;
    case 8: ask_insert(c); return;
    case 9:
    case 10: ask_state(c); return;
    case 11: ask_two(c); return;
    case 12:
        if (within)
            ask_insert(c);
        else if (sim_chance(200))
            ask_discard(c);
        else
            ask_empty(c);
        return;
    case 13: ask_copy(c); return;
    default:
        if (within)
            ask_transaction(c, sim_chance(700) ? ACT_COMMIT : ACT_ROLLBACK);
        else
            ask_transaction(c, ACT_BEGIN);
    }
}

/* Several that do not depend on one another, without waiting. */
static void ask_many(struct client *c)
{
    unsigned count = 2 + (unsigned)sim_below(sim_chance(50) ? 80 : 6);

    for (unsigned i = 0; i < count && c->left > 0 && c->next_query + 8 < QUERIES_MAX; i++) {
        if (sim_chance(500))
            ask_select(c);
        else if (sim_chance(700))
            ask_extended(c);
        else
            ask_insert(c);
    }
}

void client_compose(struct client *c)
{
    if (c->next_query + 100 > QUERIES_MAX)
        c->left = 0;
    if (c->left == 0 && c->status != 'I') {
        ask_transaction(c, ACT_ROLLBACK);
        return;
    }
    if (c->left == 0) {
        ask_select(c);
        return;
    }
    if (c->status == 'E')
        ask_in_failed_transaction(c);
    else if (c->status == 'I' && sim_chance(100))
        ask_many(c);
    else
        ask_one(c);
}
