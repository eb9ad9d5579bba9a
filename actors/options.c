#include "actors/options_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { STOP_HERE = 1 }; /* parsed enough: help or version */

struct parser {
    struct options *out;
    const struct option_table *table;
    int argc;
    char **argv;
    int at;        /* the next argument */
    uint32_t seen; /* of the current table, by row */
    bool options_ended;
    struct failure *why;
};

static int usage(struct parser *p, const char *what, const char *detail)
{
    return fail(p->why, "error: %s '%s'\n\nFor more information, try '--help'.", what, detail);
}

/* --- values --- */

static int parse_number(long *out, const char *text, long min, long max)
{
    char *end;

    errno = 0;
    *out = strtol(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' || *out < min || *out > max ? -1 : 0;
}

static int set_log_level(struct options *o, const char *text)
{
    static const char *const names[] = {
        [LOG_ERROR] = "error", [LOG_WARN] = "warn",   [LOG_INFO] = "info",
        [LOG_DEBUG] = "debug", [LOG_TRACE] = "trace",
    };

    for (size_t i = LOG_ERROR; i < COUNT_OF(names); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            o->log_level = (enum log_level)i;
            o->log_level_name = names[i];
            return 0;
        }
    }
    return -1;
}

static int set_log_format(struct options *o, const char *text)
{
    if (strcasecmp(text, "text") == 0 || strcasecmp(text, "debug") == 0)
        o->log_form = LOG_TEXT;
    else if (strcasecmp(text, "structured") == 0)
        o->log_form = LOG_STRUCTURED;
    else
        return -1;
    return 0;
}

static int set_daemon(struct options *o, const char *text)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};

    if (text == NULL) {
        o->daemon = true;
        return 0;
    }
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            o->daemon = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return -1;
}

static int set_format(struct generate_options *g, const char *text)
{
    if (strcasecmp(text, "yaml") == 0)
        g->format = GENERATE_YAML;
    else if (strcasecmp(text, "toml") == 0)
        g->format = GENERATE_TOML;
    else
        return -1;
    return 0;
}

static int apply_generate(struct options *o, enum option_id id, const char *value)
{
    struct generate_options *g = &o->generate;
    long number;

    switch (id) {
    case OPTION_PG_HOST: g->host = value; return 0;
    case OPTION_PG_PORT:
        if (parse_number(&number, value, 0, UINT16_MAX) != 0)
            return -1;
        g->port = (int)number;
        return 0;
    case OPTION_PG_USER: g->user = value; return 0;
    case OPTION_PG_PASSWORD: g->password = value; return 0;
    case OPTION_PG_DATABASE: g->database = value; return 0;
    case OPTION_SSL: g->ssl = true; return 0;
    case OPTION_POOL_SIZE:
        if (parse_number(&number, value, 1, UINT32_MAX) != 0)
            return -1;
        g->pool_size = (unsigned)number;
        return 0;
    case OPTION_SESSION_MODE: g->session_mode = true; return 0;
    case OPTION_OUTPUT: g->output = value; return 0;
    case OPTION_SERVER_HOST: g->server_host = value; return 0;
    case OPTION_NO_COMMENTS: g->no_comments = true; return 0;
    case OPTION_REFERENCE: g->reference = true; return 0;
    case OPTION_RUSSIAN: g->russian = true; return 0;
    case OPTION_FORMAT: return set_format(g, value);
    case OPTION_OUTPUT_DIR: o->docs_directory = value; return 0;
    default: return -1;
    }
}

