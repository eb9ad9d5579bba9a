/* console_objects.h: what the files of the console's extended protocol share. */
#ifndef ACTORS_CONSOLE_OBJECTS_H
#define ACTORS_CONSOLE_OBJECTS_H

#include "actors/console.h"

/* --- console_objects.c: prepared commands and portals, made by Parse and Bind --- */

/* Made when it is first needed. */
struct console *console_of(struct session *s);
/* Where the one of that name is referred to; *it is NULL: there is none. */
struct console_statement **console_statement(struct console *c, const char *name);
struct console_portal **console_portal(struct console *c, const char *name);
/* *at may be NULL. */
void console_drop_statement(struct console *c, struct console_statement **at);
void console_drop_portal(struct console *c, struct console_portal **at);
/* The bodies of these messages. */
void console_parse(struct worker *w, struct session *s, struct cursor *body);
void console_bind(struct worker *w, struct session *s, struct cursor *body);
/* Sends the writer's bytes and frees them. */
void console_put(struct worker *w, struct session *s, struct writer *out);
/* A message without a body. */
void console_put_empty(struct worker *w, struct session *s, char type);
/* Sends an error; what follows is skipped up to Sync. */
PRINTF_LIKE(4, 5)
void console_refuse(struct worker *w, struct session *s, const char *sqlstate, const char *format,
                    ...);

#endif
