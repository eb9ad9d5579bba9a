/* Generated configurations: they load, in both formats, whatever the names are; and their layout is
 * what scripts count on. */
#include "config/generate.h"
#include "config/reference.h"
#include "tests/unit/config_rows.h"

static char *example(bool yaml, bool russian)
{
    struct generate_request r = {
        .yaml = yaml, .russian = russian, .server_port = 5432, .pool_size = 40};

    generate_example(&r);
    return generate_configuration(&r);
}

static char *read_file(const char *path)
{
    static char text[1 << 16];
    FILE *f = fopen(path, "r");

    if (f == NULL)
        return NULL;
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

/* First, while the working directory is still that of the sources. */
TEST(examples_are_what_generate_writes)
{
    static const char *const paths[] = {"examples/pg_doorman.toml", "examples/pg_doorman.yaml"};

    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char *text = example(i, false);
        const char *kept = read_file(paths[i]);

        CHECK(kept != NULL && strcmp(kept, text) == 0,
              "%s is not what `pg_doorman generate --reference -o %s` writes", paths[i], paths[i]);
        free(text);
    }
}

/* NULL when it cannot be loaded, having said so. */
static struct config *load(const char *text, bool yaml, const char *what)
{
    const char *path = yaml ? "row.yaml" : "row.toml";
    struct failure why;
    struct config *c;

    enter_scratch_directory();
    file_write(path, text);
    if (config_load(&c, path, &why) == 0)
        return c;
    unit_fail(__FILE__, __LINE__, "%s, %s: %s", what, path, why.text);
    return NULL;
}

#define SECRET                                                                                  \
    "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:" \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

static const char *const nasty[] = {
    "a",
    "we\"ird",
    "back\\slash",
    "na.me: x # y",
    "null",
    "True",
    "1e3",
    "[x]",
    "tab\tline\nend",
    "\xd0\xb1\xd0\xb0\xd0\xb7\xd0\xb0",
    "-",
    "'quoted'",
    "\x7f",
    "no",
    "~",
    "${x} $y",
};

TEST(generated_files_load_whatever_the_names_are)
{
    struct generate_user users[COUNT_OF(nasty)];
    const char *databases[COUNT_OF(nasty)];

    for (size_t i = 0; i < COUNT_OF(nasty); i++) {
        users[i] = (struct generate_user){nasty[i], i % 2 ? SECRET : ""};
        databases[i] = nasty[COUNT_OF(nasty) - 1 - i];
    }
    for (unsigned form = 0; form < 8; form++) {
        struct generate_request r = {.comments = form & 1,
                                     .russian = form & 2,
                                     .session_mode = form & 4,
                                     .server_tls = form & 4,
                                     .server_host = "/run/my \"socket\"",
                                     .server_port = 5433,
                                     .pool_size = 7,
                                     .databases = databases,
                                     .database_count = COUNT_OF(databases),
                                     .users = users,
                                     .user_count = COUNT_OF(users)};
        struct config *loaded[2];

        for (unsigned yaml = 0; yaml < 2; yaml++) {
            r.yaml = yaml;
            char *text = generate_configuration(&r);
            loaded[yaml] = load(text, yaml, r.comments ? "with comments" : "plain");
            free(text);
            if (loaded[yaml] == NULL)
                return;
            EQ(loaded[yaml]->warnings.count, 0, "%s",
               loaded[yaml]->warnings.count > 0 ? loaded[yaml]->warnings.items[0] : "");
        }
        const struct config *c = loaded[0];
        CHECK(config_equal(c, loaded[1]), "both formats say the same");
        EQ(c->pool_count, COUNT_OF(nasty));
        EQ(c->general.port, 6432);
        STR_EQ(c->general.server_tls_mode, r.server_tls ? "require" : "allow");
        for (size_t i = 0; i < COUNT_OF(nasty); i++) {
            const struct pool_config *p = config_pool(c, nasty[i]);
            CHECK(p != NULL, "pool %s", nasty[i]);
            if (p == NULL)
                continue;
            STR_EQ(p->server_database, nasty[i]);
            STR_EQ(p->server_host, r.server_host);
            EQ(p->server_port, 5433);
            STR_EQ(p->pool_mode, r.session_mode ? "session" : "transaction");
            CHECK(p->cleanup_server_connections);
            const struct user_config *u = config_user(p, nasty[i]);
            CHECK(u != NULL, "user %s", nasty[i]);
            if (u != NULL)
                STR_EQ(u->password, users[i].secret);
        }
        config_unref(loaded[0]);
        config_unref(loaded[1]);
    }
}

