/* What psql and drivers send by themselves: answered as PostgreSQL would, without effect. */
#include "actors/admin.h"

#include "actors/version.h"

#include <strings.h>

/* --- tab completion --- */

static void complete(struct admin_run *run, const char *column, const char *const *items,
                     size_t count)
{
    table_list(&run->out, column, items, count);
    write_command_complete(&run->out, "SELECT");
}

bool admin_completion(struct admin_run *run)
{
    static const char *const levels[] = {"error", "warn", "info",   "debug",
                                         "trace", "off",  "default"};
    static const char *const kinds[] = {"enum"};
    static const char *const settable[] = {"log_level"};
    size_t count;

    if (!admin_bytes_contain(run->text, "pg_catalog.pg_settings"))
        return false;
    char *lower = arena_copy(&run->arena, (const char *)run->text.at, run->text.len);
    for (size_t i = 0; i < run->text.len; i++) {
        if (lower[i] >= 'A' && lower[i] <= 'Z')
            lower[i] = (char)(lower[i] - 'A' + 'a');
    }
    struct bytes text = {(const uint8_t *)lower, run->text.len};
    if (admin_bytes_contain(text, "unnest(enumvals)")) {
        complete(run, "val", levels, COUNT_OF(levels));
    } else if (admin_bytes_contain(text, "vartype")) {
        complete(run, "vartype", kinds, COUNT_OF(kinds));
    } else if (admin_bytes_contain(text, "context")) {
        complete(run, "name", settable, COUNT_OF(settable));
    } else {
        const char *const *names = admin_show_names(&count);
        complete(run, "name", names, count);
    }
    return true;
}

/* --- session parameters --- */

static const struct parameter_answer {
    const char *name;
    const char *value;
    bool read_only;
} parameters[] = {
    {"application_name", "", false},
    {"bytea_output", "hex", false},
    {"client_encoding", "UTF8", false},
    {"client_min_messages", "notice", false},
    {"datestyle", "ISO, MDY", false},
    {"default_transaction_isolation", "read committed", false},
    {"default_transaction_read_only", "off", false},
    {"escape_string_warning", "on", false},
    {"extra_float_digits", "1", false},
    {"idle_in_transaction_session_timeout", "0", false},
    {"integer_datetimes", "on", true},
    {"intervalstyle", "postgres", false},
    {"jit", "off", false},
    {"lock_timeout", "0", false},
    {"max_identifier_length", "63", true},
    {"names", "UTF8", false},
    {"search_path", "\"$user\", public", false},
    {"server_encoding", "UTF8", true},
    {"server_version", "17.0 (pg_doorman " DOORMAN_VERSION ")", true},
    {"server_version_num", "170000", true},
    {"standard_conforming_strings", "on", false},
    {"statement_timeout", "0", false},
    {"synchronous_commit", "on", false},
    {"time", "Etc/UTC", false}, /* SET TIME ZONE */
    {"timezone", "Etc/UTC", false},
    {"characteristics", "", false}, /* SET SESSION CHARACTERISTICS AS TRANSACTION */
    {"transaction", "", false},
    {"transaction_isolation", "read committed", false},
    {"transaction_read_only", "off", false},
};

static const struct parameter_answer *parameter_find(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(parameters); i++) {
        if (strcasecmp(parameters[i].name, name) == 0)
            return &parameters[i];
    }
    return NULL;
}

bool admin_is_session_parameter(const char *name)
{
    const struct parameter_answer *parameter = parameter_find(name);

    return parameter != NULL && !parameter->read_only;
}

bool admin_chatter_show(struct admin_run *run, const struct admin_statement *s)
{
    const char *name = admin_word(s, 1);

    if (strcasecmp(name, "transaction") == 0 && admin_word_is(s, 2, "isolation"))
        name = "transaction_isolation";
    if (strcasecmp(name, "time") == 0 && admin_word_is(s, 2, "zone"))
        name = "timezone";
    const struct parameter_answer *parameter = parameter_find(name);
    if (parameter == NULL)
        return false;
    table_list(&run->out, parameter->name, &parameter->value, 1);
    write_command_complete(&run->out, "SHOW");
    return true;
}

/* --- transactions and the like --- */

static const struct phrase {
    const char *words[2]; /* the second one NULL: whatever follows */
    const char *tag;
} phrases[] = {
    {{"begin", NULL}, "BEGIN"},
    {{"start", "transaction"}, "START TRANSACTION"},
    {{"commit", NULL}, "COMMIT"},
    {{"end", NULL}, "COMMIT"},
    {{"rollback", NULL}, "ROLLBACK"},
    {{"abort", NULL}, "ROLLBACK"},
    {{"discard", "all"}, "DISCARD ALL"},
    {{"deallocate", "all"}, "DEALLOCATE ALL"},
    {{"close", "all"}, "CLOSE CURSOR ALL"},
    {{"unlisten", "*"}, "UNLISTEN"},
};

static bool is_small_number(const char *text)
{
    size_t len = strspn(text, "0123456789");

    return len > 0 && len < 10 && text[len] == '\0';
}

static void select_number(struct admin_run *run, const char *number)
{
    static const struct column_spec column = {"?column?", 23};

    while (number[0] == '0' && number[1] != '\0')
        number++;
    write_row_description(&run->out, &column, 1);
    write_row_begin(&run->out, 1);
    write_row_cell(&run->out, number, strlen(number));
    write_row_end(&run->out);
}

static bool select_answer(struct admin_run *run, const struct admin_statement *s)
{
    static const char *const version[] = {"PostgreSQL 17.0 (pg_doorman " DOORMAN_VERSION ")"};

    if (s->count != 2)
        return false;
    if (is_small_number(admin_word(s, 1)))
        select_number(run, admin_word(s, 1));
    else if (admin_word_is(s, 1, "version()") || admin_word_is(s, 1, "pg_catalog.version()"))
        table_list(&run->out, "version", version, 1);
    else
        return false;
    write_command_complete(&run->out, "SELECT 1");
    return true;
}

bool admin_chatter(struct admin_run *run, const struct admin_statement *s)
{
    if (admin_word_is(s, 0, "select"))
        return select_answer(run, s);
    for (size_t i = 0; i < COUNT_OF(phrases); i++) {
        const struct phrase *phrase = &phrases[i];

        if (admin_word_is(s, 0, phrase->words[0]) &&
            (phrase->words[1] == NULL || admin_word_is(s, 1, phrase->words[1]))) {
            write_command_complete(&run->out, phrase->tag);
            return true;
        }
    }
    return false;
}
