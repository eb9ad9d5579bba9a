#include "config/value.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

struct unit {
    const char *suffix; /* lower case; longer ones first */
    uint64_t factor;
};

struct grammar {
    const struct unit *units;
    size_t count;
    const char *what;   /* "duration" */
    const char *expect; /* "ms, s, m, h, d" */
};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void trim(const char **start, const char **end)
{
    while (*start < *end && is_blank(**start))
        ++*start;
    while (*end > *start && is_blank((*end)[-1]))
        --*end;
}

static bool ends_with(const char *start, const char *end, const char *suffix)
{
    size_t len = strlen(suffix);

    if ((size_t)(end - start) < len)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = end[(ptrdiff_t)i - (ptrdiff_t)len];
        if ((c >= 'A' && c <= 'Z' ? c | 32 : c) != suffix[i])
            return false;
    }
    return true;
}

static bool number_parse(const char *p, const char *end, uint64_t *out)
{
    uint64_t value = 0;

    if (p < end && *p == '+')
        p++;
    if (p == end)
        return false;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return false;
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

static int scaled_parse(uint64_t *out, const char *text, const struct grammar *g,
                        struct failure *why)
{
    const char *start = text;
    const char *end = text + strlen(text);
    uint64_t number;

    trim(&start, &end);
    for (size_t i = 0; i < g->count; i++) {
        if (!ends_with(start, end, g->units[i].suffix))
            continue;
        end -= strlen(g->units[i].suffix);
        trim(&start, &end);
        if (!number_parse(start, end, &number))
            return fail(why, "invalid number in %s: '%.*s'", g->what,
                        (int)MIN(end - start, (ptrdiff_t)80), start);
        /* The greatest value is the sign for "unset". */
        if (__builtin_mul_overflow(number, g->units[i].factor, out) || *out == UINT64_MAX)
            return fail(why, "%s is too large: '%.80s'", g->what, text);
        return 0;
    }
    if (!number_parse(start, end, &number))
        return fail(why,
                    "invalid %s format: '%.80s'. Expected a number or a string with suffix (%s)",
                    g->what, text, g->expect);
    if (number == UINT64_MAX)
        return fail(why, "%s is too large: '%.80s'", g->what, text);
    *out = number;
    return 0;
}

int duration_parse(uint64_t *out_ms, const char *text, struct failure *why)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    static const struct grammar grammar = {units, COUNT_OF(units), "duration", "ms, s, m, h, d"};

    return scaled_parse(out_ms, text, &grammar, why);
}

int bytes_parse(uint64_t *out_bytes, const char *text, struct failure *why)
{
    static const struct unit units[] = {{"kb", 1u << 10}, {"mb", 1u << 20}, {"gb", 1u << 30},
                                        {"k", 1u << 10},  {"m", 1u << 20},  {"g", 1u << 30},
                                        {"b", 1}};
    static const struct grammar grammar = {units, COUNT_OF(units), "byte size",
                                           "B, K, KB, M, MB, G, GB"};

    return scaled_parse(out_bytes, text, &grammar, why);
}

int file_mode_parse(uint32_t *out, const char *text, struct failure *why)
{
    const char *start = text;
    const char *end = text + strlen(text);
    uint32_t bits = 0;

    trim(&start, &end);
    if (end - start > 1 && start[0] == '0' && (start[1] | 32) == 'o')
        start += 2;
    else if (start == end)
        return fail(why, "must not be empty");
    if (start == end)
        return fail(why, "\"%.40s\" is not a valid octal number: no digits", text);
    for (const char *p = start; p < end; p++) {
        if (*p < '0' || *p > '7')
            return fail(why, "\"%.40s\" is not a valid octal number: invalid digit found in string",
                        text);
        if (bits > (UINT32_MAX >> 3))
            return fail(why, "\"%.40s\" is not a valid octal number: too large", text);
        bits = bits << 3 | (uint32_t)(*p - '0');
    }
    if ((bits & ~0777u) != 0)
        return fail(why,
                    "\"%.40s\" sets bits outside 0o777; only standard rwx permissions are allowed",
                    text);
    *out = bits;
    return 0;
}

bool cidr_valid(const char *text)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr binary;
    uint64_t prefix;
    const char *slash = strchr(text, '/');

    if (slash == NULL || (size_t)(slash - text) >= sizeof address || slash[1] == '+')
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = '\0';
    if (!number_parse(slash + 1, slash + strlen(slash), &prefix))
        return false;
    if (inet_pton(AF_INET, address, &binary) == 1)
        return prefix <= 32;
    return inet_pton(AF_INET6, address, &binary) == 1 && prefix <= 128;
}

bool address_valid(const char *text)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr binary;
    size_t len = strlen(text);
    bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';

    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len >= sizeof address)
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    return (!bracketed && inet_pton(AF_INET, address, &binary) == 1) ||
           inet_pton(AF_INET6, address, &binary) == 1;
}
