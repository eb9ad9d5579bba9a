/* console.h: the extended query protocol on the console: prepared commands and portals of one
 * client, and the form of their results.
 *
 * The admin actor knows the simple protocol alone. A command is run once, by it, with what came in
 * its parameters put into its text; its answer is kept with the portal and handed out as the client
 * asks for it. What only shows something may be run to describe it; what changes something is run
 * by Execute.
 */
#ifndef ACTORS_CONSOLE_H
#define ACTORS_CONSOLE_H

#include "actors/session.h"

enum { CONSOLE_OBJECTS = 1000, CONSOLE_PARAMETERS = 8, CONSOLE_COLUMNS = 64 };

struct console_statement {
    struct console_statement *next;
    char *name;
    char *text;
    unsigned parameters;
    uint32_t types[CONSOLE_PARAMETERS];
};

struct console_portal {
    struct console_portal *next;
    char *name;
    char *text; /* with its parameters */
    uint16_t formats[CONSOLE_COLUMNS];
    unsigned format_count; /* 0: all text; 1: all as this one */
    bool has_run;
    uint8_t *result; /* messages of the simple protocol, without ReadyForQuery */
    size_t len;
    size_t at; /* the next one to be sent */
};

/* What the answer of the admin actor is for. */
enum console_purpose { CONSOLE_SIMPLE, CONSOLE_STATEMENT, CONSOLE_PORTAL, CONSOLE_EXECUTE };

struct console {
    struct console_statement *statements;
    struct console_portal *portals;
    unsigned count; /* of both */
    enum console_purpose purpose;
    struct console_portal *portal; /* the purpose is about; NULL: a statement */
    uint32_t limit;                /* of rows; 0: none */
};

/* --- session_console.c --- */

/* One message of the extended protocol, whole. */
void console_message(struct worker *w, struct session *s, const struct frame *f);
/* Sync, or a simple query, ends portals. */
void console_end_portals(struct session *s);
/* The answer to what console_message() has asked for. False: it was for a simple query. */
bool console_result(struct worker *w, struct session *s, struct bytes answer);
void console_free(struct session *s);
/* A prepared command that it had in another process; name and text are taken over. Borrowed. */
struct console_statement *console_restore(struct session *s, char *name, char *text);
/* Passes the text of a query on to the admin actor. */
void console_ask(struct worker *w, struct session *s, struct bytes text);

/* --- console_text.c: pure --- */

enum console_shape { SHAPE_NOTHING, SHAPE_ASK, SHAPE_SUCCESS, SHAPE_SNAPSHOT };

/* How many commands are in the text. */
unsigned console_count(struct bytes text);
/* What rows the command has: none; those that it shows when it is run; or as of old. */
enum console_shape console_shape_of(struct bytes text);
/* The largest n of the parameters $n outside of quotes and comments; a mistake is told. Only the
 * database of PAUSE, RESUME and RECONNECT may be one. */
MUST_CHECK int console_parameters(struct bytes text, unsigned *count, struct failure *why);
/* The text with "value" in place of $1. malloc'ed. */
char *console_fill(const char *text, struct bytes value);

/* --- console_format.c: pure --- */

/* RowDescription with the formats of the portal (NULL: text) in place of its own. */
void console_write_description(struct writer *out, struct bytes body,
                               const struct console_portal *portal);
/* DataRow of text cells in those formats; description is the body of its RowDescription. */
void console_write_row(struct writer *out, struct bytes row, struct bytes description,
                       const struct console_portal *portal);
/* PostgreSQL's binary numeric of decimal digits, with sign and fraction. */
void console_write_numeric(struct writer *out, struct bytes text);

#endif
