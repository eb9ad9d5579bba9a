#include "actors/options_internal.h"
#include "actors/version.h"
#include "tests/unit/unit.h"

#include <unistd.h>

static void clear_environment(void)
{
    static const char *const names[] = {"CONFIG_FILE", "LOG_LEVEL",  "LOG_FORMAT",
                                        "DAEMON",      "INHERIT_FD", "PG_DOORMAN_ADMIN_PASSWORD"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        unsetenv(names[i]);
}

/* Splits at blanks; '~' stands for an empty word. */
static int parse(struct options *o, const char *line, struct failure *why)
{
    static char words[512];
    static char *argv[32];
    int argc = 0;
    char *save = NULL;

    snprintf(words, sizeof words, "pg_doorman %s", line);
    for (char *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = strcmp(word, "~") == 0 ? word + 1 : word;
    argv[argc] = NULL;
    why->text[0] = '\0';
    return options_parse(o, argc, argv, why);
}

/* The result in one line, so that a row shows what it wants. */
static void describe(const struct options *o, char *out, size_t size)
{
    static const char *const commands[] = {"run",  "help",    "version", "generate",
                                           "docs", "inspect", "snapshot"};

    snprintf(out, size, "%s %s %s %s%s%s%s %d", commands[o->command], o->config_file,
             o->log_level_name, o->log_form == LOG_TEXT ? "text" : "structured",
             o->no_color ? " n" : "", o->daemon ? " d" : "", o->test_config ? " t" : "",
             o->inherit_fd);
}

TEST(command_lines_are_understood_in_any_order)
{
    static const struct {
        const char *line;
        const char *want;
    } rows[] = {
        {"", "run pg_doorman.toml info text -1"},
        {"a.toml -l info", "run a.toml info text -1"},
        {"a.toml --daemon -l info", "run a.toml info text d -1"},
        {"-t a.toml", "run a.toml info text t -1"},
        {"-l debug a.toml", "run a.toml debug text -1"},
        {"-ldebug", "run pg_doorman.toml debug text -1"},
        {"-l=debug", "run pg_doorman.toml debug text -1"},
        {"--log-level=trace", "run pg_doorman.toml trace text -1"},
        {"--log-level WARN", "run pg_doorman.toml warn text -1"},
        {"-F Structured", "run pg_doorman.toml info structured -1"},
        {"-F debug", "run pg_doorman.toml info text -1"},
        {"-dn", "run pg_doorman.toml info text n d -1"},
        {"-dnl error a", "run a error text n d -1"},
        {"-dnlerror a", "run a error text n d -1"},
        {"--inherit-fd 7", "run pg_doorman.toml info text 7"},
        {"--inherit-fd=0 a", "run a info text 0"},
        {"-- -t", "run -t info text -1"},
        {"-- generate", "run generate info text -1"},
        {"./generate", "run ./generate info text -1"},
        {"-l debug generate -d db -o x.toml", "generate pg_doorman.toml debug text -1"},
        {"generate-docs", "docs pg_doorman.toml info text -1"},
        {"generate --help", "help pg_doorman.toml info text -1"},
        {"-l info inspect f --json", "inspect pg_doorman.toml info text -1"},
        {"snapshot -c x.toml out", "snapshot pg_doorman.toml info text -1"},
        {"help", "help pg_doorman.toml info text -1"},
        {"-h --bogus", "help pg_doorman.toml info text -1"},
        {"-V", "version pg_doorman.toml info text -1"},
        {"a.toml --version", "version pg_doorman.toml info text -1"},
    };

    clear_environment();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct options o;
        struct failure why;
        char got[256] = "";

        EQ(parse(&o, rows[i].line, &why), 0, "%s: %s", rows[i].line, why.text);
        describe(&o, got, sizeof got);
        STR_EQ(got, rows[i].want, "%s", rows[i].line);
    }
}

TEST(usage_errors_are_refused)
{
    static const char *const lines[] = {
        "--bogus",
        "-x",
        "-dx",
        "-l",
        "-l noisy",
        "-l off",
        "--log-level=",
        "-F xml",
        "-d -d",
        "-dd",
        "--daemon=true",
        "-l info --log-level info",
        "a b",
        "-- a b",
        "--inherit-fd",
        "--inherit-fd x",
        "--inherit-fd -1",
        "--inherit-fd 5x",
        "help nonsense",
        "inspect",
        "inspect a b",
        "inspect -l info a",
        "snapshot",
        "snapshot --admin-port 0 f",
        "snapshot --admin-port 65536 f",
        "--bogus -h",
        "--log-levels info",
        "--log info",
    };

    clear_environment();
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        struct options o;
        struct failure why;

        EQ(parse(&o, lines[i], &why), -1, "%s", lines[i]);
        CHECK(strncmp(why.text, "error: ", 7) == 0, "%s", lines[i]);
    }
}