/* value is NULL for a flag of the command line. */
static int apply(struct options *o, enum option_id id, const char *value)
{
    long number;

    switch (id) {
    case OPTION_LOG_LEVEL: return set_log_level(o, value);
    case OPTION_LOG_FORMAT: return set_log_format(o, value);
    case OPTION_NO_COLOR: o->no_color = true; return 0;
    case OPTION_DAEMON: return set_daemon(o, value);
    case OPTION_INHERIT_FD:
        if (parse_number(&number, value, 0, INT_MAX) != 0)
            return -1;
        o->inherit_fd = (int)number;
        return 0;
    case OPTION_TEST_CONFIG: o->test_config = true; return 0;
    case OPTION_HELP:
        o->help_topic = o->command;
        o->command = COMMAND_HELP;
        return STOP_HERE;
    case OPTION_VERSION: o->command = COMMAND_VERSION; return STOP_HERE;
    case OPTION_JSON: o->inspect_json = true; return 0;
    case OPTION_ADMIN_CONFIG: o->snapshot.config_file = value; return 0;
    case OPTION_ADMIN_HOST: o->snapshot.admin_host = value; return 0;
    case OPTION_ADMIN_PORT:
        if (parse_number(&number, value, 1, 65535) != 0)
            return -1;
        o->snapshot.admin_port = (int)number;
        return 0;
    case OPTION_ADMIN_USER: o->snapshot.admin_user = value; return 0;
    case OPTION_ADMIN_PASSWORD: o->snapshot.admin_password = value; return 0;
    default: return apply_generate(o, id, value);
    }
}

/* --- options --- */

static int take(struct parser *p, const struct option_row *row, const char *value)
{
    uint32_t bit = 1u << (row - p->table->rows);

    if (p->seen & bit)
        return usage(p, "the option is given more than once:", row->name);
    p->seen |= bit;
    if (row->value != NULL && value == NULL) {
        if (p->at >= p->argc)
            return usage(p, "a value is missing for the option", row->name);
        value = p->argv[p->at++];
    }
    int result = apply(p->out, row->id, value);
    if (result < 0)
        return fail(p->why,
                    "error: invalid value '%s' for '--%s'\n\n"
                    "For more information, try '--help'.",
                    value, row->name);
    return result;
}

static int parse_long(struct parser *p, const char *name)
{
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;

    for (size_t i = 0; i < p->table->count; i++) {
        const struct option_row *row = &p->table->rows[i];

        if (strlen(row->name) != len || strncmp(row->name, name, len) != 0)
            continue;
        if (row->value == NULL && value != NULL)
            return usage(p, "the option takes no value:", row->name);
        return take(p, row, value);
    }
    return usage(p, "unexpected argument", name - 2);
}

/* One word of bundled letters; the first that takes a value takes the rest of the word. */
static int parse_letters(struct parser *p, const char *word)
{
    for (const char *at = word + 1; *at != '\0'; at++) {
        const struct option_row *row = NULL;

        for (size_t i = 0; i < p->table->count; i++) {
            if (p->table->rows[i].letter == *at)
                row = &p->table->rows[i];
        }
        if (row == NULL)
            return usage(p, "unexpected argument", word);
        if (row->value == NULL) {
            int result = take(p, row, NULL);

            if (result != 0)
                return result;
            continue;
        }
        const char *value = at[1] == '=' ? at + 2 : at + 1;
        return take(p, row, at[1] == '\0' ? NULL : value);
    }
    return 0;
}

/* Reads options up to the next plain word. 0: *word is it, or NULL at the end. STOP_HERE: help or
 * version was asked for. */
static int next_word(struct parser *p, const char **word)
{
    *word = NULL;
    while (p->at < p->argc) {
        const char *argument = p->argv[p->at++];
        int result;

        if (p->options_ended || argument[0] != '-' || argument[1] == '\0') {
            *word = argument;
            return 0;
        }
        if (strcmp(argument, "--") == 0) {
            p->options_ended = true;
            continue;
        }
        result = argument[1] == '-' ? parse_long(p, argument + 2) : parse_letters(p, argument);
        if (result != 0)
            return result;
    }
    return 0;
}

/* An empty variable counts as unset. The command line wins, so what it gave is not looked at. */
static int apply_environment(struct parser *p)
{
    for (size_t i = 0; i < p->table->count; i++) {
        const struct option_row *row = &p->table->rows[i];
        const char *value = row->environment != NULL ? getenv(row->environment) : NULL;

        if (value == NULL || value[0] == '\0' || p->seen & 1u << i)
            continue;
        if (apply(p->out, row->id, value) != 0)
            return fail(p->why,
                        "error: invalid value '%s' for the environment variable %s\n\n"
                        "For more information, try '--help'.",
                        value, row->environment);
    }
    return 0;
}

/* --- commands --- */

