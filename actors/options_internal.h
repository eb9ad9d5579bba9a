/* options_internal.h: the option tables, shared by parser and help. */
#ifndef ACTORS_OPTIONS_INTERNAL_H
#define ACTORS_OPTIONS_INTERNAL_H

#include "actors/options.h"

/* Where a value goes. Order matches nothing; each table row names one. */
enum option_id {
    OPTION_LOG_LEVEL,
    OPTION_LOG_FORMAT,
    OPTION_NO_COLOR,
    OPTION_DAEMON,
    OPTION_INHERIT_FD,
    OPTION_TEST_CONFIG,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_JSON,
    OPTION_ADMIN_CONFIG,
    OPTION_ADMIN_HOST,
    OPTION_ADMIN_PORT,
    OPTION_ADMIN_USER,
    OPTION_ADMIN_PASSWORD,
    OPTION_PG_HOST,
    OPTION_PG_PORT,
    OPTION_PG_USER,
    OPTION_PG_PASSWORD,
    OPTION_PG_DATABASE,
    OPTION_SSL,
    OPTION_POOL_SIZE,
    OPTION_SESSION_MODE,
    OPTION_OUTPUT,
    OPTION_SERVER_HOST,
    OPTION_NO_COMMENTS,
    OPTION_REFERENCE,
    OPTION_RUSSIAN,
    OPTION_FORMAT,
    OPTION_OUTPUT_DIR,
};

struct option_row {
    enum option_id id;
    const char *name;        /* without the dashes */
    char letter;             /* '\0': none */
    const char *value;       /* what help calls the value; NULL: a flag */
    const char *environment; /* NULL: none */
    const char *help;
};

struct option_table {
    const struct option_row *rows;
    size_t count;
};
extern const struct option_table options_main_table;
extern const struct option_table options_inspect_table;
extern const struct option_table options_snapshot_table;
extern const struct option_table options_generate_table;
extern const struct option_table options_docs_table;

/* By name, COMMAND_RUN when it is none. */
enum options_command options_command_named(const char *word);
const char *options_command_name(enum options_command command);

void options_print_help(enum options_command topic);

#endif