TEST(generated_files_without_databases_or_users_load)
{
    const char *databases[] = {"db"};

    for (unsigned form = 0; form < 8; form++) {
        struct generate_request r = {.yaml = form & 1,
                                     .comments = form & 2,
                                     .server_host = "h",
                                     .databases = databases,
                                     .database_count = form & 4 ? 1 : 0};
        char *text = generate_configuration(&r);
        struct config *c = load(text, r.yaml, "empty");

        if (c != NULL) {
            EQ(c->pool_count, r.database_count);
            config_unref(c);
        }
        free(text);
    }
}

/* Where a line that begins with this text begins; NULL: there is none. */
static const char *line_of(const char *text, const char *begin)
{
    while (*text != '\0') {
        if (strncmp(text, begin, strlen(begin)) == 0)
            return text;
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return NULL;
}

TEST(toml_layout_is_what_scripts_count_on)
{
    static const char *const order[] = {"[include]\n",
                                        "[general]\n",
                                        "[web]\n",
                                        "# [talos]\n",
                                        "[pools]\n",
                                        "[pools.exampledb]\n",
                                        "[pools.exampledb.users.0]\n"};
    char *text = example(false, false);
    const char *at = text;

    for (size_t i = 0; i < COUNT_OF(order); i++) {
        const char *next = line_of(at, order[i]);

        CHECK(next != NULL, "%s comes in its place", order[i]);
        at = next != NULL ? next : at;
    }
    const char *port = line_of(text, "port");
    CHECK(port != NULL && strncmp(port, "port = 6432\n", 12) == 0);
    CHECK(port > line_of(text, "[general]") && port < line_of(text, "[web]"));
    static const char *const inactive[] = {"pg_hba", "syslog_prog_name", "daemon_pid_file"};
    for (size_t i = 0; i < COUNT_OF(inactive); i++)
        CHECK(line_of(text, inactive[i]) == NULL, "%s must stay a comment", inactive[i]);
    CHECK(line_of(text, "connect_timeout = 3000\n") != NULL, "durations are numbers");

    /* What people insert in front of the pools. */
    char changed[1 << 16];
    const char *pools = line_of(text, "[pools]\n");
    snprintf(changed, sizeof changed, "%.*s[general.pg_hba]\ncontent = \"local all all trust\"\n%s",
             (int)(pools - text), text, pools);
    struct config *c = load(changed, false, "with rules");
    if (c != NULL) {
        STR_EQ(c->general.pg_hba, "local all all trust");
        config_unref(c);
    }
    free(text);
}

TEST(yaml_layout_is_what_scripts_count_on)
{
    static const char *const order[] = {
        "include:\n", "general:\n",     "web:\n",       "# talos:\n",
        "pools:\n",   "  exampledb:\n", "    users:\n", "      - username: \"app_user\"\n"};
    char *text = example(true, false);
    const char *at = text;

    for (size_t i = 0; i < COUNT_OF(order); i++) {
        const char *next = line_of(at, order[i]);

        CHECK(next != NULL, "%s comes in its place", order[i]);
        at = next != NULL ? next : at;
    }
    CHECK(line_of(text, "  connect_timeout: \"3s\"\n") != NULL, "durations are words");
    /* The first line with both. */
    const char *line = text;
    for (;; line += strcspn(line, "\n") + 1) {
        char copy[512];
        snprintf(copy, sizeof copy, "%.*s", (int)strcspn(line, "\n"), line);
        if (*line == '\0' || (strstr(copy, "port:") != NULL && strstr(copy, "6432") != NULL))
            break;
    }
    CHECK(strncmp(line, "  port: 6432\n", 13) == 0);

    char changed[1 << 16];
    line += strlen("  port: 6432\n");
    snprintf(changed, sizeof changed, "%.*s  pg_hba:\n    content: \"local all all trust\"\n%s",
             (int)(line - text), text, line);
    struct config *c = load(changed, true, "with rules");
    if (c != NULL) {
        STR_EQ(c->general.pg_hba, "local all all trust");
        config_unref(c);
    }
    free(text);
}

/* Each example is good on its own; but for those that need a file or a companion. */
TEST(commented_examples_may_be_uncommented)
{
    static const char *const excused[] = {"No such file", "is set but", "without server_tls",
                                          "requires server_username", "files"};
    char *text = example(false, false);
    unsigned tried = 0;
    unsigned excuses = 0;
    const char *end = line_of(text, "# More pools");

    for (const char *line = text; line < end; line += strcspn(line, "\n") + 1) {
        size_t name = strspn(line + 2, "abcdefghijklmnopqrstuvwxyz_.");
        struct failure why;
        struct config *c;
        char changed[1 << 16];

        if (strncmp(line, "# ", 2) != 0 || name == 0 || strncmp(line + 2 + name, " = ", 3) != 0)
            continue;
        if (strncmp(line, "# pg_hba = \"\"\"", 14) == 0 || strncmp(line, "# query = ", 10) == 0)
            break; /* the rest spans lines */
        snprintf(changed, sizeof changed, "%.*s%s", (int)(line - text), text, line + 2);
        enter_scratch_directory();
        file_write("row.toml", changed);
        tried++;
        if (config_load(&c, "row.toml", &why) == 0) {
            EQ(c->warnings.count, 0, "%s", c->warnings.count > 0 ? c->warnings.items[0] : "");
            config_unref(c);
            continue;
        }
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(excused); i++)
            known = known || strstr(why.text, excused[i]) != NULL;
        CHECK(known, "%.60s: %s", line, why.text);
        excuses++;
    }
    CHECK(tried > 20 && excuses < tried / 2, "%u tried, %u excused", tried, excuses);
    free(text);
}

