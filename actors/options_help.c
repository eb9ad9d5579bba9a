#include "actors/options_internal.h"
#include "actors/version.h"

#include <stdio.h>

static const struct option_row main_rows[] = {
    {OPTION_LOG_LEVEL, "log-level", 'l', "LEVEL", "LOG_LEVEL",
     "error, warn, info (default), debug or trace"},
    {OPTION_LOG_FORMAT, "log-format", 'F', "FORMAT", "LOG_FORMAT",
     "text (default), structured (JSON lines) or debug (same as text)"},
    {OPTION_NO_COLOR, "no-color", 'n', NULL, NULL,
     "no colours in the log; NO_COLOR in the environment does the same"},
    {OPTION_DAEMON, "daemon", 'd', NULL, "DAEMON", "go to the background"},
    {OPTION_INHERIT_FD, "inherit-fd", '\0', "FD", "INHERIT_FD",
     "listen on this open descriptor (set during a binary upgrade)"},
    {OPTION_TEST_CONFIG, "test-config", 't', NULL, NULL, "check the configuration and exit"},
    {OPTION_HELP, "help", 'h', NULL, NULL, "print this text"},
    {OPTION_VERSION, "version", 'V', NULL, NULL, "print the version"},
};

static const struct option_row inspect_rows[] = {
    {OPTION_JSON, "json", '\0', NULL, NULL, "print JSON instead of YAML"},
    {OPTION_HELP, "help", 'h', NULL, NULL, "print this text"},
};

static const struct option_row snapshot_rows[] = {
    {OPTION_ADMIN_CONFIG, "config", 'c', "CONFIG", NULL,
     "configuration of the running pooler (default: as the pooler itself)"},
    {OPTION_ADMIN_HOST, "admin-host", '\0', "HOST", NULL,
     "where it listens; a directory means its Unix socket"},
    {OPTION_ADMIN_PORT, "admin-port", '\0', "PORT", NULL, "its port"},
    {OPTION_ADMIN_USER, "admin-user", '\0', "USER", NULL, "its administrator"},
    {OPTION_ADMIN_PASSWORD, "admin-password", '\0', "PASSWORD", "PG_DOORMAN_ADMIN_PASSWORD",
     "the administrator's password; better given in the environment"},
    {OPTION_HELP, "help", 'h', NULL, NULL, "print this text"},
};

static const struct option_row generate_rows[] = {
    {OPTION_PG_HOST, "host", '\0', "HOST", "PGHOST",
     "server to inspect (default: localhost); a directory means its Unix socket"},
    {OPTION_PG_PORT, "port", 'p', "PORT", "PGPORT", "its port (default: 5432)"},
    {OPTION_PG_USER, "user", 'u', "USER", "PGUSER",
     "role that may read pg_shadow (default: postgres)"},
    {OPTION_PG_PASSWORD, "password", '\0', "PASSWORD", "PGPASSWORD",
     "its password; better given in the environment"},
    {OPTION_PG_DATABASE, "database", 'd', "DATABASE", "PGDATABASE",
     "database to connect to (default: postgres)"},
    {OPTION_SSL, "ssl", '\0', NULL, NULL,
     "demand TLS, verified by the system's authorities; also for the pools"},
    {OPTION_POOL_SIZE, "pool-size", '\0', "N", NULL, "pool_size of every user (default: 40)"},
    {OPTION_SESSION_MODE, "session-pool-mode", 's', NULL, NULL,
     "pools in session mode instead of transaction mode"},
    {OPTION_OUTPUT, "output", 'o', "FILE", NULL, "where to write (default: standard output)"},
    {OPTION_SERVER_HOST, "server-host", '\0', "HOST", NULL,
     "server_host of the pools (default: that of --host)"},
    {OPTION_NO_COMMENTS, "no-comments", '\0', NULL, NULL, "settings only"},
    {OPTION_REFERENCE, "reference", '\0', NULL, NULL, "an example; no server is asked"},
    {OPTION_RUSSIAN, "russian-comments", '\0', NULL, NULL, "comments in Russian"},
    {OPTION_RUSSIAN, "ru", '\0', NULL, NULL, "the same"},
    {OPTION_FORMAT, "format", 'f', "FORMAT", NULL,
     "yaml or toml (default: by the name of the file; without one yaml)"},
    {OPTION_HELP, "help", 'h', NULL, NULL, "print this text"},
};

