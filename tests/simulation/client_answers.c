/* Are the answers right? */
#include "tests/simulation/client.h"

#include <stdio.h>
#include <stdlib.h>

/* --- errors --- */

static bool starts(struct bytes text, const char *with)
{
    return text.len >= strlen(with) && memcmp(text.at, with, strlen(with)) == 0;
}

static bool error_is_right(const struct client *c, const struct want *want, struct bytes sqlstate)
{
    const struct execute *x = want->current < want->count ? &want->executes[want->current] : NULL;

    if (starts(sqlstate, "22012"))
        return x != NULL && x->fails;
    if (starts(sqlstate, "57014"))
        return c->cancels > 0;
    if (starts(sqlstate, "25P02"))
        return c->status == 'E';
    if (starts(sqlstate, "53200"))
        return x != NULL && plan.memory_short;
    if (starts(sqlstate, "26000"))
        return x != NULL && x->may_miss;
    return false;
}

static void on_error(struct client *c, const uint8_t *body, size_t len)
{
    struct error_fields e;
    struct want *want = client_oldest(c);

    if (read_error(body, len, &e) != 0)
        sim_fail("client %u gets an error that cannot be read", c->number);
    if (starts(e.severity_fixed, "FATAL") || starts(e.severity, "FATAL")) {
        client_refused(c, &e);
        return;
    }
    if (want == NULL || want->failed)
        sim_fail("client %u gets an error that nothing asked for", c->number);
    if (!error_is_right(c, want, e.sqlstate))
        sim_fail("client %u, query %u: error %.*s %.*s", c->number,
                 want->executes[MIN(want->current, want->count - 1)].query, (int)e.sqlstate.len,
                 (const char *)e.sqlstate.at, (int)e.message.len, (const char *)e.message.at);
    want->failed = true;
    if (c->status == 'T')
        c->status = 'E';
}

/* --- rows and ends --- */

static struct execute *current(struct client *c, char type)
{
    struct want *want = client_oldest(c);

    if (want == NULL || want->failed || want->current >= want->count)
        sim_fail("client %u gets a %c that nothing asked for", c->number, type);
    return &want->executes[want->current];
}

static bool cell_is(const uint8_t *at, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(at, text, len) == 0;
}

static void on_row(struct client *c, const uint8_t *at, size_t len)
{
    struct execute *x = current(c, 'D');
    struct want *want = client_oldest(c);
    char expected[96];

    if (want->expect[want->at] != 'R' || want->rows_seen >= x->rows)
        sim_fail("client %u, query %u: a row too many: %.*s", c->number, x->query,
                 (int)MIN(len, 80u), (const char *)at);
    if (x->answer[0] != '\0') {
        if (!cell_is(at, len, x->answer) && !(x->other[0] != '\0' && cell_is(at, len, x->other)))
            sim_fail("client %u, query %u: %s is wanted, the answer is %.*s", c->number, x->query,
                     x->answer, (int)len, (const char *)at);
    } else {
        int wanted = snprintf(expected, sizeof expected, "c%u q%u n%u r%u", c->number, x->query,
                              x->number, want->rows_seen);

        if (len != (size_t)wanted + x->size || memcmp(at, expected, (size_t)wanted) != 0)
            sim_fail("client %u, query %u: row %s is wanted, %zu bytes come: %.*s", c->number,
                     x->query, expected, len, (int)MIN(len, 80u), (const char *)at);
    }
    want->rows_seen++;
}

/* What was prepared stays. */
static void roll_back(struct client *c)
{
    struct model after = c->before;

    after.prepared = c->now.prepared;
    memcpy(after.prepared_value, c->now.prepared_value, sizeof after.prepared_value);
    c->now = after;
}

static void apply(struct client *c, const struct execute *x)
{
    switch (x->act) {
    case ACT_NOTHING: return;
    case ACT_BEGIN:
        c->status = 'T';
        c->before = c->now;
        return;
    case ACT_COMMIT:
        if (c->status == 'E')
            roll_back(c);
        break;
    case ACT_ROLLBACK: roll_back(c); break;
    case ACT_SET: c->now.settings[x->number % MODEL_SETTINGS] = (int)x->value; return;
    case ACT_TEMP:
        c->now.temp |= 1u << x->number;
        c->ever_temp |= 1u << x->number;
        return;
    case ACT_PREPARE:
        c->now.prepared |= 1u << x->number;
        c->now.prepared_value[x->number] = (int)x->value;
        return;
    case ACT_INSERT:
        if (c->executed[x->query] != 1)
            sim_fail("client %u, query %u: said to be done, and is not", c->number, x->query);
        return;
    case ACT_DISCARD:
        c->now = (struct model){0};
        memset(c->named, 0, sizeof c->named);
        return;
    }
    c->status = 'I';
}

