/* A client of the console that speaks the extended protocol (actors/console.h). */
#include "actors/console_objects.h"

#include <stdlib.h>

enum { OID_TEXT = 25, OID_BYTEA = 17 };

/* --- Describe --- */

static void put_one_column(struct worker *w, struct session *s, const char *name, uint32_t type,
                           const struct console_portal *portal)
{
    struct column_spec column = {name, type};
    struct writer plain;
    struct writer out;

    writer_init(&plain);
    write_row_description(&plain, &column, 1);
    writer_init(&out);
    console_write_description(
        &out, (struct bytes){plain.at + FRAME_HEADER, plain.len - FRAME_HEADER}, portal);
    writer_free(&plain);
    console_put(w, s, &out);
}

static void run(struct worker *w, struct session *s, enum console_purpose purpose,
                struct console_portal *portal, const char *text)
{
    s->console->purpose = purpose;
    s->console->portal = portal;
    console_ask(w, s, bytes_of(text));
}

/* A statement with parameters is one without rows, so nothing is run before they are known. */
static void describe_rows(struct worker *w, struct session *s, enum console_purpose purpose,
                          struct console_portal *portal, const char *text)
{
    switch (console_shape_of(bytes_of(text))) {
    case SHAPE_NOTHING: console_put_empty(w, s, 'n'); break;
    case SHAPE_ASK: run(w, s, purpose, portal, text); break;
    case SHAPE_SUCCESS: put_one_column(w, s, "success", OID_TEXT, portal); break;
    case SHAPE_SNAPSHOT:
        put_one_column(w, s, "snapshot", strcasestr(text, " to ") != NULL ? OID_TEXT : OID_BYTEA,
                       portal);
        break;
    }
}

static void describe_statement(struct worker *w, struct session *s, const char *name)
{
    const struct console_statement *statement = *console_statement(s->console, name);
    struct writer out;

    if (statement == NULL) {
        console_refuse(w, s, "26000", "prepared statement \"%.100s\" does not exist", name);
        return;
    }
    writer_init(&out);
    writer_begin(&out, 't');
    writer_u16(&out, (uint16_t)statement->parameters);
    for (unsigned i = 0; i < statement->parameters; i++)
        writer_u32(&out, statement->types[i] != 0 ? statement->types[i] : OID_TEXT);
    writer_end(&out);
    console_put(w, s, &out);
    describe_rows(w, s, CONSOLE_STATEMENT, NULL, statement->text);
}

/* The first message of that type in a result; its body. */
static bool find_message(const uint8_t *at, size_t len, char type, struct bytes *body)
{
    struct frame f;

    while (frame_peek(&f, at, len, UINT32_MAX - 4) == FRAME_WHOLE) {
        if (f.type == (uint8_t)type) {
            *body = (struct bytes){f.body, f.body_len};
            return true;
        }
        at += FRAME_HEADER + f.body_len;
        len -= FRAME_HEADER + f.body_len;
    }
    return false;
}

static void put_description(struct worker *w, struct session *s, const uint8_t *at, size_t len,
                            const struct console_portal *portal)
{
    struct bytes body;
    struct writer out;

    if (!find_message(at, len, 'T', &body)) {
        console_put_empty(w, s, 'n');
        return;
    }
    writer_init(&out);
    console_write_description(&out, body, portal);
    console_put(w, s, &out);
}

static void describe_portal(struct worker *w, struct session *s, const char *name)
{
    struct console_portal *portal = *console_portal(s->console, name);

    if (portal == NULL)
        console_refuse(w, s, "34000", "portal \"%.100s\" does not exist", name);
    else if (portal->has_run)
        put_description(w, s, portal->result, portal->len, portal);
    else
        describe_rows(w, s, CONSOLE_PORTAL, portal, portal->text);
}

static void on_describe(struct worker *w, struct session *s, struct cursor *body, bool close)
{
    struct console *c = console_of(s);
    uint8_t kind = cursor_u8(body);
    struct bytes name = cursor_string(body);

    if (body->bad || (kind != 'S' && kind != 'P')) {
        console_refuse(w, s, "08P01", "invalid message format");
    } else if (!close) {
        if (kind == 'S')
            describe_statement(w, s, (const char *)name.at);
        else
            describe_portal(w, s, (const char *)name.at);
    } else {
        if (kind == 'S')
            console_drop_statement(c, console_statement(c, (const char *)name.at));
        else
            console_drop_portal(c, console_portal(c, (const char *)name.at));
        console_put_empty(w, s, '3');
    }
}

