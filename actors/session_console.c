/* A client of the console that speaks the extended protocol (actors/console.h). */
#include "actors/console.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { OID_TEXT = 25, OID_BYTEA = 17 };

/* --- answers --- */

static void put(struct worker *w, struct session *s, struct writer *out)
{
    INVARIANT(!out->failed);
    conn_put_copy(w, &s->conn, out->at, out->len);
    writer_free(out);
}

static void put_empty(struct worker *w, struct session *s, char type)
{
    struct writer out;

    writer_init(&out);
    writer_begin(&out, type);
    writer_end(&out);
    put(w, s, &out);
}

/* What follows is skipped up to Sync. */
PRINTF_LIKE(4, 5)
static void refuse(struct worker *w, struct session *s, const char *sqlstate, const char *format,
                   ...)
{
    char text[512];
    struct writer out;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    writer_init(&out);
    write_error(&out, "ERROR", sqlstate, text);
    put(w, s, &out);
    s->flags |= SESSION_SKIP_TO_SYNC;
}

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
    put(w, s, &out);
}

/* --- what there is --- */

static struct console *console_of(struct session *s)
{
    if (s->console == NULL) {
        s->console = calloc(1, sizeof *s->console);
        INVARIANT(s->console != NULL);
    }
    return s->console;
}

static char *copy(struct bytes text)
{
    char *out = malloc(text.len + 1);

    INVARIANT(out != NULL);
    if (text.len > 0)
        memcpy(out, text.at, text.len);
    out[text.len] = '\0';
    return out;
}

static struct console_statement **find_statement(struct console *c, const char *name)
{
    struct console_statement **at = &c->statements;

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static struct console_portal **find_portal(struct console *c, const char *name)
{
    struct console_portal **at = &c->portals;

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static void drop_statement(struct console *c, struct console_statement **at)
{
    struct console_statement *gone = *at;

    if (gone == NULL)
        return;
    *at = gone->next;
    c->count--;
    free(gone->name);
    free(gone->text);
    free(gone);
}

static void drop_portal(struct console *c, struct console_portal **at)
{
    struct console_portal *gone = *at;

    if (gone == NULL)
        return;
    *at = gone->next;
    c->count--;
    free(gone->name);
    free(gone->text);
    free(gone->result);
    free(gone);
}

void console_end_portals(struct session *s)
{
    while (s->console != NULL && s->console->portals != NULL)
        drop_portal(s->console, &s->console->portals);
}

void console_free(struct session *s)
{
    if (s->console == NULL)
        return;
    console_end_portals(s);
    while (s->console->statements != NULL)
        drop_statement(s->console, &s->console->statements);
    free(s->console);
    s->console = NULL;
}

/* False: the client has too many already, and was told. */
static bool has_room(struct worker *w, struct session *s, const struct console *c)
{
    if (c->count < CONSOLE_OBJECTS)
        return true;
    refuse(w, s, "54000", "too many prepared statements and portals");
    return false;
}

/* --- Parse --- */

static void on_parse(struct worker *w, struct session *s, struct cursor *body)
{
    struct console *c = console_of(s);
    struct bytes name = cursor_string(body);
    struct bytes text = cursor_string(body);
    uint16_t type_count = cursor_u16(body);
    uint32_t types[CONSOLE_PARAMETERS] = {0};
    struct failure why;
    unsigned parameters;

    for (unsigned i = 0; i < type_count; i++) {
        uint32_t type = cursor_u32(body);

        if (i < CONSOLE_PARAMETERS)
            types[i] = type;
    }
    if (body->bad) {
        refuse(w, s, "08P01", "invalid message format");
        return;
    }
    struct console_statement **at = find_statement(c, (const char *)name.at);
    if (*at != NULL && name.len > 0) {
        refuse(w, s, "42P05", "prepared statement \"%.100s\" already exists",
               (const char *)name.at);
        return;
    }
    drop_statement(c, at);
    if (console_count(text) > 1)
        refuse(w, s, "42601", "cannot insert multiple commands into a prepared statement");
    else if (console_parameters(text, &parameters, &why) != 0)
        refuse(w, s, "42P02", "%s", why.text);
    else if (has_room(w, s, c)) {
        struct console_statement *new = calloc(1, sizeof *new);

        INVARIANT(new != NULL);
        new->name = copy(name);
        new->text = copy(text);
        new->parameters = parameters;
        memcpy(new->types, types, sizeof types);
        new->next = c->statements;
        c->statements = new;
        c->count++;
        put_empty(w, s, '1');
    }
}

/* --- Bind --- */

/* The values; there is one at most. -1: refused. */
static int read_values(struct worker *w, struct session *s, struct cursor *body,
                       const struct console_statement *statement, struct bytes *value)
{
    uint16_t formats = cursor_u16(body);

    (void)cursor_bytes(body, 2 * (size_t)formats); /* text is the same in both */
    uint16_t count = cursor_u16(body);
    if (!body->bad && count != statement->parameters) {
        refuse(w, s, "08P01",
               "bind message supplies %u parameters, but prepared statement \"%.100s\" requires %u",
               count, statement->name, statement->parameters);
        return -1;
    }
    for (unsigned i = 0; i < count; i++) {
        uint32_t len = cursor_u32(body);

        if (len == UINT32_MAX) {
            refuse(w, s, "22004", "the name of a database cannot be null");
            return -1;
        }
        *value = cursor_bytes(body, len);
        if (!body->bad && memchr(value->at, '\0', value->len) != NULL) {
            refuse(w, s, "22021", "invalid byte sequence for encoding \"UTF8\": 0x00");
            return -1;
        }
    }
    return 0;
}

static bool read_formats(struct cursor *body, struct console_portal *portal)
{
    uint16_t count = cursor_u16(body);

    portal->format_count = count;
    for (unsigned i = 0; i < count && !body->bad; i++) {
        uint16_t format = cursor_u16(body);

        if (format > 1)
            return false;
        if (i < CONSOLE_COLUMNS)
            portal->formats[i] = format;
    }
    return !body->bad && count <= CONSOLE_COLUMNS;
}

static void on_bind(struct worker *w, struct session *s, struct cursor *body)
{
    struct console *c = console_of(s);
    struct bytes name = cursor_string(body);
    struct bytes from = cursor_string(body);
    struct console_portal read = {0};
    struct bytes value = {NULL, 0};

    if (body->bad) {
        refuse(w, s, "08P01", "invalid message format");
        return;
    }
    const struct console_statement *statement = *find_statement(c, (const char *)from.at);
    if (statement == NULL) {
        refuse(w, s, "26000",
               from.len == 0 ? "unnamed prepared statement does not exist%.0s"
                             : "prepared statement \"%.100s\" does not exist",
               (const char *)from.at);
        return;
    }
    struct console_portal **at = find_portal(c, (const char *)name.at);
    if (*at != NULL && name.len > 0) {
        refuse(w, s, "42P03", "cursor \"%.100s\" already exists", (const char *)name.at);
        return;
    }
    if (read_values(w, s, body, statement, &value) != 0)
        return;
    if (!read_formats(body, &read)) {
        refuse(w, s, "08P01", "invalid message format");
        return;
    }
    drop_portal(c, at);
    if (!has_room(w, s, c))
        return;
    struct console_portal *new = malloc(sizeof *new);
    INVARIANT(new != NULL);
    *new = read;
    new->name = copy(name);
    new->text = statement->parameters > 0 ? console_fill(statement->text, value)
                                          : copy(bytes_of(statement->text));
    new->next = c->portals;
    c->portals = new;
    c->count++;
    put_empty(w, s, '2');
}

/* --- Describe --- */

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
    case SHAPE_NOTHING: put_empty(w, s, 'n'); break;
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
    const struct console_statement *statement = *find_statement(s->console, name);
    struct writer out;

    if (statement == NULL) {
        refuse(w, s, "26000", "prepared statement \"%.100s\" does not exist", name);
        return;
    }
    writer_init(&out);
    writer_begin(&out, 't');
    writer_u16(&out, (uint16_t)statement->parameters);
    for (unsigned i = 0; i < statement->parameters; i++)
        writer_u32(&out, statement->types[i] != 0 ? statement->types[i] : OID_TEXT);
    writer_end(&out);
    put(w, s, &out);
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
        put_empty(w, s, 'n');
        return;
    }
    writer_init(&out);
    console_write_description(&out, body, portal);
    put(w, s, &out);
}