static void on_complete(struct client *c, const char *tag)
{
    struct execute *x = current(c, 'C');
    struct want *want = client_oldest(c);
    char expected[32];

    snprintf(expected, sizeof expected, "%s%u", x->tag == NULL ? "SELECT " : x->tag,
             x->rows > 0 ? x->rows : x->size * (x->tag != NULL));
    const char *wanted = x->tag != NULL && !x->counted ? x->tag : expected;
    if (x->act == ACT_COMMIT && c->status == 'E')
        wanted = "ROLLBACK";
    if (strcmp(tag, wanted) != 0)
        sim_fail("client %u, query %u: ends with %s instead of %s", c->number, x->query, tag,
                 wanted);
    apply(c, x);
    want->current++;
    want->rows_seen = 0;
}

/* --- in order --- */

static void copy_data(struct client *c, struct want *want)
{
    static const char data[] = "1\t2\n";
    struct execute *x = &want->executes[want->current];

    for (unsigned i = 0; i < x->size; i++) {
        writer_begin(&c->out, 'd');
        writer_raw(&c->out, data, sizeof data - 1);
        writer_end(&c->out);
    }
    writer_begin(&c->out, 'c');
    writer_end(&c->out);
    if (want->copy_extended) {
        writer_begin(&c->out, 'S');
        writer_end(&c->out);
    }
    client_send(c);
}

static void in_order(struct client *c, char type, const uint8_t *body)
{
    struct want *want = client_oldest(c);

    if (want == NULL || want->failed)
        sim_fail("client %u gets a %c that nothing asked for", c->number, type);
    if (want->expect[want->at] == 'R') {
        if (want->rows_seen != want->executes[want->current].rows)
            sim_fail("client %u, query %u: %u rows instead of %u, then %c", c->number,
                     want->executes[want->current].query, want->rows_seen,
                     want->executes[want->current].rows, type);
        want->at++;
    }
    if (want->expect[want->at] != type)
        sim_fail("client %u, query %u: %c comes, %s is wanted", c->number,
                 want->executes[MIN(want->current, want->count - 1)].query, type,
                 want->expect + want->at);
    want->at++;
    if (type == 'C')
        on_complete(c, (const char *)body);
    if (type == 'G')
        copy_data(c, want);
}

static void on_ready(struct client *c, char status)
{
    struct want *want = client_oldest(c);

    if (want == NULL && c->told)
        return;
    if (want == NULL)
        sim_fail("client %u is ready for a query that it has not made", c->number);
    if (c->told)
        return;
    if (!want->failed && want->expect[want->at] != '\0')
        sim_fail("client %u, query %u: ready, but %s is missing", c->number,
                 want->executes[MIN(want->current, want->count - 1)].query,
                 want->expect + want->at);
    if (status != c->status)
        sim_fail("client %u, query %u: transaction status %c instead of %c", c->number,
                 want->executes[0].query, status, c->status);
    c->want_first = (c->want_first + 1) % WANTS_MAX;
    c->want_count--;
    if (c->status == 'I' && !plan.session_mode)
        c->now = (struct model){0};
    if (c->want_count == 0)
        client_next(c);
}

void client_answer(struct client *c, char type, const uint8_t *body, size_t len)
{
    if (type == 'E') {
        on_error(c, body, len);
        return;
    }
    if (c->told && type != 'Z')
        sim_fail("client %u gets a %c behind FATAL", c->number, type);
    if (c->phase == CLIENT_LOGIN && !c->told) {
        client_login(c, type, body, len);
        return;
    }
    switch (type) {
    case 'S':
    case 'N':
    case 'A': return;
    case 'Z': on_ready(c, (char)body[0]); return;
    case 'D': on_row(c, body + 6, len - 6); return;
    case 'd': on_row(c, body, len); return;
    case 'c': return;
    default: in_order(c, type, body);
    }
}
