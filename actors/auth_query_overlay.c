/* The column startup_parameters: a JSON object of settings for one user. */
#include "actors/auth_query_result.h"

#include "config/decode.h"

#include <strings.h>

enum {
    OVERLAY_BYTES_MAX = 10000 - 512, /* as all that is configured may have of a StartupMessage */
    OVERLAY_ENTRIES_MAX = 200,
    DEPTH_MAX = 32,
    TYPE_JSON = 114,
    TYPE_JSONB = 3802,
};

const char *overlay_problem_name(enum overlay_problem problem)
{
    static const char *const names[] = {
        [OVERLAY_GOOD] = "",
        [OVERLAY_BAD_TYPE] = "auth_query_bad_type",
        [OVERLAY_OVERSIZE] = "auth_query_oversize",
        [OVERLAY_INVALID_JSON] = "auth_query_invalid_json",
        [OVERLAY_INVALID_SHAPE] = "auth_query_invalid_shape",
        [OVERLAY_INVALID_ENTRY] = "auth_query_invalid_entry",
    };

    return names[problem];
}

static bool readable(uint32_t type)
{
    static const uint32_t types[] = {25, 1043, 1042, 19, 705, TYPE_JSON, TYPE_JSONB};

    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (types[i] == type)
            return true;
    }
    return false;
}

/* --- JSON (RFC 8259) --- */

struct json {
    const char *at;
    const char *end;
    struct arena *arena;
    bool bad;
};

static char peek(const struct json *j)
{
    return j->at < j->end ? *j->at : '\0';
}

static void skip_space(struct json *j)
{
    while (j->at < j->end && strchr(" \t\r\n", *j->at) != NULL && *j->at != '\0')
        j->at++;
}

/* Takes this character, which must be next. */
static void take(struct json *j, char wanted)
{
    skip_space(j);
    if (peek(j) != wanted)
        j->bad = true;
    else
        j->at++;
}

static bool take_if(struct json *j, char wanted)
{
    skip_space(j);
    if (peek(j) != wanted)
        return false;
    j->at++;
    return true;
}

static uint32_t four_digits(struct json *j)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        char c = peek(j);
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;

        if (digit == 16) {
            j->bad = true;
            return 0;
        }
        value = value << 4 | digit;
        j->at++;
    }
    return value;
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Behind "\u". A pair of surrogates is one character. */
static uint32_t code_point(struct json *j)
{
    uint32_t high = four_digits(j);

    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high > 0xdbff || j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u') {
        j->bad = true;
        return 0;
    }
    j->at += 2;
    uint32_t low = four_digits(j);
    if (low < 0xdc00 || low > 0xdfff)
        j->bad = true;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static size_t escaped(struct json *j, char *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    char c = peek(j);

    j->at++;
    if (c == 'u')
        return put_utf8(out, code_point(j));
    const char *found = c == '\0' ? NULL : strchr(from, c);
    if (found == NULL) {
        j->bad = true;
        return 0;
    }
    *out = to[found - from];
    return 1;
}

/* How far it is to the quote that ends a string. */
static size_t quoted_len(const struct json *j)
{
    const char *at = j->at;

    while (at < j->end && *at != '"')
        at += *at == '\\' && at + 1 < j->end ? 2 : 1;
    return (size_t)(at - j->at);
}

/* A string; its text is never longer than what stands for it. */
static struct bytes string(struct json *j)
{
    take(j, '"');
    if (j->bad)
        return (struct bytes){NULL, 0};
    char *text = arena_alloc(j->arena, quoted_len(j) + 1);
    size_t len = 0;
    while (!j->bad && j->at < j->end && *j->at != '"') {
        if ((uint8_t)*j->at < 0x20) {
            j->bad = true;
        } else if (*j->at == '\\') {
            j->at++;
            j->bad |= j->at == j->end;
            len += j->bad ? 0 : escaped(j, text + len);
        } else {
            text[len++] = *j->at++;
        }
    }
    take(j, '"');
    return (struct bytes){(const uint8_t *)text, len};
}

static void number(struct json *j)
{
    static const char digits[] = "0123456789";

    if (peek(j) == '-')
        j->at++;
    size_t whole = strspn(j->at, digits);
    j->bad |= whole == 0 || (whole > 1 && *j->at == '0');
    j->at += whole;
    if (peek(j) == '.') {
        size_t fraction = strspn(++j->at, digits);

        j->bad |= fraction == 0;
        j->at += fraction;
    }
    if (peek(j) == 'e' || peek(j) == 'E') {
        j->at++;
        if (peek(j) == '+' || peek(j) == '-')
            j->at++;
        size_t exponent = strspn(j->at, digits);
        j->bad |= exponent == 0;
        j->at += exponent;
    }
}