static void describe_portal(struct worker *w, struct session *s, const char *name)
{
    struct console_portal *portal = *find_portal(s->console, name);

    if (portal == NULL)
        refuse(w, s, "34000", "portal \"%.100s\" does not exist", name);
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
        refuse(w, s, "08P01", "invalid message format");
    } else if (!close) {
        if (kind == 'S')
            describe_statement(w, s, (const char *)name.at);
        else
            describe_portal(w, s, (const char *)name.at);
    } else {
        if (kind == 'S')
            drop_statement(c, find_statement(c, (const char *)name.at));
        else
            drop_portal(c, find_portal(c, (const char *)name.at));
        put_empty(w, s, '3');
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
    put(w, s, &out);
}

static void on_execute(struct worker *w, struct session *s, struct cursor *body)
{
    struct bytes name = cursor_string(body);
    uint32_t limit = cursor_u32(body);

    if (body->bad) {
        refuse(w, s, "08P01", "invalid message format");
        return;
    }
    struct console_portal *portal = *find_portal(console_of(s), (const char *)name.at);
    if (portal == NULL) {
        refuse(w, s, "34000", "portal \"%.100s\" does not exist", (const char *)name.at);
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
    put(w, s, &out);
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
    case 'P': on_parse(w, s, &body); break;
    case 'B': on_bind(w, s, &body); break;
    case 'D': on_describe(w, s, &body, false); break;
    case 'C': on_describe(w, s, &body, true); break;
    case 'E': on_execute(w, s, &body); break;
    default: break; /* Flush: everything leaves at once anyway */
    }
}
