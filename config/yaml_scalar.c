#include "config/yaml_scalar.h"

#include <errno.h>
#include <stdlib.h>

static bool is_any(const char *text, size_t len, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0)
            return true;
    return false;
}
#define IS_ANY(text, len, ...)                             \
    ({                                                     \
        static const char *const words_[] = {__VA_ARGS__}; \
        is_any(text, len, words_, COUNT_OF(words_));       \
    })

static bool all_digits(const char *p, size_t len, int base)
{
    for (size_t i = 0; i < len; i++) {
        int c = (unsigned char)p[i];
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : 99;
        if (digit >= base)
            return false;
    }
    return len > 0;
}

/* [+-]? then decimal digits, or 0x, 0o, 0b and digits. 0 when it is no integer. */
static int integer_base(const char *p, size_t len)
{
    if (len > 2 && p[0] == '0') {
        int base = p[1] == 'x' ? 16 : p[1] == 'o' ? 8 : p[1] == 'b' ? 2 : 0;
        if (base != 0)
            return all_digits(p + 2, len - 2, base) ? base : 0;
    }
    return all_digits(p, len, 10) ? 10 : 0;
}

/* Digits, at most one point, an optional exponent; at least one digit before the exponent. */
static bool looks_like_float(const char *p, size_t len)
{
    const char *end = p + len;
    size_t digits = 0;

    for (; p < end && *p >= '0' && *p <= '9'; p++)
        digits++;
    if (p < end && *p == '.')
        for (p++; p < end && *p >= '0' && *p <= '9'; p++)
            digits++;
    if (digits == 0)
        return false;
    if (p == end)
        return true;
    if (*p != 'e' && *p != 'E')
        return false;
    p++;
    if (p < end && (*p == '+' || *p == '-'))
        p++;
    return p < end && all_digits(p, (size_t)(end - p), 10);
}

static enum yaml_word resolve_number(struct tree **out, struct arena *arena, struct origin at,
                                     const char *text, size_t len)
{
    bool sign = *text == '+' || *text == '-';
    const char *p = text + sign;
    size_t rest = len - sign;

    /* 0600 and 00.5 are text: so file modes can be written plainly. */
    if (rest > 1 && p[0] == '0' && all_digits(p + 1, rest - 1, 10)) {
        *out = tree_new_string(arena, at, text, len);
        return YAML_VALUE;
    }
    int base = integer_base(p, rest);
    if (base != 0) {
        char *digits = arena_format(arena, "%s%.*s", *text == '-' ? "-" : "",
                                    (int)(base == 10 ? rest : rest - 2), base == 10 ? p : p + 2);
        errno = 0;
        *out = tree_new(arena, TREE_INTEGER, at);
        (*out)->integer = strtoll(digits, NULL, base);
        return errno == 0 ? YAML_VALUE : YAML_TOO_LARGE;
    }
    bool special = IS_ANY(p, rest, ".inf", ".Inf", ".INF") ||
                   (!sign && IS_ANY(p, rest, ".nan", ".NaN", ".NAN"));
    if (special || looks_like_float(p, rest)) {
        *out = tree_new_string(arena, at, text, len);
        (*out)->kind = TREE_FLOAT;
        (*out)->number = special ? 0 : strtod((*out)->text, NULL);
        return YAML_VALUE;
    }
    *out = tree_new_string(arena, at, text, len);
    return YAML_VALUE;
}

enum yaml_word yaml_resolve_plain(struct tree **out, struct arena *arena, struct origin at,
                                  const char *text, size_t len)
{
    if (len == 0 || IS_ANY(text, len, "~", "null", "Null", "NULL"))
        return YAML_NULL;
    bool truth = IS_ANY(text, len, "true", "True", "TRUE");
    if (truth || IS_ANY(text, len, "false", "False", "FALSE")) {
        *out = tree_new(arena, TREE_BOOL, at);
        (*out)->truth = truth;
        return YAML_VALUE;
    }
    return resolve_number(out, arena, at, text, len);
}
