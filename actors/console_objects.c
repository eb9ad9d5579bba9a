/* Prepared commands and portals of a client of the console: Parse, Bind, and the end of both. */
#include "actors/console_objects.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* --- answers --- */

void console_put(struct worker *w, struct session *s, struct writer *out)
{
    INVARIANT(!out->failed);
    conn_put_copy(w, &s->conn, out->at, out->len);
    writer_free(out);
}

void console_put_empty(struct worker *w, struct session *s, char type)
{
    struct writer out;

    writer_init(&out);
    writer_begin(&out, type);
    writer_end(&out);
    console_put(w, s, &out);
}

void console_refuse(struct worker *w, struct session *s, const char *sqlstate, const char *format,
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
    console_put(w, s, &out);
    s->flags |= SESSION_SKIP_TO_SYNC;
}

/* --- what there is --- */

struct console *console_of(struct session *s)
{
    if (s->console == NULL) {
        s->console = calloc(1, sizeof *s->console);
        INVARIANT(s->console != NULL);
    }
    return s->console;
}

static char *console_copy(struct bytes text)
{
    char *out = malloc(text.len + 1);

    INVARIANT(out != NULL);
    if (text.len > 0)
        memcpy(out, text.at, text.len);
    out[text.len] = '\0';
    return out;
}

struct console_statement **console_statement(struct console *c, const char *name)
{
    struct console_statement **at = &c->statements;

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

struct console_portal **console_portal(struct console *c, const char *name)
{
    struct console_portal **at = &c->portals;

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

void console_drop_statement(struct console *c, struct console_statement **at)
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

void console_drop_portal(struct console *c, struct console_portal **at)
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
        console_drop_portal(s->console, &s->console->portals);
}

void console_free(struct session *s)
{
    if (s->console == NULL)
        return;
    console_end_portals(s);
    while (s->console->statements != NULL)
        console_drop_statement(s->console, &s->console->statements);
    free(s->console);
    s->console = NULL;
}

/* False: the client has too many already, and was told. */
static bool console_has_room(struct worker *w, struct session *s, const struct console *c)
{
    if (c->count < CONSOLE_OBJECTS)
        return true;
    console_refuse(w, s, "54000", "too many prepared statements and portals");
    return false;
}

static struct console_statement *console_add(struct console *c, char *name, char *text)
{
    struct console_statement *new = calloc(1, sizeof *new);

    INVARIANT(new != NULL);
    new->name = name;
    new->text = text;
    new->next = c->statements;
    c->statements = new;
    c->count++;
    return new;
}

struct console_statement *console_restore(struct session *s, char *name, char *text)
{
    return console_add(console_of(s), name, text);
}

/* --- Parse --- */

void console_parse(struct worker *w, struct session *s, struct cursor *body)
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
        console_refuse(w, s, "08P01", "invalid message format");
        return;
    }
    struct console_statement **at = console_statement(c, (const char *)name.at);
    if (*at != NULL && name.len > 0) {
        console_refuse(w, s, "42P05", "prepared statement \"%.100s\" already exists",
                       (const char *)name.at);
        return;
    }
    console_drop_statement(c, at);
    if (console_count(text) > 1)
        console_refuse(w, s, "42601", "cannot insert multiple commands into a prepared statement");
    else if (console_parameters(text, &parameters, &why) != 0)
        console_refuse(w, s, "42P02", "%s", why.text);
    else if (console_has_room(w, s, c)) {
        struct console_statement *new = console_add(c, console_copy(name), console_copy(text));

        new->parameters = parameters;
        memcpy(new->types, types, sizeof types);
        console_put_empty(w, s, '1');
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
        console_refuse(
            w, s, "08P01",
            "bind message supplies %u parameters, but prepared statement \"%.100s\" requires %u",
            count, statement->name, statement->parameters);
        return -1;
    }
    for (unsigned i = 0; i < count; i++) {
        uint32_t len = cursor_u32(body);

        if (len == UINT32_MAX) {
            console_refuse(w, s, "22004", "the name of a database cannot be null");
            return -1;
        }
        *value = cursor_bytes(body, len);
        if (!body->bad && memchr(value->at, '\0', value->len) != NULL) {
            console_refuse(w, s, "22021", "invalid byte sequence for encoding \"UTF8\": 0x00");
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

void console_bind(struct worker *w, struct session *s, struct cursor *body)
{
    struct console *c = console_of(s);
    struct bytes name = cursor_string(body);
    struct bytes from = cursor_string(body);
    struct console_portal read = {0};
    struct bytes value = {NULL, 0};

    if (body->bad) {
        console_refuse(w, s, "08P01", "invalid message format");
        return;
    }
    const struct console_statement *statement = *console_statement(c, (const char *)from.at);
    if (statement == NULL) {
        console_refuse(w, s, "26000",
                       from.len == 0 ? "unnamed prepared statement does not exist%.0s"
                                     : "prepared statement \"%.100s\" does not exist",
                       (const char *)from.at);
        return;
    }
    struct console_portal **at = console_portal(c, (const char *)name.at);
    if (*at != NULL && name.len > 0) {
        console_refuse(w, s, "42P03", "cursor \"%.100s\" already exists", (const char *)name.at);
        return;
    }
    if (read_values(w, s, body, statement, &value) != 0)
        return;
    if (!read_formats(body, &read)) {
        console_refuse(w, s, "08P01", "invalid message format");
        return;
    }
    console_drop_portal(c, at);
    if (!console_has_room(w, s, c))
        return;
    struct console_portal *new = malloc(sizeof *new);
    INVARIANT(new != NULL);
    *new = read;
    new->name = console_copy(name);
    new->text = statement->parameters > 0 ? console_fill(statement->text, value)
                                          : console_copy(bytes_of(statement->text));
    new->next = c->portals;
    c->portals = new;
    c->count++;
    console_put_empty(w, s, '2');
}