/* --- Execute --- */

/* Sends what the client has asked for of the portal's result. */
static void put_result(struct worker *w, struct session *s, struct console_portal *portal,
                       uint32_t limit)
{
    struct bytes description = {NULL, 0};
    struct writer out;
    struct frame f;
    uint32_t rows = 0;

    writer_init(&out);
    (void)find_message(portal->result, portal->len, 'T', &description);
    while (frame_peek(&f, portal->result + portal->at, portal->len - portal->at, UINT32_MAX - 4) ==
           FRAME_WHOLE) {
        size_t whole = FRAME_HEADER + f.body_len;

        if (limit > 0 && rows == limit)
            break; /* whether or not there is more, as PostgreSQL */
        if (f.type == 'D') {
            rows++;
            console_write_row(&out, (struct bytes){f.body, f.body_len}, description, portal);
        } else if (f.type != 'T') {
            writer_raw(&out, portal->result + portal->at, whole);
        }
        if (f.type == 'C' || f.type == 'I')
            break; /* stays, for those who ask again */
        portal->at += whole;
    }
    if (limit > 0 && rows == limit) {
        writer_begin(&out, 's');
        writer_end(&out);
    }
    console_put(w, s, &out);
}

static void on_execute(struct worker *w, struct session *s, struct cursor *body)
{
    struct bytes name = cursor_string(body);
    uint32_t limit = cursor_u32(body);

    if (body->bad) {
        console_refuse(w, s, "08P01", "invalid message format");
        return;
    }
    struct console_portal *portal = *console_portal(console_of(s), (const char *)name.at);
    if (portal == NULL) {
        console_refuse(w, s, "34000", "portal \"%.100s\" does not exist", (const char *)name.at);
        return;
    }
    limit = limit > INT32_MAX ? 0 : limit;
    if (portal->has_run) {
        put_result(w, s, portal, limit);
        return;
    }
    s->console->limit = limit;
    run(w, s, CONSOLE_EXECUTE, portal, portal->text);
}

/* --- the admin actor's answer --- */

/* An error ends the series, whatever it was for. */
static bool put_failure(struct worker *w, struct session *s, struct bytes answer)
{
    struct bytes body;
    struct writer out;

    if (!find_message(answer.at, answer.len, 'E', &body))
        return false;
    writer_init(&out);
    writer_begin(&out, 'E');
    writer_raw(&out, body.at, body.len);
    writer_end(&out);
    console_put(w, s, &out);
    s->flags |= SESSION_SKIP_TO_SYNC;
    return true;
}

bool console_result(struct worker *w, struct session *s, struct bytes answer)
{
    struct console *c = s->console;

    if (c == NULL || c->purpose == CONSOLE_SIMPLE)
        return false;
    enum console_purpose purpose = c->purpose;
    struct console_portal *portal = c->portal;
    c->purpose = CONSOLE_SIMPLE;
    if (put_failure(w, s, answer))
        return true;
    if (purpose == CONSOLE_STATEMENT) {
        put_description(w, s, answer.at, answer.len, NULL);
        return true;
    }
    portal->has_run = true;
    portal->len = answer.len - (FRAME_HEADER + 1); /* without ReadyForQuery */
    portal->result = malloc(MAX(portal->len, (size_t)1));
    INVARIANT(portal->result != NULL);
    memcpy(portal->result, answer.at, portal->len);
    if (purpose == CONSOLE_PORTAL)
        put_description(w, s, portal->result, portal->len, portal);
    else
        put_result(w, s, portal, c->limit);
    return true;
}

void console_message(struct worker *w, struct session *s, const struct frame *f)
{
    struct cursor body = cursor_of(f->body, f->body_len);

    switch (f->type) {
    case 'P': console_parse(w, s, &body); break;
    case 'B': console_bind(w, s, &body); break;
    case 'D': on_describe(w, s, &body, false); break;
    case 'C': on_describe(w, s, &body, true); break;
    case 'E': on_execute(w, s, &body); break;
    default: break; /* Flush: everything leaves at once anyway */
    }
}
