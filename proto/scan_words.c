/* Words that matter only in some company. */
#include "proto/scan_internal.h"

/* The argument [from, to) is the word true, however it is written. */
static bool is_true(const uint8_t *from, const uint8_t *to)
{
    while (from < to && scan_is_space(*from))
        from++;
    while (from < to && scan_is_space(to[-1]))
        to--;
    if (to - from >= 2 && *from == '\'' && to[-1] == '\'') {
        from++;
        to--;
    }
    return to - from == 4 && scan_same(from, "true", 4);
}

/* set_config(name, value, true) lasts until the end of the transaction. Only the plain form is
 * believed: whatever is unusual counts as lasting. `at` is behind the name. */
bool scan_config_is_local(const struct scan *s, const uint8_t *at)
{
    const uint8_t *argument = NULL;
    unsigned depth = 0;
    unsigned commas = 0;

    while (at < s->end && scan_is_space(*at))
        at++;
    if (at == s->end || *at != '(')
        return false;
    for (; at < s->end; at++) {
        switch (*at) {
        case '(': depth++; break;
        case ')':
            if (--depth == 0)
                return commas == 2 && is_true(argument, at);
            break;
        case ',':
            if (depth == 1) {
                commas++;
                argument = at + 1;
            }
            break;
        case '\'':
            at = memchr(at + 1, '\'', (size_t)(s->end - at - 1));
            if (at == NULL)
                return false;
            break;
        case '$':
            if (at + 1 == s->end || at[1] < '0' || at[1] > '9')
                return false;
            break;
        case '"':
        case '\\':
        case ';': return false;
        case '-':
        case '/':
            if (at + 1 < s->end && (at[1] == '-' || at[1] == '*'))
                return false;
            break;
        default: break;
        }
    }
    return false;
}

static bool word_ends(const struct scan *s, const uint8_t *at)
{
    return at == s->end || !scan_in_word(*at);
}

/* The word that ends at `at`, looking back from a blank. */
static bool preceded_by(const struct scan *s, const uint8_t *at, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(at - s->text) < len || !scan_same(at - len, word, len))
        return false;
    return at - len == s->text || !scan_in_word(at[-(ptrdiff_t)len - 1]);
}

/* Is ON COMMIT DROP said of the table whose TEMP is at `at`? Believed as far as nothing is quoted.
 */
static bool drops_on_commit(const struct scan *s, const uint8_t *at)
{
    for (; at < s->end; at++) {
        switch (*at) {
        case ';':
        case '\'':
        case '"':
        case '$': return false;
        case '-':
        case '/':
            if (at + 1 < s->end && (at[1] == '-' || at[1] == '*'))
                return false;
            break;
        default: break;
        }
        const uint8_t *p = at;
        if ((*p | 0x20) != 'd' || s->end - p < 4 || !scan_same(p, "drop", 4) ||
            !word_ends(s, p + 4) || scan_in_word(p[-1]))
            continue;
        while (scan_is_space(p[-1]))
            p--;
        if (!preceded_by(s, p, "commit"))
            continue;
        p -= strlen("commit");
        while (scan_is_space(p[-1]))
            p--;
        if (preceded_by(s, p, "on"))
            return true;
    }
    return false;
}

/* pg_temp, CREATE TEMP, SELECT INTO TEMPORARY; but no column called temp. */
bool scan_temp_matters(const struct scan *s, const uint8_t *at)
{
    static const char *const before[] = {"create", "into", "local", "global", "replace"};
    const uint8_t *p = at;

    if (preceded_by(s, at, "pg_"))
        return true;
    if (at > s->text && scan_in_word(at[-1]))
        return false;
    if (!word_ends(s, at + 4) &&
        !(s->end - at >= 9 && scan_same(at, "temporary", 9) && word_ends(s, at + 9)))
        return false;
    while (p > s->text && scan_is_space(p[-1]))
        p--;
    for (size_t i = 0; i < COUNT_OF(before); i++)
        if (preceded_by(s, p, before[i]))
            return !drops_on_commit(s, at);
    /* Behind a comment, whatever was before it. */
    size_t len = (size_t)(at - s->text);
    return memmem(s->text, len, "--", 2) != NULL || memmem(s->text, len, "*/", 2) != NULL;
}

bool scan_has_word(const struct scan *s, const char *word)
{
    size_t len = strlen(word);

    for (const uint8_t *p = s->text; (size_t)(s->end - p) >= len; p++)
        if (scan_lower(*p) == (uint8_t)*word && scan_same(p, word, len))
            return true;
    return false;
}
