#include "auth/hba_rules.h"

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static char *skip_blanks(char *p)
{
    while (is_blank(*p))
        p++;
    return p;
}

/* Reads one item and closes it with a NUL, which never lies behind the end of what was read.
 * *ended_by is the character that ended it; a comment or the end of the line is left in place. */
static int read_item(char **at, struct hba_token *out, char *ended_by, struct failure *why)
{
    char *from = *at;
    char *to = from;
    bool quoted = false;

    out->text = to;
    out->quoted = *from == '"';
    for (;; from++) {
        char c = *from;

        if (c == '\0' && quoted)
            return fail(why, "quote is not closed");
        if (c == '\0' || (!quoted && (is_blank(c) || c == ',' || c == '#')))
            break;
        if (c != '"') {
            *to++ = c;
        } else if (quoted && from[1] == '"') {
            *to++ = '"'; /* doubled: one quote */
            from++;
        } else {
            quoted = !quoted;
        }
    }
    *ended_by = *from;
    if (*from == '#') {
        *from = '\0'; /* the rest is a comment */
        *ended_by = '\0';
    }
    *at = *ended_by == '\0' ? from : from + 1;
    *to = '\0';
    if (to == out->text && !out->quoted)
        return fail(why, "empty item in a list");
    return 0;
}

int hba_next_field(char **at, struct hba_field *out, struct failure *why)
{
    char ended_by = ',';

    out->count = 0;
    *at = skip_blanks(*at);
    if (**at == '\0' || **at == '#')
        return 0;
    while (ended_by == ',') {
        *at = skip_blanks(*at);
        if (out->count == HBA_ITEMS_MAX)
            return fail(why, "more than %d items in a list", HBA_ITEMS_MAX);
        if (read_item(at, &out->items[out->count], &ended_by, why) != 0)
            return -1;
        out->count++;
    }
    return 1;
}