TEST(environment_gives_defaults)
{
    static const struct {
        const char *name;
        const char *value;
        const char *line;
        const char *want; /* NULL: refused */
    } rows[] = {
        {"CONFIG_FILE", "env.toml", "", "run env.toml info text -1"},
        {"CONFIG_FILE", "env.toml", "a.toml", "run a.toml info text -1"},
        {"LOG_LEVEL", "debug", "", "run pg_doorman.toml debug text -1"},
        {"LOG_LEVEL", "INFO", "", "run pg_doorman.toml info text -1"},
        {"LOG_LEVEL", "debug", "-l warn", "run pg_doorman.toml warn text -1"},
        {"LOG_LEVEL", "bad", "", NULL},
        {"LOG_LEVEL", "bad", "-l warn", "run pg_doorman.toml warn text -1"},
        {"LOG_LEVEL", "", "", "run pg_doorman.toml info text -1"},
        {"LOG_LEVEL", "bad", "help", "help pg_doorman.toml info text -1"},
        {"LOG_FORMAT", "structured", "", "run pg_doorman.toml info structured -1"},
        {"LOG_FORMAT", "json", "", NULL},
        {"DAEMON", "true", "", "run pg_doorman.toml info text d -1"},
        {"DAEMON", "false", "", "run pg_doorman.toml info text -1"},
        {"DAEMON", "false", "-d", "run pg_doorman.toml info text d -1"},
        {"DAEMON", "1", "", "run pg_doorman.toml info text d -1"},
        {"DAEMON", "maybe", "", NULL},
        {"INHERIT_FD", "9", "", "run pg_doorman.toml info text 9"},
        {"INHERIT_FD", "nine", "", NULL},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct options o;
        struct failure why;
        char got[256] = "";

        clear_environment();
        setenv(rows[i].name, rows[i].value, 1);
        EQ(parse(&o, rows[i].line, &why), rows[i].want != NULL ? 0 : -1, "%s=%s %s", rows[i].name,
           rows[i].value, why.text);
        if (rows[i].want == NULL)
            continue;
        describe(&o, got, sizeof got);
        STR_EQ(got, rows[i].want, "%s=%s", rows[i].name, rows[i].value);
    }
    clear_environment();
}

TEST(commands_keep_their_arguments)
{
    struct options o;
    struct failure why;

    clear_environment();
    EQ(parse(&o, "-d generate -d db -o x.toml", &why), 0);
    STR_EQ(o.generate.database, "db");
    STR_EQ(o.generate.output, "x.toml");
    EQ(parse(&o, "inspect --json -", &why), 0);
    STR_EQ(o.inspect_file, "-");
    CHECK(o.inspect_json);
    EQ(parse(&o, "c.toml snapshot f --admin-host h --admin-port 6432 --admin-user=u", &why), 0);
    STR_EQ(o.config_file, "c.toml");
    STR_EQ(o.snapshot.output, "f");
    STR_EQ(o.snapshot.admin_host, "h");
    EQ(o.snapshot.admin_port, 6432);
    STR_EQ(o.snapshot.admin_user, "u");
    EQ(parse(&o, "help snapshot", &why), 0);
    EQ(o.help_topic, COMMAND_SNAPSHOT);
    EQ(parse(&o, "inspect -h", &why), 0);
    EQ(o.help_topic, COMMAND_INSPECT);
}

/* What the program prints on stdout for one command. */
static void answer(const struct options *o, int want_status, char *out, size_t size)
{
    int ends[2];
    int saved = dup(STDOUT_FILENO);

    fflush(stdout);
    if (pipe(ends) != 0)
        abort();
    dup2(ends[1], STDOUT_FILENO);
    close(ends[1]);
    EQ(options_answer(o), want_status);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    ssize_t n = read(ends[0], out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    close(ends[0]);
}

TEST(version_and_help_go_to_stdout)
{
    struct options o;
    struct failure why;
    char text[8192];

    clear_environment();
    EQ(parse(&o, "--version", &why), 0);
    answer(&o, 0, text, sizeof text);
    STR_EQ(text, "pg_doorman " DOORMAN_VERSION "\n");

    EQ(parse(&o, "--help", &why), 0);
    answer(&o, 0, text, sizeof text);
    for (size_t i = 0; i < options_main_table.count; i++) {
        const struct option_row *row = &options_main_table.rows[i];
        char want[64];

        snprintf(want, sizeof want, "--%s", row->name);
        CHECK(strstr(text, want) != NULL, "%s", row->name);
        snprintf(want, sizeof want, "[env: %s]", row->environment ? row->environment : "");
        CHECK(row->environment == NULL || strstr(text, want) != NULL, "%s", row->name);
    }
    CHECK(strstr(text, "CONFIG_FILE") != NULL);

    setenv("PG_DOORMAN_ADMIN_PASSWORD", "hush-hush", 1);
    EQ(parse(&o, "help snapshot", &why), 0);
    answer(&o, 0, text, sizeof text);
    CHECK(strstr(text, "hush-hush") == NULL);
    clear_environment();
}

TEST(successor_gets_the_same_arguments_and_the_new_listener)
{
    static const struct {
        const char *argv[8];
        int fd;
        const char *want[8];
    } rows[] = {
        {{"p", "a.toml", "-l", "info"}, 5, {"p", "--inherit-fd=5", "a.toml", "-l", "info"}},
        {{"p", "--inherit-fd", "4", "a"}, 5, {"p", "--inherit-fd=5", "a"}},
        {{"p", "a", "--inherit-fd=4"}, 5, {"p", "--inherit-fd=5", "a"}},
        {{"p", "--", "a"}, 5, {"p", "--inherit-fd=5", "--", "a"}},
        {{"p", "--inherit-fd", "4"}, -1, {"p"}},
        {{"p", "a", "--inherit-fd"}, 5, {"p", "--inherit-fd=5", "a"}},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int argc = 0;

        while (rows[i].argv[argc] != NULL)
            argc++;
        char **got = options_for_successor(argc, (char **)rows[i].argv, rows[i].fd);
        for (int j = 0; rows[i].want[j] != NULL || got[j] != NULL; j++) {
            if (rows[i].want[j] == NULL || got[j] == NULL) {
                unit_fail(__FILE__, __LINE__, "row %zu: length differs", i);
                break;
            }
            STR_EQ(got[j], rows[i].want[j], "row %zu", i);
        }
        free(got);
    }
}
