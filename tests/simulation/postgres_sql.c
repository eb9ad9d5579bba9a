/* What the simulated servers understand of SQL. */
#include "tests/simulation/clients.h"
#include "tests/simulation/postgres.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { SIGNAL_US = 2000 };

/* --- whose statement it is --- */

static unsigned number_of(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at == NULL ? 0 : (unsigned)strtoul(at + strlen(key), NULL, 10);
}

/* All comments count: that of a text, and behind it that of a parameter. */
struct pg_tag pg_tag_of(const char *text)
{
    const char *comment = strstr(text, "/*");

    if (comment == NULL)
        return (struct pg_tag){0};
    return (struct pg_tag){
        .client = number_of(comment, "c="),
        .query = number_of(comment, "q="),
        .rows = number_of(comment, "rows="),
        .size = number_of(comment, "size="),
        .us = number_of(comment, "us="),
        .number = number_of(comment, "n="),
        .value = number_of(comment, "v="),
        .fails = number_of(comment, "fails=") != 0,
    };
}

static unsigned by_sql(const struct pg_conn *c)
{
    unsigned count = 0;

    for (size_t i = 0; i < PREPARED_MAX; i++)
        count += c->prepared[i].text[0] != '\0' && c->prepared[i].by_sql;
    return count;
}

static const char *what_is_left(const struct pg_conn *c)
{
    for (int i = 0; i < SETTINGS; i++) {
        if (c->now.settings[i] != 0)
            return "a setting";
    }
    if (c->now.role != 0)
        return "a role";
    if (c->now.temp != 0)
        return "a temporary table";
    if (c->now.listens != 0)
        return "a LISTEN";
    if (c->now.cursors != 0)
        return "a cursor";
    if (c->locks != 0)
        return "an advisory lock";
    if (by_sql(c) > 0)
        return "a prepared statement";
    return NULL;
}

void pg_check_owner(struct pg_conn *c, unsigned client)
{
    if (c->status != 'I') {
        if (c->tx_owner == 0)
            c->tx_owner = client;
        if (c->tx_owner != client)
            sim_fail("server %u: client %u is in the transaction of client %u", c->pid, client,
                     c->tx_owner);
    }
    if (c->now.application != client && !(plan.session_mode && clients_has_cancelled(client)))
        sim_fail("server %u: client %u runs under the application name of %u", c->pid, client,
                 c->now.application);
    if (c->owner == client)
        return;
    const char *left = what_is_left(c);
    if (left != NULL && plan.cleanup && c->owner != 0)
        sim_fail("server %u: client %u meets %s of client %u", c->pid, client, left, c->owner);
    if (c->skipping)
        sim_fail("server %u: client %u meets a batch of client %u", c->pid, client, c->owner);
    c->owner = client;
}

/* --- transactions --- */

void pg_commit(struct pg_conn *c)
{
    c->before = c->now;
}

void pg_rollback(struct pg_conn *c)
{
    c->now = c->before;
}

static void complete(struct pg_conn *c, const char *tag)
{
    write_command_complete(&c->out, tag);
}

static void do_begin(struct pg_conn *c, const struct pg_tag *tag)
{
    if (c->status == 'I') {
        c->status = 'T';
        c->before = c->now;
        c->tx_owner = tag->client;
    } else {
        write_notice(&c->out, "25001", "there is already a transaction in progress");
    }
    complete(c, "BEGIN");
}

static void do_end(struct pg_conn *c, bool commit)
{
    bool committed = commit && c->status != 'E';

    if (committed)
        pg_commit(c);
    else
        pg_rollback(c);
    c->status = 'I';
    complete(c, committed ? "COMMIT" : "ROLLBACK");
}

/* --- answers --- */

static void row(struct pg_conn *c, const char *text, unsigned pad)
{
    char cell[256];
    int len = snprintf(cell, sizeof cell, "%s", text);

    if (pad == 0) {
        write_row_begin(&c->out, 1);
        write_row_cell(&c->out, cell, (size_t)len);
        write_row_end(&c->out);
        return;
    }
    char *wide = malloc((size_t)len + pad);
    INVARIANT(wide != NULL);
    memcpy(wide, cell, (size_t)len);
    memset(wide + len, '.', pad);
    write_row_begin(&c->out, 1);
    write_row_cell(&c->out, wide, (size_t)len + pad);
    write_row_end(&c->out);
    free(wide);
}

static void description(struct pg_conn *c, bool extended)
{
    struct column_spec column = {"x", 25};

    if (!extended)
        write_row_description(&c->out, &column, 1);
}

