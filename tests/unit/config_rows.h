/* config_rows.h: configuration tests as rows. Each row gives the same fragment in YAML and in TOML,
 * the place where it goes in an otherwise sound configuration, and what must come of it.
 */
#ifndef TESTS_UNIT_CONFIG_ROWS_H
#define TESTS_UNIT_CONFIG_ROWS_H

#include "config/config.h"
#include "tests/unit/unit.h"

#include <unistd.h>

#define HASH                                                                            \
    "md5d41d8cd98f00b204e9800998ecf8427e" /* a stored password that no warning is about \
                                           */

enum place { IN_GENERAL, IN_POOL, IN_USER, AT_TOP, WHOLE };

/* want: "ok" (and no warning), "!part of the failure", "?part of a warning", "key=value". */
struct config_row {
    const char *what;
    enum place place;
    const char *yaml; /* NULL: no such fragment in this format */
    const char *toml;
    const char *want;
};

static inline void file_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    INVARIANT(f != NULL);
    fputs(text, f);
    fclose(f);
}

/* Tests write and read files with bare names in a directory of their own. */
static inline void enter_scratch_directory(void)
{
    static char path[] = "/tmp/config-test-XXXXXX";
    static bool entered;

    if (entered)
        return;
    INVARIANT(mkdtemp(path) != NULL && chdir(path) == 0);
    entered = true;
}

static inline void leave_scratch_directory(const char *const *files, size_t count)
{
    char path[256];

    for (size_t i = 0; i < count; i++)
        unlink(files[i]);
    INVARIANT(getcwd(path, sizeof path) != NULL);
    rmdir(path);
}

static inline const char *fragment(const struct config_row *row, bool yaml, enum place place)
{
    return row->place == place ? (yaml ? row->yaml : row->toml) : "";
}

static inline void row_write(const struct config_row *row, bool yaml, const char *path)
{
    static const char yaml_form[] = "general:\n"
                                    "  admin_username: admin\n"
                                    "  admin_password: s3cret\n"
                                    "%s"
                                    "pools:\n"
                                    "  db:\n"
                                    "    server_host: 127.0.0.1\n"
                                    "%s"
                                    "    users:\n"
                                    "      - username: u\n"
                                    "        pool_size: 10\n"
                                    "%s"
                                    "%s";
    static const char toml_form[] = "[general]\n"
                                    "admin_username = \"admin\"\n"
                                    "admin_password = \"s3cret\"\n"
                                    "%s"
                                    "[pools.db]\n"
                                    "server_host = \"127.0.0.1\"\n"
                                    "%s"
                                    "[[pools.db.users]]\n"
                                    "username = \"u\"\n"
                                    "pool_size = 10\n"
                                    "%s"
                                    "%s";
    char text[16384];

    if (row->place == WHOLE) {
        file_write(path, yaml ? row->yaml : row->toml);
        return;
    }
    int n = snprintf(text, sizeof text, yaml ? yaml_form : toml_form,
                     fragment(row, yaml, IN_GENERAL), fragment(row, yaml, IN_POOL),
                     fragment(row, yaml, IN_USER), fragment(row, yaml, AT_TOP));
    INVARIANT(n > 0 && (size_t)n < sizeof text);
    file_write(path, text);
}

struct wanted_value {
    const char *want; /* key=value */
    char found[512];
};

static inline void find_value(void *context, const struct setting_row *row)
{
    struct wanted_value *w = context;
    size_t len = strlen(row->key);

    if (strncmp(w->want, row->key, len) == 0 && w->want[len] == '=')
        snprintf(w->found, sizeof w->found, "%s=%s", row->key, row->value);
}

static inline void row_judge_loaded(const struct config_row *row, const char *path,
                                    const struct config *c)
{
    bool found = false;

    for (size_t i = 0; i < c->warnings.count; i++) {
        const char *warning = c->warnings.items[i];
        CHECK(strstr(warning, "s3cret") == NULL && strstr(warning, "hunter2") == NULL, "%s",
              row->what);
        if (strcmp(row->want, "ok") == 0)
            unit_fail(__FILE__, __LINE__, "%s (%s): warned: %s", row->what, path, warning);
        found = found || (row->want[0] == '?' && strstr(warning, row->want + 1) != NULL);
    }
    if (row->want[0] == '!')
        unit_fail(__FILE__, __LINE__, "%s (%s): accepted", row->what, path);
    else if (row->want[0] == '?' && !found)
        unit_fail(__FILE__, __LINE__, "%s (%s): no warning \"%s\"; %zu others, the first: %s",
                  row->what, path, row->want + 1, c->warnings.count,
                  c->warnings.count > 0 ? c->warnings.items[0] : "-");
    if (strchr("!?", row->want[0]) == NULL && strcmp(row->want, "ok") != 0) {
        struct wanted_value w = {.want = row->want};
        config_visit(c, find_value, &w);
        STR_EQ(w.found, row->want, "%s (%s)", row->what, path);
    }
}

static inline void row_judge_failure(const struct config_row *row, const char *path,
                                     const char *text)
{
    bool own_prefix = strncmp(row->want, "!JWT public key error: ", 23) == 0;
    const char *prefix = own_prefix ? "JWT public key error: " : "Configuration error: ";

    CHECK(strncmp(text, prefix, strlen(prefix)) == 0, "%s (%s): %s", row->what, path, text);
    CHECK(strstr(text, "s3cret") == NULL && strstr(text, "hunter2") == NULL, "%s: %s", row->what,
          text);
    if (row->want[0] != '!')
        unit_fail(__FILE__, __LINE__, "%s (%s): refused: %s", row->what, path, text);
    else if (strstr(text, row->want + 1) == NULL)
        unit_fail(__FILE__, __LINE__, "%s (%s): \"%s\" lacks \"%s\"", row->what, path, text,
                  row->want + 1);
}

static inline void row_run(const struct config_row *row, bool yaml)
{
    const char *path = yaml ? "row.yaml" : "row.toml";
    struct failure why = {""};
    struct config *c;

    if ((yaml ? row->yaml : row->toml) == NULL)
        return;
    row_write(row, yaml, path);
    if (config_load(&c, path, &why) != 0) {
        row_judge_failure(row, path, why.text);
        return;
    }
    row_judge_loaded(row, path, c);
    config_unref(c);
}

static inline void rows_run(const struct config_row *rows, size_t count)
{
    enter_scratch_directory();
    for (size_t i = 0; i < count; i++) {
        row_run(&rows[i], true);
        row_run(&rows[i], false);
    }
}
#define RUN_ROWS(rows) rows_run(rows, COUNT_OF(rows))

#endif
