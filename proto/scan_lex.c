/* Tokens of SQL, as far as it matters where statements begin and what their first words are. */
#include "proto/scan_internal.h"

static const uint8_t *find(const uint8_t *from, const uint8_t *end, const void *what, size_t len)
{
    return from == end ? NULL : memmem(from, (size_t)(end - from), what, len);
}

/* No end in sight: PostgreSQL will refuse the text. */
static const uint8_t *cut_off(struct scan *s)
{
    s->odd = true;
    return s->end;
}

/* Behind the string whose quote is at p. */
static const uint8_t *skip_string(struct scan *s, const uint8_t *p, bool escapes)
{
    while (++p < s->end) {
        if (*p == '\\' && p + 1 < s->end) {
            if (escapes)
                p++;
            else if (p[1] == '\'')
                s->odd = true; /* depends on standard_conforming_strings */
        } else if (*p == '\'') {
            if (p + 1 == s->end || p[1] != '\'')
                return p + 1;
            p++;
        }
    }
    return cut_off(s);
}

static const uint8_t *skip_quoted_name(struct scan *s, const uint8_t *p)
{
    p = find(p + 1, s->end, "\"", 1);
    return p == NULL ? cut_off(s) : p + 1; /* a doubled quote begins another one */
}

static const uint8_t *skip_dollar_string(struct scan *s, const uint8_t *p)
{
    const uint8_t *tag = p++;

    if (p < s->end && *p >= '0' && *p <= '9')
        return p;
    while (p < s->end && *p != '$' && scan_in_word(*p))
        p++;
    if (p == s->end || *p != '$')
        return tag + 1;
    p++;
    size_t len = (size_t)(p - tag);
    p = find(p, s->end, tag, len);
    return p == NULL ? cut_off(s) : p + len;
}

static const uint8_t *skip_block_comment(struct scan *s, const uint8_t *p)
{
    unsigned depth = 1;

    for (p += 2; s->end - p >= 2; p++) {
        if (p[0] == '/' && p[1] == '*') {
            depth++;
            p++;
        } else if (p[0] == '*' && p[1] == '/') {
            p++;
            if (--depth == 0)
                return p + 1;
        }
    }
    return cut_off(s);
}

static const uint8_t *skip_line_comment(struct scan *s, const uint8_t *p)
{
    while (p < s->end && *p != '\n' && *p != '\r')
        p++;
    return p;
}

static const uint8_t *skip_blank(struct scan *s, const uint8_t *p)
{
    for (;;) {
        while (p < s->end && scan_is_space(*p))
            p++;
        if (s->end - p < 2)
            return p;
        if (p[0] == '-' && p[1] == '-')
            p = skip_line_comment(s, p);
        else if (p[0] == '/' && p[1] == '*')
            p = skip_block_comment(s, p);
        else
            return p;
    }
}

static void take_word(struct scan *s, const uint8_t *p)
{
    while (p < s->end && scan_in_word(*p))
        p++;
    s->len = (uint32_t)(p - s->word);
    s->at = p;
    s->token = TOKEN_WORD;
    if (s->len == 1 && (*s->word | 0x20) == 'e' && p < s->end && *p == '\'') {
        s->at = skip_string(s, p, true);
        s->token = TOKEN_OTHER;
    }
}

void scan_next(struct scan *s)
{
    const uint8_t *p = skip_blank(s, s->at);

    s->at = p;
    s->word = p;
    s->len = 1;
    s->token = TOKEN_OTHER;
    if (p == s->end) {
        s->token = TOKEN_END;
        return;
    }
    switch (*p) {
    case ';':
        s->token = TOKEN_SEMICOLON;
        s->at = p + 1;
        return;
    case '\'': s->at = skip_string(s, p, false); return;
    case '"': s->at = skip_quoted_name(s, p); return;
    case '$': s->at = skip_dollar_string(s, p); return;
    default: break;
    }
    if (scan_in_word(*p) && (*p < '0' || *p > '9'))
        take_word(s, p);
    else
        s->at = p + 1;
}

bool scan_is(const struct scan *s, const char *word)
{
    return s->token == TOKEN_WORD && s->len == strlen(word) && scan_same(s->word, word, s->len);
}
