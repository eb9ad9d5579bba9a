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

/* How far a look from `at` may go. */
static const uint8_t *horizon(const struct scan *s, const uint8_t *at)
{
    return at + MIN((size_t)(s->end - at), s->looks);
}

/* The arguments up to `end`; `*p` is moved as far as they were read. */
static bool ends_with_true(const uint8_t **p, const uint8_t *end)
{
    const uint8_t *argument = NULL;
    const uint8_t *at;
    unsigned depth = 0;
    unsigned commas = 0;

    for (at = *p; at < end; *p = ++at) {
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
            at = memchr(at + 1, '\'', (size_t)(end - at - 1));
            if (at == NULL) {
                *p = end;
                return false;
            }
            break;
        case '$':
            if (at + 1 == end || at[1] < '0' || at[1] > '9')
                return false;
            break;
        case '"':
        case '\\':
        case ';': return false;
        case '-':
        case '/':
            if (at + 1 < end && (at[1] == '-' || at[1] == '*'))
                return false;
            break;
        default: break;
        }
    }
    return false;
}

/* set_config(name, value, true) lasts until the end of the transaction. Only the plain form is
 * believed: whatever is unusual counts as lasting. `at` is behind the name. */
bool scan_config_is_local(struct scan *s, const uint8_t *at)
{
    const uint8_t *from = at;
    const uint8_t *end = horizon(s, at);

    while (at < end && scan_is_space(*at))
        at++;
    bool local = at < end && *at == '(' && ends_with_true(&at, end);
    s->looks -= (size_t)(at - from);
    return local;
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

/* Is ON COMMIT DROP said before `end` of the table whose TEMP is at `*from`? Believed as far as
 * nothing is quoted. `*from` is moved as far as was read. */
static bool drops_on_commit(const struct scan *s, const uint8_t **from, const uint8_t *end)
{
    for (const uint8_t *at = *from; at < end; *from = ++at) {
        switch (*at) {
        case ';':
        case '\'':
        case '"':
        case '$': return false;
        case '-':
        case '/':
            if (at + 1 < end && (at[1] == '-' || at[1] == '*'))
                return false;
            break;
        default: break;
        }
        const uint8_t *p = at;
        if ((*p | 0x20) != 'd' || end - p < 4 || !scan_same(p, "drop", 4) || !word_ends(s, p + 4) ||
            scan_in_word(p[-1]))
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

/* Does a comment end before `at`? */
static bool behind_comment(struct scan *s, const uint8_t *at)
{
    size_t len = (size_t)(s->end - s->text);

    if (s->comment == NULL) {
        const uint8_t *line = memmem(s->text, len, "--", 2);
        const uint8_t *block = memmem(s->text, len, "*/", 2);

        line = line == NULL ? s->end : line + 2;
        block = block == NULL ? s->end : block + 2;
        s->comment = MIN(line, block);
    }
    return s->comment <= at && s->comment < s->end;
}

/* pg_temp, CREATE TEMP, SELECT INTO TEMPORARY; but no column called temp. */
bool scan_temp_matters(struct scan *s, const uint8_t *at)
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
    bool makes = false;
    for (size_t i = 0; i < COUNT_OF(before); i++)
        makes |= preceded_by(s, p, before[i]);
    if (!makes)
        return behind_comment(s, at); /* whatever was before it */
    p = at;
    bool dropped = drops_on_commit(s, &p, horizon(s, at));
    s->looks -= (size_t)(p - at);
    return !dropped;
}

bool scan_has_word(const struct scan *s, const char *word)
{
    size_t len = strlen(word);

    for (const uint8_t *p = s->text; (size_t)(s->end - p) >= len; p++)
        if (scan_lower(*p) == (uint8_t)*word && scan_same(p, word, len))
            return true;
    return false;
}

bool scan_has_update(struct scan *s)
{
    if (s->updates == 0)
        s->updates = scan_has_word(s, "update") ? 1 : -1;
    return s->updates > 0;
}