TEST(russian_comments_speak_of_every_setting)
{
    char *text = example(true, true);

    for (size_t i = 0; i < setting_count; i++) {
        const char *help = setting_help_russian(&settings[i]);
        bool cyrillic = strchr(help, 0xd0) != NULL || strchr(help, 0xd1) != NULL;

        if (settings[i].section != SECTION_TOP && settings[i].type != SETTING_SECTION)
            CHECK(cyrillic, "config/settings_russian.c lacks %s.%s",
                  setting_section_name(settings[i].section), settings[i].name);
    }
    CHECK(strstr(text, "# Порт PostgreSQL.") != NULL);
    free(text);
}

TEST(reference_pages_name_every_setting)
{
    static const char *const names[] = {"general.md", "pool.md", "prometheus.md"};
    size_t found = 0;
    size_t wanted = 0;

    for (size_t page = 0; page < REFERENCE_PAGES; page++) {
        const char *name;
        char *text = reference_page(page, &name);

        STR_EQ(name, names[page]);
        for (const char *at = text; (at = strstr(at, "\n### `")) != NULL; at++)
            found++;
        CHECK(strstr(text, "(null)") == NULL);
        free(text);
    }
    for (size_t i = 0; i < setting_count; i++)
        wanted += settings[i].section != SECTION_TOP;
    EQ(found, wanted);
}

TEST(generate_scratch_files_are_removed)
{
    static const char *const files[] = {"row.yaml", "row.toml"};

    enter_scratch_directory();
    leave_scratch_directory(files, COUNT_OF(files));
}
