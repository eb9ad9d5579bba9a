/* The query of auth_query at the simulated servers: what it finds, and what goes wrong with it. */
#include "tests/simulation/clients.h"
#include "tests/simulation/lookups.h"
#include "tests/simulation/postgres.h"

#include <stdio.h>
#include <stdlib.h>

enum trouble {
    NO_TROUBLE,
    FAILS,
    NO_SECRET,
    TWO_ROWS,
    OTHER_COLUMNS,
    NO_ROWS,
    COPIES,
    DIES,
    TROUBLES
};

/* Of the result: with a secret of that name, alone or with others. */
struct form {
    const char *secret;
    uint32_t type;
    bool overlay;
};

static const struct form forms[] = {{"passwd", 25, true},
                                    {"Password", 19, true},
                                    {"rolpassword", 25, false},
                                    {"passwd", 1043, true}};

struct query {
    struct pg_conn *conn;
    uint64_t number;
    char user[64];
    enum trouble trouble;
};

static void put_empty(struct pg_conn *c, char type)
{
    writer_begin(&c->out, type);
    writer_end(&c->out);
}

static void put_columns(struct pg_conn *c, const struct form *form)
{
    struct column_spec columns[] = {{form->secret, form->type}, {"startup_parameters", 25}};

    write_row_description(&c->out, columns, form->overlay ? 2 : 1);
}

static void overlay_text(char *out, size_t size, unsigned overlay)
{
    switch (overlay) {
    case 0: snprintf(out, size, "%s", sim_chance(500) ? "{}" : ""); return;
    case OVERLAY_REFUSED: snprintf(out, size, "{\"work_mem\": \"bad\"}"); return;
    case OVERLAY_BROKEN: snprintf(out, size, "{\"work_mem\": \"1MB\""); return;
    default:
        snprintf(out, size, "{\"work_mem\": \"%uMB\", \"Search_Path\": \"s%u\"}", overlay, overlay);
    }
}

static void put_row(struct pg_conn *c, const struct form *form, const char *secret,
                    unsigned overlay)
{
    char text[128];

    overlay_text(text, sizeof text, overlay);
    write_row_begin(&c->out, form->overlay ? 2 : 1);
    write_row_cell(&c->out, secret, secret == NULL ? 0 : strlen(secret));
    if (form->overlay)
        write_row_cell(&c->out, overlay == 0 && sim_chance(500) ? NULL : text, strlen(text));
    write_row_end(&c->out);
}

/* The pooler knows it from now on, unless something happens to what was written. */
static void note_told(struct account *a, const struct form *form, bool secret)
{
    struct found *found = &a->found;

    if (!secret) {
        found->unknown_us = sim_now_us();
        return;
    }
    found->told = !form->overlay || found->overlay == OVERLAY_BROKEN ? 0 : found->overlay;
    found->told_us = sim_now_us();
    found->ever_told |= 1u << found->told;
}

static void put_user(struct pg_conn *c, const char *user, bool secret)
{
    struct account *a = lookups_account(user);
    const struct form *form = &forms[lookups.form];

    put_columns(c, form);
    if (a == NULL || a->role != ROLE_FOUND || !a->found.exists) {
        write_command_complete(&c->out, "SELECT 0");
        return;
    }
    put_row(c, form, secret ? a->stored : NULL, a->found.overlay);
    write_command_complete(&c->out, "SELECT 1");
    note_told(a, form, secret);
}

static void put_two_rows(struct pg_conn *c)
{
    put_columns(c, &forms[0]);
    put_row(c, &forms[0], "one", 0);
    put_row(c, &forms[0], "two", 0);
    write_command_complete(&c->out, "SELECT 2");
}

static void put_other_columns(struct pg_conn *c)
{
    struct column_spec columns[] = {{"oid", 26}, {"login", 16}};

    write_row_description(&c->out, columns, COUNT_OF(columns));
    write_row_begin(&c->out, 2);
    write_row_cell(&c->out, "16384", 5);
    write_row_cell(&c->out, "t", 1);
    write_row_end(&c->out);
    write_command_complete(&c->out, "SELECT 1");
}

static void put_copy(struct pg_conn *c)
{
    writer_begin(&c->out, 'G');
    writer_u8(&c->out, 0);
    writer_u16(&c->out, 0);
    writer_end(&c->out);
}

static void answer(struct pg_conn *c, const struct query *q)
{
    put_empty(c, '1');
    put_empty(c, '2');
    switch (q->trouble) {
    case FAILS: pg_error(c, "42501", "permission denied for function lookup"); break;
    case TWO_ROWS: put_two_rows(c); break;
    case OTHER_COLUMNS: put_other_columns(c); break;
    case NO_ROWS:
        put_empty(c, 'n');
        write_command_complete(&c->out, "CREATE TABLE");
        break;
    case COPIES: put_copy(c); break;
    case NO_SECRET: put_user(c, q->user, false); break;
    case NO_TROUBLE:
    case DIES:
    case TROUBLES: put_user(c, q->user, true);
    }
    pg_ready(c);
}

static void answer_late(void *context)
{
    struct query q = *(struct query *)context;
    struct pg_conn *c = q.conn;

    free(context);
    if (c->busy != q.number || c->phase != PG_BUSY)
        return;
    if (q.trouble == DIES) {
        sim_far_reset(&c->far);
        pg_end(c);
        return;
    }
    answer(c, &q);
    pg_proceed(c);
}

static enum trouble draw_trouble(void)
{
    enum trouble trouble = NO_TROUBLE;

    if (sim_chance(lookups.fault_pm))
        trouble = 1 + (enum trouble)sim_below(TROUBLES - 1);
    lookups.troubled |= trouble != NO_TROUBLE && trouble != NO_SECRET;
    return trouble;
}

/* Sometimes longer than the pooler waits. */
static uint64_t draw_delay(void)
{
    if (!sim_chance(lookups.fault_pm / 2))
        return sim_below(sim_chance(100) ? 100000 : 2000);
    lookups.troubled = true;
    return sim_below(8000000);
}

static void begin(struct pg_conn *c)
{
    struct query *q = malloc(sizeof *q);

    INVARIANT(q != NULL);
    *q = (struct query){.conn = c, .number = ++c->busy, .trouble = draw_trouble()};
    snprintf(q->user, sizeof q->user, "%.63s", c->portal);
    sim_note("server %u looks for %s, trouble %d", c->pid, q->user, q->trouble);
    c->phase = PG_BUSY;
    sim_at(sim_now_us() + draw_delay(), answer_late, q);
}

static void take_name(struct pg_conn *c, const uint8_t *body, size_t len)
{
    struct cursor in = cursor_of(body, len);

    cursor_string(&in);
    cursor_string(&in);
    cursor_bytes(&in, cursor_u16(&in) * 2u);
    if (cursor_u16(&in) != 1)
        sim_fail("server %u: a user is looked for without a name", c->pid);
    struct bytes name = cursor_bytes(&in, cursor_u32(&in));
    snprintf(c->portal, sizeof c->portal, "%.*s", (int)name.len, (const char *)name.at);
}

void pg_lookup(struct pg_conn *c, char type, const uint8_t *body, size_t len)
{
    switch (type) {
    case 'P':
    case 'D':
    case 'E': return;
    case 'B': take_name(c, body, len); return;
    case 'S': begin(c); return;
    default: sim_fail("server %u: message %c where users are looked for", c->pid, type);
    }
}