static void rows(struct pg_conn *c, const struct pg_tag *tag, bool extended)
{
    char text[96];

    description(c, extended);
    for (unsigned i = 0; i < tag->rows; i++) {
        snprintf(text, sizeof text, "c%u q%u n%u r%u", tag->client, tag->query, tag->number, i);
        row(c, text, tag->size);
        if (c->out.len > 8192)
            pg_flush(c);
    }
    snprintf(text, sizeof text, "SELECT %u", tag->rows);
    complete(c, text);
}

static void one_row(struct pg_conn *c, const char *text, const char *tag, bool extended)
{
    description(c, extended);
    row(c, text, 0);
    complete(c, tag);
}

/* PostgreSQL reports it. */
static void set_application(struct pg_conn *c, unsigned client)
{
    char name[16];

    snprintf(name, sizeof name, client == 0 ? "pg_doorman" : "c%u", client);
    if (c->now.application != client)
        write_parameter_status(&c->out, bytes_of("application_name"), bytes_of(name));
    c->now.application = client;
}

static void reset_all(struct pg_conn *c)
{
    memset(c->now.settings, 0, sizeof c->now.settings);
    set_application(c, 0);
}

static void forget_prepared(struct pg_conn *c)
{
    for (size_t i = 0; i < PREPARED_MAX; i++) {
        if (c->prepared[i].name[0] != '\0')
            c->prepared[i] = (struct pg_prepared){0};
    }
}

static struct pg_prepared *prepared_named(struct pg_conn *c, const char *name)
{
    for (size_t i = 0; i < PREPARED_MAX; i++) {
        if (c->prepared[i].text[0] != '\0' && strcmp(c->prepared[i].name, name) == 0)
            return &c->prepared[i];
    }
    return NULL;
}

static void do_prepare(struct pg_conn *c, const struct pg_tag *tag)
{
    char name[32];

    snprintf(name, sizeof name, "sql%u", tag->number);
    if (prepared_named(c, name) != NULL) {
        pg_error(c, "42P05", "prepared statement already exists");
        return;
    }
    for (size_t i = 0; i < PREPARED_MAX; i++) {
        if (c->prepared[i].text[0] == '\0') {
            c->prepared[i].by_sql = true;
            snprintf(c->prepared[i].name, sizeof c->prepared[i].name, "%s", name);
            snprintf(c->prepared[i].text, sizeof c->prepared[i].text, "v%u", tag->value);
            complete(c, "PREPARE");
            return;
        }
    }
    sim_fail("server %u holds %d prepared statements", c->pid, PREPARED_MAX);
}

static void do_execute(struct pg_conn *c, const struct pg_tag *tag, bool extended)
{
    char name[32];

    snprintf(name, sizeof name, "sql%u", tag->number);
    struct pg_prepared *p = prepared_named(c, name);
    if (p == NULL)
        pg_error(c, "26000", "prepared statement does not exist");
    else
        one_row(c, p->text, "SELECT 1", extended);
}

static void discard_all(struct pg_conn *c)
{
    reset_all(c);
    c->now = (struct pg_state){0};
    c->before = c->now;
    c->locks = 0;
    forget_prepared(c);
}

static void do_copy_in(struct pg_conn *c, const struct pg_tag *tag, bool extended)
{
    c->copy_in = true;
    c->copy_extended = extended;
    c->copy_rows = 0;
    c->copy_tag = *tag;
    writer_begin(&c->out, 'G');
    writer_u8(&c->out, 0);
    writer_u16(&c->out, 0);
    writer_end(&c->out);
    pg_flush(c);
}

static void do_copy_out(struct pg_conn *c, const struct pg_tag *tag)
{
    char text[96];

    writer_begin(&c->out, 'H');
    writer_u8(&c->out, 0);
    writer_u16(&c->out, 0);
    writer_end(&c->out);
    for (unsigned i = 0; i < tag->rows; i++) {
        int len = snprintf(text, sizeof text, "c%u q%u n%u r%u", tag->client, tag->query,
                           tag->number, i);

        writer_begin(&c->out, 'd');
        writer_raw(&c->out, text, (size_t)len);
        writer_end(&c->out);
    }
    writer_begin(&c->out, 'c');
    writer_end(&c->out);
    snprintf(text, sizeof text, "COPY %u", tag->rows);
    complete(c, text);
}

/* --- statements by their first words --- */

static bool begins(const char *text, const char *word)
{
    return strncasecmp(text, word, strlen(word)) == 0;
}

