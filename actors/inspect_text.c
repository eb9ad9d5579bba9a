#include "actors/inspect_internal.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

/* The character at p and its length in bytes; 0 when it is not well-formed UTF-8. */
static size_t utf8_peek(const uint8_t *p, size_t len, uint32_t *out)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    if (n == 0 || n > len || p[0] > 0xf4)
        return 0;
    uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *out = c;
    return n;
}

static bool printable(uint32_t c)
{
    return c >= 0x20 && !(c >= 0x7f && c < 0xa0) && c != 0x2028 && c != 0x2029 && c != 0xfeff &&
           c != 0xfffe && c != 0xffff;
}

/* What both languages write the same way. */
static const char *short_escape(uint32_t c)
{
    switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return NULL;
    }
}

static void quote(FILE *out, const char *text, size_t len, bool json)
{
    const uint8_t *p = (const uint8_t *)text;

    putc('"', out);
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = utf8_peek(p + i, len - i, &c);

        if (n == 0 && json)
            fputs("\\ufffd", out);
        else if (n == 0)
            fprintf(out, "\\x%02x", p[i]);
        else if (short_escape(c) != NULL)
            fputs(short_escape(c), out);
        else if (printable(c))
            fwrite(p + i, 1, n, out);
        else
            fprintf(out, "\\u%04x", c);
        i += MAX(n, 1u);
    }
    putc('"', out);
}

void inspect_quote_json(FILE *out, const char *text, size_t len)
{
    quote(out, text, len, true);
}

/* Words that YAML 1.1 or 1.2 takes for something else than text. */
static bool reserved(const char *text, size_t len)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no",
                                        "on",   "off",   "y",    "n"};

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (strlen(words[i]) == len && strncasecmp(words[i], text, len) == 0)
            return true;
    }
    return false;
}

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Narrower than YAML allows, so that it holds in every position. */
static bool plain(const char *text, size_t len)
{
    if (len == 0 || !(letter(text[0]) || text[0] == '/') || text[len - 1] == ' ')
        return false;
    for (size_t i = 1; i < len; i++) {
        if (!letter(text[i]) && !(text[i] >= '0' && text[i] <= '9') &&
            (text[i] == '\0' || strchr(" ./@+-", text[i]) == NULL))
            return false;
    }
    return !reserved(text, len);
}

void inspect_quote_yaml(FILE *out, const char *text, size_t len)
{
    if (plain(text, len))
        fwrite(text, 1, len, out);
    else
        quote(out, text, len, false);
}

void inspect_base64(FILE *out, const char *at, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = (const uint8_t *)at;

    putc('"', out);
    for (size_t i = 0; i < len; i += 3) {
        size_t n = MIN(len - i, 3u);
        uint32_t v = (uint32_t)p[i] << 16;

        if (n > 1)
            v |= (uint32_t)p[i + 1] << 8;
        if (n > 2)
            v |= p[i + 2];
        putc(digits[v >> 18], out);
        putc(digits[v >> 12 & 63], out);
        putc(n > 1 ? digits[v >> 6 & 63] : '=', out);
        putc(n > 2 ? digits[v & 63] : '=', out);
    }
    putc('"', out);
}

void inspect_float(FILE *out, double v)
{
    char text[40];

    /* The shortest form that reads back as the same number. */
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    fputs(text, out);
    if (strpbrk(text, ".e") == NULL)
        fputs(".0", out);
}
