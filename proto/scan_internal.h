/* scan_internal.h: what the files of the scanner share. */
#ifndef PROTO_SCAN_INTERNAL_H
#define PROTO_SCAN_INTERNAL_H

#include "proto/scan.h"

enum scan_token { TOKEN_END, TOKEN_SEMICOLON, TOKEN_WORD, TOKEN_OTHER };

struct scan {
    const uint8_t *text;
    const uint8_t *end;
    struct scan_effect effect;
    uint16_t found; /* kinds whose functions or words are somewhere in the text */
    bool lex;       /* the statements must be looked at one by one */
    bool odd;       /* where statements end depends on what is not known here */
    bool created;   /* CREATE: its body may hold statements that are not run */

    /* Closer looks at single words read ahead, so a text of nothing but such words could cost the
     * square of its length. */
    size_t looks;           /* bytes that they may still read */
    const uint8_t *comment; /* behind the first end of a comment, or s->end; NULL: not looked for */
    int updates;            /* is there an UPDATE? 0: not looked for, 1: yes, -1: no */

    /* the token */
    const uint8_t *at; /* behind it */
    const uint8_t *word;
    uint32_t len;
    enum scan_token token;
};

static inline bool scan_is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}
static inline uint8_t scan_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}
static inline bool scan_in_word(uint8_t c)
{
    uint8_t low = c | 0x20;

    return (low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
           c >= 0x80;
}
/* Do `len` bytes at p spell `word`, which is in lower case? */
static inline bool scan_same(const uint8_t *p, const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (scan_lower(p[i]) != (uint8_t)word[i])
            return false;
    return true;
}

/* scan_lex.c */
void scan_next(struct scan *s);
bool scan_is(const struct scan *s, const char *word);
/* scan_statements.c: what each statement of the text does */
void scan_statements(struct scan *s);
/* scan_words.c: a closer look at a word that was found; `at` is behind it, or its beginning */
bool scan_config_is_local(struct scan *s, const uint8_t *at);
bool scan_temp_matters(struct scan *s, const uint8_t *at);
bool scan_has_word(const struct scan *s, const char *word); /* reads all of the text */
bool scan_has_update(struct scan *s);

#endif