static bool session_statement(struct pg_conn *c, const char *text, const struct pg_tag *tag)
{
    uint32_t bit = 1u << tag->number % NAMES;

    if (begins(text, "SET ROLE"))
        c->now.role = (int)tag->value;
    else if (begins(text, "SET "))
        c->now.settings[tag->number % SETTINGS] = (int)tag->value;
    else if (begins(text, "RESET ALL"))
        reset_all(c);
    else if (begins(text, "RESET \"application_name\""))
        set_application(c, 0);
    else if (begins(text, "RESET ROLE"))
        c->now.role = 0;
    else if (begins(text, "RESET SESSION"))
        c->now.role = 0;
    else if (begins(text, "DEALLOCATE ALL"))
        forget_prepared(c);
    else if (begins(text, "CLOSE ALL"))
        c->now.cursors = 0;
    else if (begins(text, "UNLISTEN *"))
        c->now.listens = 0;
    else if (begins(text, "LISTEN"))
        c->now.listens |= bit;
    else if (begins(text, "DISCARD TEMP"))
        c->now.temp = 0;
    else if (begins(text, "DISCARD SEQUENCES"))
        ; /* there are none */
    else if (begins(text, "DISCARD ALL"))
        discard_all(c);
    else if (begins(text, "CREATE TEMP TABLE"))
        c->now.temp |= bit;
    else if (begins(text, "DECLARE"))
        c->now.cursors |= bit;
    else
        return false;
    return true;
}

/* Its tag: the words in capitals, up to the first that is not one of them. */
static const char *tag_of_session_statement(const char *text)
{
    static const char *const tags[][2] = {{"SET", "SET"},
                                          {"RESET", "RESET"},
                                          {"DEALLOCATE ALL", "DEALLOCATE ALL"},
                                          {"CLOSE ALL", "CLOSE CURSOR ALL"},
                                          {"UNLISTEN", "UNLISTEN"},
                                          {"LISTEN", "LISTEN"},
                                          {"DISCARD TEMP", "DISCARD TEMP"},
                                          {"DISCARD SEQUENCES", "DISCARD SEQUENCES"},
                                          {"DISCARD ALL", "DISCARD ALL"},
                                          {"CREATE", "CREATE TABLE"},
                                          {"DECLARE", "DECLARE CURSOR"}};

    for (size_t i = 0; i < COUNT_OF(tags); i++) {
        if (begins(text, tags[i][0]))
            return tags[i][1];
    }
    return "?";
}

static void execute_now(struct pg_conn *c, const char *text, const struct pg_tag *tag,
                        bool extended)
{
    char value[32];

    if (tag->fails) {
        pg_error(c, "22012", "division by zero");
    } else if (session_statement(c, text, tag)) {
        complete(c, tag_of_session_statement(text));
    } else if (begins(text, "INSERT")) {
        clients_executed(tag->client, tag->query);
        complete(c, "INSERT 0 1");
    } else if (begins(text, "SHOW")) {
        snprintf(value, sizeof value, "v%d", c->now.settings[tag->number % SETTINGS]);
        one_row(c, value, "SHOW", extended);
    } else if (begins(text, "TABLE")) {
        snprintf(value, sizeof value, "%u", c->now.temp >> tag->number % NAMES & 1);
        one_row(c, value, "SELECT 1", extended);
    } else if (begins(text, "SELECT pg_advisory_lock")) {
        c->locks |= 1u << tag->number % NAMES;
        one_row(c, "l", "SELECT 1", extended);
    } else if (begins(text, "SELECT pg_catalog.pg_advisory_unlock_all")) {
        c->locks = 0;
        one_row(c, "", "SELECT 1", extended);
    } else if (begins(text, "PREPARE")) {
        do_prepare(c, tag);
    } else if (begins(text, "EXECUTE")) {
        do_execute(c, tag, extended);
    } else if (begins(text, "COPY t FROM")) {
        do_copy_in(c, tag, extended);
    } else if (begins(text, "COPY t TO")) {
        do_copy_out(c, tag);
    } else if (begins(text, "SELECT pg_catalog.set_config(E'application_name',")) {
        set_application(c, number_of(text, "E'c"));
        one_row(c, "", "SELECT 1", extended);
    } else if (begins(text, "SELECT")) {
        rows(c, tag, extended);
    } else {
        sim_fail("server %u does not understand: %s", c->pid, text);
    }
}

