/* options.h: the command line and the environment defaults behind it.
 *
 * For main(): options_parse() first. On -1 print the reason to stderr and exit with
 * OPTIONS_USAGE_STATUS. Then, unless the command is COMMAND_RUN, `return options_answer(...)`,
 * which does all of inspect, snapshot, help, version and so on. Nothing here starts threads or
 * changes the process. All strings are borrowed from argv or the environment.
 */
#ifndef ACTORS_OPTIONS_H
#define ACTORS_OPTIONS_H

#include "runtime/base.h"
#include "runtime/log.h"

enum { OPTIONS_USAGE_STATUS = 2 };

enum options_command {
    COMMAND_RUN, /* the pooler itself, or with test_config its check */
    COMMAND_HELP,
    COMMAND_VERSION,
    COMMAND_GENERATE,
    COMMAND_GENERATE_DOCS,
    COMMAND_INSPECT,
    COMMAND_SNAPSHOT,
};

struct snapshot_options {
    const char *config_file; /* -c; else options.config_file */
    const char *output;      /* "-": stdout */
    const char *admin_host;  /* NULL: from the configuration; a directory: Unix socket */
    const char *admin_user;
    const char *admin_password;
    int admin_port; /* 0: from the configuration */
};

enum generate_format { GENERATE_BY_NAME, GENERATE_YAML, GENERATE_TOML };

struct generate_options {
    const char *host;
    int port;
    const char *user;
    const char *password; /* NULL: none */
    const char *database;
    const char *output;      /* NULL: stdout */
    const char *server_host; /* NULL: host */
    unsigned pool_size;
    enum generate_format format;
    bool ssl;
    bool session_mode;
    bool no_comments;
    bool reference;
    bool russian;
};

struct options {
    enum options_command command;
    const char *config_file;
    enum log_level log_level;
    const char *log_level_name; /* lower case, as log_options.filter takes it */
    enum log_form log_form;
    bool no_color;
    bool daemon;
    bool test_config;
    int inherit_fd; /* -1: none */

    enum options_command help_topic; /* COMMAND_RUN: the program as a whole */
    const char *inspect_file;        /* "-": stdin */
    bool inspect_json;
    struct snapshot_options snapshot;
    struct generate_options generate;
    const char *docs_directory; /* NULL: stdout */
};

/* -1 with a text of one or more lines, ready for stderr. */
MUST_CHECK int options_parse(struct options *out, int argc, char **argv, struct failure *why);

/* Carries out every command but COMMAND_RUN. Returns the exit status. */
int options_answer(const struct options *o);

/* The arguments of the process that takes over in a binary upgrade: the same ones, with
 * --inherit-fd replaced. fd -1: without any. NULL-terminated; free the array, and with it the new
 * texts. argv[0] is kept. NULL: out of memory. */
char **options_for_successor(int argc, char **argv, int fd);

#endif