static void word(struct json *j)
{
    static const char *const words[] = {"true", "false", "null"};

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        size_t len = strlen(words[i]);

        if ((size_t)(j->end - j->at) >= len && memcmp(j->at, words[i], len) == 0) {
            j->at += len;
            return;
        }
    }
    j->bad = true;
}

/* Any value, whose text is of no interest. */
static void skip_value(struct json *j, int depth)
{
    skip_space(j);
    char open = peek(j);

    if (depth > DEPTH_MAX) {
        j->bad = true;
    } else if (open == '"') {
        string(j);
    } else if (open == '-' || (open >= '0' && open <= '9')) {
        number(j);
    } else if (open == '{' || open == '[') {
        char close = open == '{' ? '}' : ']';

        j->at++;
        if (take_if(j, close))
            return;
        do {
            if (open == '{') {
                string(j);
                take(j, ':');
            }
            skip_value(j, depth + 1);
        } while (!j->bad && take_if(j, ','));
        take(j, close);
    } else {
        word(j);
    }
}

/* --- settings --- */

static bool name_is_good(struct bytes name)
{
    static const char *const reserved[] = {"user",    "database", "replication",
                                           "options", "role",     "session_authorization"};
    const char *text = (const char *)name.at;

    for (size_t i = 0; i < name.len; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

        if (!letter && (i == 0 || ((c < '0' || c > '9') && c != '.')))
            return false;
    }
    for (size_t i = 0; i < COUNT_OF(reserved); i++) {
        if (strcasecmp(text, reserved[i]) == 0)
            return false;
    }
    return name.len > 0 && strncasecmp(text, "_pq_.", 5) != 0;
}

/* The last of two under one name wins, as in jsonb. */
static void add(struct arena *arena, struct pair_list *out, struct bytes name, struct bytes value)
{
    struct pair pair = {guc_canonical(arena, (const char *)name.at),
                        arena_copy(arena, (const char *)value.at, value.len)};

    for (size_t i = 0; i < out->count; i++) {
        if (strcmp(out->items[i].name, pair.name) == 0) {
            out->items[i] = pair;
            return;
        }
    }
    out->items[out->count++] = pair;
}

/* One entry. False: it is left out. */
static bool entry(struct json *j, struct pair_list *out)
{
    struct bytes name = string(j);

    take(j, ':');
    skip_space(j);
    if (j->bad)
        return true;
    if (peek(j) != '"') {
        skip_value(j, 1);
        return false;
    }
    struct bytes value = string(j);
    if (j->bad)
        return true;
    if (!name_is_good(name) || memchr(value.at, '\0', value.len) != NULL ||
        out->count == OVERLAY_ENTRIES_MAX)
        return false;
    add(j->arena, out, name, value);
    return true;
}

static bool too_long(const struct pair_list *pairs)
{
    size_t bytes = 0;

    for (size_t i = 0; i < pairs->count; i++)
        bytes += strlen(pairs->items[i].name) + strlen(pairs->items[i].value) + 2;
    return bytes > OVERLAY_BYTES_MAX;
}

static enum overlay_problem read_object(struct json *j, struct pair_list *out)
{
    bool all_good = true;

    skip_space(j);
    if (peek(j) != '{') {
        skip_value(j, 0);
        skip_space(j);
        return j->bad || j->at != j->end ? OVERLAY_INVALID_JSON : OVERLAY_INVALID_SHAPE;
    }
    out->items = arena_alloc(j->arena, OVERLAY_ENTRIES_MAX * sizeof *out->items);
    j->at++;
    if (!take_if(j, '}')) {
        do
            all_good &= entry(j, out);
        while (!j->bad && take_if(j, ','));
        take(j, '}');
    }
    skip_space(j);
    if (j->bad || j->at != j->end)
        return OVERLAY_INVALID_JSON;
    return all_good ? OVERLAY_GOOD : OVERLAY_INVALID_ENTRY;
}

enum overlay_problem overlay_read(struct arena *arena, uint32_t type, const char *text, size_t len,
                                  struct pair_list *out)
{
    struct json j = {.at = text, .end = text + len, .arena = arena};

    *out = (struct pair_list){0};
    if (!readable(type))
        return OVERLAY_BAD_TYPE;
    if (len == 0)
        return OVERLAY_GOOD;
    if (len > OVERLAY_BYTES_MAX)
        return OVERLAY_OVERSIZE;
    enum overlay_problem problem = read_object(&j, out);
    if ((problem == OVERLAY_GOOD || problem == OVERLAY_INVALID_ENTRY) && too_long(out))
        problem = OVERLAY_OVERSIZE;
    if (problem != OVERLAY_GOOD && problem != OVERLAY_INVALID_ENTRY)
        *out = (struct pair_list){0};
    pairs_sort(out);
    return problem;
}
