/* Commands of the console as texts with parameters. */
#include "actors/admin.h"
#include "actors/console.h"

#include <stdlib.h>

/* Takes the next command that is not empty. The scratch is the caller's to free. */
static bool next_command(struct bytes *rest, struct admin_statement *out, char *scratch)
{
    while (admin_parse(rest, out, scratch))
        if (out->count > 0)
            return true;
    return false;
}

static char *scratch_for(struct bytes text)
{
    char *scratch = malloc(admin_scratch_bytes(text.len));

    INVARIANT(scratch != NULL);
    return scratch;
}

unsigned console_count(struct bytes text)
{
    struct admin_statement s;
    char *scratch = scratch_for(text);
    unsigned count = 0;

    while (next_command(&text, &s, scratch))
        count++;
    free(scratch);
    return count;
}

enum console_shape console_shape_of(struct bytes text)
{
    struct admin_statement s;
    char *scratch = scratch_for(text);
    enum console_shape shape = SHAPE_NOTHING;

    if (admin_bytes_contain(text, "pg_catalog.pg_settings"))
        shape = SHAPE_ASK;
    else if (next_command(&text, &s, scratch)) {
        if (admin_word_is(&s, 0, "show") || admin_word_is(&s, 0, "select"))
            shape = SHAPE_ASK;
        else if (admin_word_is(&s, 0, "shutdown") || admin_word_is(&s, 0, "upgrade"))
            shape = SHAPE_SUCCESS;
        else if (admin_word_is(&s, 0, "snapshot"))
            shape = SHAPE_SNAPSHOT;
    }
    free(scratch);
    return shape;
}

static bool is_parameter(const char *word)
{
    size_t digits = word[0] == '$' ? strspn(word + 1, "0123456789") : 0;

    return digits > 0 && word[1 + digits] == '\0';
}

static bool takes_database(const struct admin_statement *s)
{
    return admin_word_is(s, 0, "pause") || admin_word_is(s, 0, "resume") ||
           admin_word_is(s, 0, "reconnect");
}

/* A quoted '$1' is a word like any other; in what is written it begins with its quote. */
static bool is_written_so(const struct admin_statement *s, const char *word)
{
    return s->text.len >= strlen(word) &&
           memcmp(s->text.at + s->text.len - strlen(word), word, strlen(word)) == 0;
}

int console_parameters(struct bytes text, unsigned *count, struct failure *why)
{
    struct admin_statement s;
    char *scratch = scratch_for(text);
    int result = 0;

    *count = 0;
    if (!admin_bytes_contain(text, "pg_catalog.pg_settings") && next_command(&text, &s, scratch)) {
        for (int i = 0; i < MIN(s.count, ADMIN_WORDS) && result == 0; i++) {
            const char *word = admin_word(&s, i);

            if (!is_parameter(word) || (i == s.count - 1 && !is_written_so(&s, word)))
                continue;
            if (i != 1 || s.count != 2 || !takes_database(&s))
                result = fail(why, "a parameter may only stand for a database, as in PAUSE $1");
            else if (strcmp(word, "$1") != 0)
                result = fail(why, "there is no parameter %s", word);
            else
                *count = 1;
        }
    }
    free(scratch);
    return result;
}

char *console_fill(const char *text, struct bytes value)
{
    struct bytes rest = bytes_of(text);
    struct admin_statement s;
    char *scratch = scratch_for(rest);

    /* The command's last word, as console_parameters() has found; a comment may have one as well.
     */
    INVARIANT(next_command(&rest, &s, scratch) && s.text.len > 2);
    const char *at = (const char *)s.text.at + s.text.len - 2;
    free(scratch);
    size_t len = (size_t)(at - text), rest_len = strlen(at + 2);
    char *filled = malloc(len + rest_len + 2 * value.len + 3);
    INVARIANT(filled != NULL);
    memcpy(filled, text, len);
    filled[len++] = '"';
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] == '"')
            filled[len++] = '"';
        filled[len++] = (char)value.at[i];
    }
    filled[len++] = '"';
    memcpy(filled + len, at + 2, rest_len + 1);
    return filled;
}
