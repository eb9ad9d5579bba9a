/* toml_scalar.c: strings, numbers and booleans of TOML. */
#include "config/toml_reader.h"

#include <errno.h>
#include <stdlib.h>

static char *utf8_put(char *out, uint32_t code)
{
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};

    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *out++ = (char)(lead[more] | code >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (code >> (6 * more) & 0x3f));
    return out;
}

/* \uXXXX or \UXXXXXXXX; t->p stands behind the letter. */
static int toml_unicode(struct toml *t, int digits, char **out)
{
    const char *at = t->p - 2;
    uint32_t code = 0;

    for (int i = 0; i < digits; i++) {
        int digit = hex_digit(toml_peek(t));
        if (digit < 0)
            return toml_fail(t, at, "a \\%c escape needs %d hex digits", at[1], digits);
        code = code << 4 | (uint32_t)digit;
        t->p++;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return toml_fail(t, at, "the escape is not a Unicode scalar value");
    *out = utf8_put(*out, code);
    return 0;
}

/* A backslash at the end of a line swallows all blanks and line ends behind it. */
static int toml_line_continuation(struct toml *t)
{
    const char *at = t->p - 1;
    int newlines = 0;

    for (;;) {
        while (toml_peek(t) == ' ' || toml_peek(t) == '\t')
            t->p++;
        int newline = toml_newline(t);
        if (newline < 0)
            return -1;
        if (newline == 0)
            break;
        newlines++;
    }
    return newlines > 0 ? 0 : toml_fail(t, at, "invalid escape sequence");
}

static int toml_escape(struct toml *t, bool multiline, char **out)
{
    static const char letters[] = "btnfr\"\\";
    static const char meanings[] = "\b\t\n\f\r\"\\";
    const char *at = t->p++;
    int c = toml_peek(t);

    if (c == 'u' || c == 'U') {
        t->p++;
        return toml_unicode(t, c == 'u' ? 4 : 8, out);
    }
    if (multiline && (c == ' ' || c == '\t' || c == '\r' || c == '\n'))
        return toml_line_continuation(t);

    const char *found = c > 0 ? strchr(letters, c) : NULL;
    if (found == NULL)
        return toml_fail(t, at, "invalid escape sequence");
    *(*out)++ = meanings[found - letters];
    t->p++;
    return 0;
}

/* One character of a string's body that is neither quote nor escape. */
static int toml_plain_char(struct toml *t, bool multiline, char **out)
{
    unsigned char c = (unsigned char)*t->p;

    if (multiline && (c == '\n' || c == '\r')) {
        int newline = toml_newline(t);
        if (newline < 0)
            return -1;
        *(*out)++ = '\n';
        return 0;
    }
    if (c == '\n')
        return toml_fail(t, t->p, "the string is not closed on its line");
    if ((c < 0x20 && c != '\t') || c == 0x7f)
        return toml_fail(t, t->p, "control character in a string");
    *(*out)++ = *t->p++;
    return 0;
}

/* Up to two quotes may stand right before the closing three. */
static bool toml_multiline_ends(struct toml *t, const char *quotes, char **out)
{
    if (!toml_sees(t, quotes))
        return false;
    for (int i = 0; i < 2 && t->p + 3 < t->end && t->p[3] == quotes[0]; i++)
        *(*out)++ = *t->p++;
    t->p += 3;
    return true;
}

int toml_string(struct toml *t, struct tree **out, bool key)
{
    struct origin at = toml_here(t);
    const char *start = t->p;
    char quote = *start;
    const char *quotes = quote == '"' ? "\"\"\"" : "'''";
    bool multiline = toml_sees(t, quotes);

    if (multiline && key)
        return toml_fail(t, start, "a key cannot be a multi-line string");
    t->p += multiline ? 3 : 1;
    if (multiline && toml_newline(t) < 0)
        return -1;

    /* No escape is longer than what it stands for in the file, so the rest of it is room enough;
     * but measure only as far as the string can reach, or a long file costs its square. */
    const char *close = t->p;
    while (close < t->end && (multiline || *close != '\n')) {
        if (quote == '"' && *close == '\\' && close + 1 < t->end)
            close += 2;
        else if (multiline && (size_t)(t->end - close) >= 3 && memcmp(close, quotes, 3) == 0)
            break;
        else if (!multiline && *close == quote)
            break;
        else
            close++;
    }
    char *text = arena_alloc(t->arena, (size_t)(MIN(close, t->end) - t->p) + 8);
    char *to = text;

    for (;;) {
        if (t->p == t->end)
            return toml_fail(t, start, "the string is not closed");
        if (multiline ? toml_multiline_ends(t, quotes, &to) : *t->p == quote)
            break;
        int result = quote == '"' && *t->p == '\\' ? toml_escape(t, multiline, &to)
                                                   : toml_plain_char(t, multiline, &to);
        if (result != 0)
            return -1;
    }
    if (!multiline)
        t->p++;
    *to = '\0';
    *out = tree_new(t->arena, TREE_STRING, at);
    (*out)->text = text;
    (*out)->len = (size_t)(to - text);
    return 0;
}

/* Copies digits without their underscores, each of which must stand between two digits. */
static bool toml_digits(const char **p, const char *end, int base, char **to)
{
    const char *start = *p;

    for (; *p < end; ++*p) {
        int digit = hex_digit((unsigned char)**p);
        if (digit >= 0 && digit < base) {
            *(*to)++ = **p;
            continue;
        }
        if (**p != '_')
            break;
        bool between = *p > start && (*p)[-1] != '_' && *p + 1 < end &&
                       hex_digit((unsigned char)(*p)[1]) >= 0 &&
                       hex_digit((unsigned char)(*p)[1]) < base;
        if (!between)
            return false;
    }
    return *p > start;
}

static int toml_integer(struct toml *t, const char *start, const char *digits, int base,
                        struct tree *node)
{
    errno = 0;
    node->integer = strtoll(digits, NULL, base);
    if (errno != 0)
        return toml_fail(t, start, "the integer does not fit 64 bits");
    node->kind = TREE_INTEGER;
    return 0;
}

static int toml_float(struct toml *t, const char *digits, struct tree *node)
{
    node->kind = TREE_FLOAT;
    node->number = strtod(digits, NULL);
    node->text = arena_text(t->arena, digits);
    node->len = strlen(node->text);
    return 0;
}

/* The decimal forms: 12, 1_000, 3.5, 1e6. `buffer` is as long as the token. */
static int toml_decimal(struct toml *t, const char *start, const char *end, char *buffer,
                        struct tree *node)
{
    const char *p = start;
    char *to = buffer;
    bool is_float = false;

    if (*p == '+' || *p == '-')
        *to++ = *p++;
    const char *whole = to;
    if (!toml_digits(&p, end, 10, &to))
        return toml_fail(t, start, "invalid value");
    if (*whole == '0' && to - whole > 1)
        return toml_fail(t, start, "a number cannot have leading zeros");
    if (p < end && *p == '.') {
        *to++ = *p++;
        is_float = true;
        if (!toml_digits(&p, end, 10, &to))
            return toml_fail(t, start, "invalid number");
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        *to++ = *p++;
        is_float = true;
        if (p < end && (*p == '+' || *p == '-'))
            *to++ = *p++;
        if (!toml_digits(&p, end, 10, &to))
            return toml_fail(t, start, "invalid number");
    }
    *to = '\0';
    if (p != end)
        return toml_fail(t, start, "invalid number");
    return is_float ? toml_float(t, buffer, node) : toml_integer(t, start, buffer, 10, node);
}

static int toml_prefixed(struct toml *t, const char *start, const char *end, char *buffer,
                         struct tree *node)
{
    int base = start[1] == 'x' ? 16 : start[1] == 'o' ? 8 : 2;
    const char *p = start + 2;
    char *to = buffer;

    if (!toml_digits(&p, end, base, &to) || p != end)
        return toml_fail(t, start, "invalid number");
    *to = '\0';
    return toml_integer(t, start, buffer, base, node);
}

static bool token_is(const char *start, const char *end, const char *word)
{
    return (size_t)(end - start) == strlen(word) && memcmp(start, word, strlen(word)) == 0;
}

static bool toml_word(const char *start, const char *end, struct toml *t, struct tree *node)
{
    const char *unsigned_start = *start == '+' || *start == '-' ? start + 1 : start;

    if (token_is(start, end, "true") || token_is(start, end, "false")) {
        node->kind = TREE_BOOL;
        node->truth = *start == 't';
        return true;
    }
    if (token_is(unsigned_start, end, "inf") || token_is(unsigned_start, end, "nan")) {
        toml_float(t, arena_copy(t->arena, start, (size_t)(end - start)), node);
        return true;
    }
    return false;
}

static const char *toml_token_end(const struct toml *t)
{
    const char *p = t->p;

    while (p < t->end && *p != '\0' &&
           (strchr("+-.:_", *p) != NULL || (*p >= '0' && *p <= '9') ||
            ((*p | 32) >= 'a' && (*p | 32) <= 'z')))
        p++;
    /* A date and its time may be parted by one blank. */
    if (p - t->p == 10 && t->end - p >= 3 && *p == ' ' && t->p[4] == '-' && p[1] >= '0' &&
        p[1] <= '9')
        for (p++; p < t->end && *p != '\0' &&
                  (strchr("+-.:Zz", *p) != NULL || (*p >= '0' && *p <= '9'));)
            p++;
    return p;
}

static bool digits_only(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p == end;
}

/* Nothing else has a colon, or four digits and a dash. */
static bool meant_as_datetime(const char *start, const char *end)
{
    return memchr(start, ':', (size_t)(end - start)) != NULL ||
           (end - start > 4 && start[4] == '-' && digits_only(start, start + 4));
}

int toml_scalar(struct toml *t, struct tree **out)
{
    const char *start = t->p;
    const char *end = toml_token_end(t);
    struct tree *node = tree_new(t->arena, TREE_INTEGER, toml_here(t));
    int result = 0;

    if (end == start)
        return toml_fail(t, start, "expected a value");
    if (toml_word(start, end, t, node)) {
        /* done */
    } else if (toml_datetime_valid(start, end)) {
        node->kind = TREE_DATETIME;
        node->len = (size_t)(end - start);
        node->text = arena_copy(t->arena, start, node->len);
    } else if (meant_as_datetime(start, end)) {
        result = toml_fail(t, start, "invalid date or time");
    } else {
        char *buffer = arena_alloc(t->arena, (size_t)(end - start) + 1);
        bool prefixed = end - start > 2 && start[0] == '0' && memchr("xob", start[1], 3) != NULL;
        result = prefixed ? toml_prefixed(t, start, end, buffer, node)
                          : toml_decimal(t, start, end, buffer, node);
    }
    if (result != 0)
        return -1;
    t->p = end;
    *out = node;
    return 0;
}