static void use_table(struct parser *p, const struct option_table *table)
{
    p->table = table;
    p->seen = 0;
}

static int parse_with_file(struct parser *p, const struct option_table *table, const char **file,
                           const char *missing)
{
    const char *word;

    use_table(p, table);
    for (;;) {
        int result = next_word(p, &word);

        if (result != 0)
            return result;
        if (word == NULL)
            break;
        if (*file != NULL)
            return usage(p, "unexpected argument", word);
        *file = word;
    }
    if (*file == NULL)
        return usage(p, missing, "FILE");
    return apply_environment(p);
}

static int parse_help(struct parser *p)
{
    struct options *o = p->out;

    if (p->at < p->argc) {
        const char *word = p->argv[p->at];

        o->help_topic = options_command_named(word);
        if (o->help_topic == COMMAND_RUN)
            return usage(p, "unrecognised command", word);
    }
    return STOP_HERE;
}

static int parse_options_only(struct parser *p, const struct option_table *table)
{
    const char *word;

    use_table(p, table);
    int result = next_word(p, &word);
    if (result != 0)
        return result;
    return word != NULL ? usage(p, "unexpected argument", word) : apply_environment(p);
}

static int parse_command(struct parser *p)
{
    struct options *o = p->out;

    switch (o->command) {
    case COMMAND_RUN:
    case COMMAND_VERSION: break;
    case COMMAND_HELP: return parse_help(p);
    case COMMAND_GENERATE: return parse_options_only(p, &options_generate_table);
    case COMMAND_GENERATE_DOCS: return parse_options_only(p, &options_docs_table);
    case COMMAND_INSPECT:
        return parse_with_file(p, &options_inspect_table, &o->inspect_file, "missing argument");
    case COMMAND_SNAPSHOT:
        return parse_with_file(p, &options_snapshot_table, &o->snapshot.output, "missing argument");
    }
    return 0;
}

static int parse_all(struct parser *p)
{
    struct options *o = p->out;
    const char *positional = NULL;
    const char *environment = getenv("CONFIG_FILE");

    for (;;) {
        const char *word;
        int result = next_word(p, &word);

        if (result != 0)
            return result;
        if (word == NULL)
            break;
        /* Behind "--" no word is a command. */
        o->command = p->options_ended ? COMMAND_RUN : options_command_named(word);
        if (o->command != COMMAND_RUN)
            break;
        if (positional != NULL)
            return usage(p, "unexpected argument", word);
        positional = word;
    }
    if (o->command != COMMAND_HELP && apply_environment(p) != 0)
        return -1;
    if (positional != NULL)
        o->config_file = positional;
    else if (environment != NULL && environment[0] != '\0')
        o->config_file = environment;
    return parse_command(p);
}

int options_parse(struct options *out, int argc, char **argv, struct failure *why)
{
    struct parser p = {
        .out = out,
        .table = &options_main_table,
        .argc = argc,
        .argv = argv,
        .at = 1,
        .why = why,
    };

    *out = (struct options){
        .command = COMMAND_RUN,
        .config_file = "pg_doorman.toml",
        .log_level = LOG_INFO,
        .log_level_name = "info",
        .inherit_fd = -1,
        .generate = {.host = "localhost",
                     .port = 5432,
                     .user = "postgres",
                     .database = "postgres",
                     .pool_size = 40},
    };
    return parse_all(&p) < 0 ? -1 : 0;
}

char **options_for_successor(int argc, char **argv, int fd)
{
    enum { TEXT_BYTES = 32 };
    size_t array_bytes = ((size_t)argc + 2) * sizeof(char *);
    char **out = malloc(array_bytes + TEXT_BYTES);
    int count = 0;

    if (out == NULL)
        return NULL;
    char *text = (char *)out + array_bytes;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--inherit-fd") == 0)
            i++;
        else if (strncmp(argv[i], "--inherit-fd=", 13) != 0)
            out[count++] = argv[i];
        /* Right behind the name, where neither "--" nor a command is in the way. */
        if (i == 0 && fd >= 0) {
            snprintf(text, TEXT_BYTES, "--inherit-fd=%d", fd);
            out[count++] = text;
        }
    }
    out[count] = NULL;
    return out;
}
