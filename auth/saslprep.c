#include "auth/nfkc.h"
#include "auth/secret.h"

#include <openssl/mem.h>
#include <stdlib.h>

struct code_range {
    uint32_t from;
    uint32_t to;
};
#define SASLPREP_TABLES
#include "auth/saslprep_tables.h"

/* A longer password is used as it is, lest a stranger buy much time with marks to be sorted. */
enum { SASLPREP_LIMIT_BYTES = 4096 };

static bool in_ranges(const struct code_range *ranges, size_t count, uint32_t code)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (code < ranges[middle].from)
            high = middle;
        else if (code > ranges[middle].to)
            low = middle + 1;
        else
            return true;
    }
    return false;
}
#define IN(table, code) in_ranges(table, COUNT_OF(table), code)

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++)
        if ((uint8_t)*text >= 0x80)
            return false;
    return true;
}

/* One character of well-formed UTF-8 (no long forms, no surrogates). Returns its length or 0. */
static size_t utf8_read(const uint8_t *p, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80   ? 1
                 : p[0] < 0xc0 ? 0
                 : p[0] < 0xe0 ? 2
                 : p[0] < 0xf0 ? 3
                 : p[0] < 0xf8 ? 4
                               : 0;

    if (len == 0)
        return 0;
    *code = len == 1 ? p[0] : p[0] & (0x7f >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) /* the final NUL stops us as well */
            return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    if (*code < least[len] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return len;
}

static size_t utf8_write(uint8_t *p, uint32_t code)
{
    if (code < 0x80) {
        p[0] = (uint8_t)code;
        return 1;
    }

    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        p[i] = (uint8_t)(0x80 | (code & 0x3f));
    p[0] = (uint8_t)(0xf00 >> len | code);
    return len;
}

/* Decodes and maps: other spaces become a space, invisible characters go. 0: refused. */
static size_t map_characters(uint32_t *out, const char *password)
{
    const uint8_t *p = (const uint8_t *)password;
    size_t count = 0;

    while (*p != 0) {
        uint32_t code;
        size_t len = utf8_read(p, &code);

        if (len == 0)
            return 0;
        p += len;
        if (IN(non_ascii_space, code))
            out[count++] = ' ';
        else if (!IN(mapped_to_nothing, code))
            out[count++] = code;
    }
    return count;
}

/* Forbidden characters, and the rule for bidirectional text (RFC 3454, section 6). Judged before
 * normalization, as PostgreSQL does: both sides must come to the same bytes. */
static bool is_allowed(const uint32_t *text, size_t count)
{
    bool rtl = false;
    bool ltr = false;

    for (size_t i = 0; i < count; i++) {
        if (IN(prohibited, text[i]) || IN(unassigned, text[i]))
            return false;
        rtl = rtl || IN(right_to_left, text[i]);
        ltr = ltr || IN(left_to_right, text[i]);
    }
    return !rtl || (!ltr && IN(right_to_left, text[0]) && IN(right_to_left, text[count - 1]));
}

static char *encode(const uint32_t *text, size_t count)
{
    uint8_t *out = malloc(4 * count + 1);
    size_t used = 0;

    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        used += utf8_write(out + used, text[i]);
    out[used] = 0;
    return (char *)out;
}

char *saslprep(const char *password)
{
    size_t len = strlen(password);
    char *prepared = NULL;

    if (is_ascii(password) || len > SASLPREP_LIMIT_BYTES)
        return strdup(password);

    /* `len` characters at most, and behind them room for their normal form */
    size_t size = len * (1 + NFKC_EXPANSION) * sizeof(uint32_t);
    uint32_t *mapped = malloc(size);
    if (mapped == NULL)
        return NULL;

    size_t count = map_characters(mapped, password);
    if (count > 0 && is_allowed(mapped, count)) {
        uint32_t *normal = mapped + len;

        prepared = encode(normal, nfkc(normal, mapped, count));
    } else {
        prepared = strdup(password);
    }
    OPENSSL_cleanse(mapped, size);
    free(mapped);
    return prepared;
}
