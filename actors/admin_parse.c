/* The console's grammar: words, and semicolons between commands. */
#include "actors/admin.h"

#include <strings.h>

struct scan {
    const uint8_t *at;
    const uint8_t *end;
    char *scratch;
};

/* A NUL ends a text in the protocol; one that got here is as good as a blank. */
static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0';
}

static bool starts(const struct scan *scan, const char *two)
{
    return scan->end - scan->at >= 2 && scan->at[0] == (uint8_t)two[0] &&
           scan->at[1] == (uint8_t)two[1];
}

static void skip_line(struct scan *scan)
{
    while (scan->at < scan->end && *scan->at != '\n')
        scan->at++;
}

/* Such comments nest, as PostgreSQL's do. */
static void skip_block(struct scan *scan)
{
    size_t depth = 0;

    do {
        if (starts(scan, "/*")) {
            depth++;
            scan->at += 2;
        } else if (starts(scan, "*/")) {
            depth--;
            scan->at += 2;
        } else {
            scan->at++;
        }
    } while (depth > 0 && scan->at < scan->end);
}

static void skip_blanks(struct scan *scan)
{
    while (scan->at < scan->end) {
        if (is_blank(*scan->at))
            scan->at++;
        else if (starts(scan, "--"))
            skip_line(scan);
        else if (starts(scan, "/*"))
            skip_block(scan);
        else
            return;
    }
}

/* A doubled quote stands for one; without the closing quote it goes on to the end. */
static void take_quoted(struct scan *scan)
{
    uint8_t quote = *scan->at++;

    while (scan->at < scan->end) {
        uint8_t c = *scan->at++;

        if (c == quote) {
            if (scan->at == scan->end || *scan->at != quote)
                return;
            scan->at++;
        }
        if (c != '\0')
            *scan->scratch++ = (char)c;
    }
}

static void take_plain(struct scan *scan)
{
    while (scan->at < scan->end) {
        uint8_t c = *scan->at;

        if (is_blank(c) || c == ';' || c == '=' || c == '\'' || c == '"' || starts(scan, "--") ||
            starts(scan, "/*"))
            return;
        *scan->scratch++ = (char)c;
        scan->at++;
    }
}

static const char *take_word(struct scan *scan)
{
    char *word = scan->scratch;

    if (*scan->at == '\'' || *scan->at == '"')
        take_quoted(scan);
    else if (*scan->at == '=')
        *scan->scratch++ = (char)*scan->at++;
    else
        take_plain(scan);
    *scan->scratch++ = '\0';
    return word;
}

bool admin_parse(struct bytes *rest, struct admin_statement *out, char *scratch)
{
    struct scan scan = {rest->at, rest->at + rest->len, scratch};
    const uint8_t *second = NULL;

    memset(out, 0, sizeof *out);
    skip_blanks(&scan);
    if (scan.at == scan.end)
        return false;
    const uint8_t *first = scan.at;
    const uint8_t *last = scan.at;
    while (scan.at < scan.end && *scan.at != ';') {
        const char *word = take_word(&scan);

        last = scan.at;
        if (out->count < ADMIN_WORDS)
            out->words[out->count] = word;
        if (++out->count == 2)
            second = last;
        skip_blanks(&scan);
    }
    out->text = (struct bytes){first, (size_t)(last - first)};
    out->value = (struct bytes){second, second == NULL ? 0 : (size_t)(last - second)};
    if (scan.at < scan.end)
        scan.at++;
    *rest = (struct bytes){scan.at, (size_t)(scan.end - scan.at)};
    return true;
}

const char *admin_word(const struct admin_statement *s, int n)
{
    return n < MIN(s->count, (int)ADMIN_WORDS) ? s->words[n] : "";
}

bool admin_word_is(const struct admin_statement *s, int n, const char *word)
{
    return strcasecmp(admin_word(s, n), word) == 0;
}

static struct bytes trim(struct bytes text, bool quotes)
{
    while (text.len > 0 &&
           (is_blank(text.at[0]) || (quotes && (text.at[0] == '\'' || text.at[0] == '"')))) {
        text.at++;
        text.len--;
    }
    while (text.len > 0) {
        uint8_t c = text.at[text.len - 1];

        if (!is_blank(c) && !(quotes && (c == '\'' || c == '"')))
            break;
        text.len--;
    }
    return text;
}

struct bytes admin_set_value(struct bytes value)
{
    value = trim(value, false);
    if (value.len > 0 && value.at[0] == '=') {
        value.at++;
        value.len--;
    } else if (value.len >= 2 && strncasecmp((const char *)value.at, "to", 2) == 0 &&
               (value.len == 2 || is_blank(value.at[2]) || value.at[2] == '\'' ||
                value.at[2] == '"')) {
        value.at += 2;
        value.len -= 2;
    }
    return trim(value, true);
}

bool admin_bytes_contain(struct bytes text, const char *part)
{
    return text.len > 0 && memmem(text.at, text.len, part, strlen(part)) != NULL;
}
