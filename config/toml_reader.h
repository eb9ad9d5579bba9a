/* toml_reader.h: what the two halves of the TOML reader share. Not for others. */
#ifndef CONFIG_TOML_READER_H
#define CONFIG_TOML_READER_H

#include "config/toml.h"

struct toml {
    const char *start;
    const char *p;
    const char *end;
    int line;
    int depth;
    const char *file;
    struct arena *arena;
    struct failure *why;
};

/* Position of `at` in front of the reason. Returns -1. */
PRINTF_LIKE(3, 4) int toml_fail(struct toml *t, const char *at, const char *format, ...);

static inline bool toml_sees(const struct toml *t, const char *text)
{
    size_t len = strlen(text);

    return (size_t)(t->end - t->p) >= len && memcmp(t->p, text, len) == 0;
}
static inline int toml_peek(const struct toml *t)
{
    return t->p < t->end ? (unsigned char)*t->p : -1;
}
static inline struct origin toml_here(const struct toml *t)
{
    return (struct origin){t->file, t->line};
}
/* Steps over a line end: 1. None here: 0. A carriage return alone: -1. */
MUST_CHECK int toml_newline(struct toml *t);

/* A string of any of the four kinds; single-line ones only when `key`. */
MUST_CHECK int toml_string(struct toml *t, struct tree **out, bool key);
/* Number, boolean, date or time. */
MUST_CHECK int toml_scalar(struct toml *t, struct tree **out);
/* Is [p, end) an RFC 3339 date, time or both, as TOML 1.0 has it? */
bool toml_datetime_valid(const char *p, const char *end);

#endif