static const struct option_row docs_rows[] = {
    {OPTION_OUTPUT_DIR, "output-dir", 'o', "DIR", NULL,
     "write general.md, pool.md and prometheus.md there (default: standard output)"},
    {OPTION_HELP, "help", 'h', NULL, NULL, "print this text"},
};

const struct option_table options_main_table = {main_rows, COUNT_OF(main_rows)};
const struct option_table options_inspect_table = {inspect_rows, COUNT_OF(inspect_rows)};
const struct option_table options_snapshot_table = {snapshot_rows, COUNT_OF(snapshot_rows)};
const struct option_table options_generate_table = {generate_rows, COUNT_OF(generate_rows)};
const struct option_table options_docs_table = {docs_rows, COUNT_OF(docs_rows)};

static const struct {
    const char *name;
    const char *help;
} commands[] = {
    [COMMAND_HELP] = {"help", "print help on a command"},
    [COMMAND_GENERATE] = {"generate", "write a configuration for a running PostgreSQL"},
    [COMMAND_GENERATE_DOCS] = {"generate-docs", "write the reference of settings and metrics"},
    [COMMAND_INSPECT] = {"inspect", "print a snapshot file for people"},
    [COMMAND_SNAPSHOT] = {"snapshot", "take a snapshot of the running pooler"},
};

enum options_command options_command_named(const char *word)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (commands[i].name != NULL && strcmp(word, commands[i].name) == 0)
            return (enum options_command)i;
    }
    return COMMAND_RUN;
}

const char *options_command_name(enum options_command command)
{
    return commands[command].name;
}

static void print_rows(const struct option_table *table)
{
    printf("\nOptions:\n");
    for (size_t i = 0; i < table->count; i++) {
        const struct option_row *row = &table->rows[i];
        char left[64];
        char letter[8] = "    ";

        if (row->letter != '\0')
            snprintf(letter, sizeof letter, "-%c, ", row->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->value != NULL ? " " : "",
                 row->value != NULL ? row->value : "");
        printf("  %-30s %s", left, row->help);
        if (row->environment != NULL)
            printf(" [env: %s]", row->environment);
        putchar('\n');
    }
}

static void print_main_help(void)
{
    printf("PgDoorman " DOORMAN_VERSION ", a connection pooler for PostgreSQL\n"
           "\n"
           "Usage: pg_doorman [OPTIONS] [CONFIG_FILE]\n"
           "       pg_doorman [OPTIONS] COMMAND ...\n"
           "\n"
           "Arguments:\n"
           "  %-30s configuration file (default: pg_doorman.toml) [env: CONFIG_FILE]\n",
           "[CONFIG_FILE]");
    print_rows(&options_main_table);
    printf("\nCommands (`pg_doorman help COMMAND` tells more):\n");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (commands[i].name != NULL)
            printf("  %-30s %s\n", commands[i].name, commands[i].help);
    }
    printf("\nA configuration file with the name of a command is given as ./NAME.\n");
}

void options_print_help(enum options_command topic)
{
    switch (topic) {
    case COMMAND_RUN:
    case COMMAND_HELP:
    case COMMAND_VERSION: print_main_help(); break;
    case COMMAND_GENERATE:
        printf("Writes a configuration for the databases and login roles of a PostgreSQL.\n"
               "\n"
               "Usage: pg_doorman generate [OPTIONS]\n");
        print_rows(&options_generate_table);
        break;
    case COMMAND_GENERATE_DOCS:
        printf("Writes the reference of all settings, as Markdown.\n"
               "\n"
               "Usage: pg_doorman generate-docs [OPTIONS]\n");
        print_rows(&options_docs_table);
        break;
    case COMMAND_INSPECT:
        printf("Prints a snapshot, or any other msgpack document, for people.\n"
               "\n"
               "Usage: pg_doorman inspect [OPTIONS] FILE\n"
               "\n"
               "FILE may be - for the standard input.\n");
        print_rows(&options_inspect_table);
        break;
    case COMMAND_SNAPSHOT:
        printf("Takes a snapshot of all actors, pools and queues of the running pooler.\n"
               "\n"
               "Usage: pg_doorman snapshot [OPTIONS] FILE\n"
               "\n"
               "FILE may be - for the standard output.\n");
        print_rows(&options_snapshot_table);
        break;
    }
}