static bool end_of_transaction(const char *text)
{
    return begins(text, "COMMIT") || begins(text, "END") || begins(text, "ROLLBACK");
}

/* The statement itself, when its time is over. */
static void finish(struct pg_conn *c, const char *text, bool extended)
{
    struct pg_tag tag = pg_tag_of(text);

    c->erred = false;
    if (c->cancelled)
        pg_error(c, "57014", "canceling statement due to user request");
    else if (c->status == 'E' && !end_of_transaction(text))
        pg_error(c, "25P02", "current transaction is aborted, commands ignored until end");
    else if (begins(text, "BEGIN"))
        do_begin(c, &tag);
    else if (end_of_transaction(text))
        do_end(c, !begins(text, "ROLLBACK"));
    else
        execute_now(c, text, &tag, extended);
    c->cancelled = false;
}

struct wait_over {
    struct pg_conn *conn;
    uint64_t number;
};

static void wait_over(void *context)
{
    struct wait_over over = *(struct wait_over *)context;

    free(context);
    if (over.conn->busy == over.number && over.conn->phase == PG_BUSY)
        pg_statement_done(over.conn);
}

/* A signal that was sent a moment ago may strike now, or find the process between statements. */
static bool signal_strikes(struct pg_conn *c)
{
    bool strikes = c->signal_us != 0 && sim_now_us() < c->signal_us + SIGNAL_US && sim_chance(700);

    c->signal_us = 0;
    return strikes;
}

bool pg_execute(struct pg_conn *c, const char *text, const struct pg_tag *given, bool extended)
{
    if (given->client != 0)
        pg_check_owner(c, given->client);
    sim_note("server %u runs %s", c->pid, text);
    c->statements++;
    snprintf(c->running, sizeof c->running, "%s", text);
    c->running_extended = extended;
    c->cancelled = signal_strikes(c);
    if (c->cancelled)
        clients_cancelled(given->client, given->query);
    if (c->cancelled) {
        finish(c, text, extended);
        c->skipping |= extended;
        return true;
    }
    if (given->us > 0) {
        struct wait_over *over = malloc(sizeof *over);

        INVARIANT(over != NULL);
        *over = (struct wait_over){c, ++c->busy};
        c->phase = PG_BUSY;
        sim_at(sim_now_us() + given->us, wait_over, over);
        return false;
    }
    finish(c, text, extended);
    /* In the extended protocol an error skips what follows. */
    if (extended && c->erred)
        c->skipping = true;
    return !c->copy_in;
}

/* --- a Query may have many statements --- */

/* The next of `rest` that is not empty. False: there is none. */
static bool next_statement(struct pg_conn *c, char *out, size_t size)
{
    for (;;) {
        char *at = c->rest + strspn(c->rest, " ;");
        size_t len = strcspn(at, ";");

        if (len == 0) {
            c->rest[0] = '\0';
            return false;
        }
        INVARIANT(len < size);
        memcpy(out, at, len);
        out[len] = '\0';
        memmove(c->rest, at + len, strlen(at + len) + 1);
        if (strspn(out, " ") != len)
            return true;
    }
}

static void query_goes_on(struct pg_conn *c)
{
    char text[sizeof c->running];

    while (next_statement(c, text, sizeof text)) {
        struct pg_tag tag = pg_tag_of(text);

        if (!pg_execute(c, text, &tag, false))
            return;
        if (c->erred)
            c->rest[0] = '\0';
    }
    if (c->status == 'I')
        pg_commit(c);
    pg_ready(c);
}

void pg_statement_done(struct pg_conn *c)
{
    c->phase = PG_READY;
    c->busy++;
    finish(c, c->running, c->running_extended);
    if (c->erred) {
        c->rest[0] = '\0';
        c->skipping = c->running_extended;
    }
    if (!c->running_extended && !c->copy_in)
        query_goes_on(c);
    pg_proceed(c);
}

void pg_run_query(struct pg_conn *c, const char *text, size_t len)
{
    INVARIANT(len < sizeof c->rest);
    memcpy(c->rest, text, len);
    c->rest[len] = '\0';
    if (c->status == 'I')
        c->before = c->now;
    /* The unnamed statement ends with a Query. */
    struct pg_prepared *unnamed = prepared_named(c, "");
    if (unnamed != NULL)
        *unnamed = (struct pg_prepared){0};
    if (strspn(c->rest, " ;") == len) {
        c->signal_us = 0;
        writer_begin(&c->out, 'I');
        writer_end(&c->out);
        pg_ready(c);
        return;
    }
    query_goes_on(c);
}
