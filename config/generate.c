#include "config/generate.h"

#include "config/generate_out.h"
#include "config/reference.h"

#include <stdlib.h>

enum state {
    ACTIVE,  /* written, with this value or its default */
    EXAMPLE, /* in a comment only */
};

/* What is written about a setting. Those without a row: as a comment, with their default; in the
 * form without comments, if they have one, as it is. */
static const struct item {
    enum setting_section section;
    const char *name;
    enum state state;
    const char *value; /* NULL: the default */
} items[] = {
    {SECTION_GENERAL, "host", ACTIVE, NULL},
    {SECTION_GENERAL, "port", ACTIVE, "6432"},
    {SECTION_GENERAL, "backlog", ACTIVE, NULL},
    {SECTION_GENERAL, "max_connections", ACTIVE, NULL},
    {SECTION_GENERAL, "unix_socket_dir", EXAMPLE, "/var/run/pg_doorman"},
    {SECTION_GENERAL, "unix_socket_mode", ACTIVE, NULL},
    {SECTION_GENERAL, "tcp_keepalives_idle", ACTIVE, NULL},
    {SECTION_GENERAL, "tcp_keepalives_interval", ACTIVE, NULL},
    {SECTION_GENERAL, "tcp_keepalives_count", ACTIVE, NULL},
    {SECTION_GENERAL, "tcp_so_linger", ACTIVE, NULL},
    {SECTION_GENERAL, "tcp_no_delay", ACTIVE, NULL},
    {SECTION_GENERAL, "tcp_user_timeout", ACTIVE, NULL},
    {SECTION_GENERAL, "tcp_socket_buffer_size", ACTIVE, NULL},
    {SECTION_GENERAL, "unix_socket_buffer_size", ACTIVE, NULL},
    {SECTION_GENERAL, "connect_timeout", ACTIVE, NULL},
    {SECTION_GENERAL, "query_wait_timeout", ACTIVE, NULL},
    {SECTION_GENERAL, "idle_timeout", ACTIVE, NULL},
    {SECTION_GENERAL, "server_lifetime", ACTIVE, NULL},
    {SECTION_GENERAL, "server_idle_check_timeout", ACTIVE, NULL},
    {SECTION_GENERAL, "retain_connections_time", ACTIVE, NULL},
    {SECTION_GENERAL, "retain_connections_max", ACTIVE, NULL},
    {SECTION_GENERAL, "shutdown_timeout", ACTIVE, NULL},
    {SECTION_GENERAL, "proxy_copy_data_timeout", ACTIVE, NULL},
    {SECTION_GENERAL, "max_concurrent_creates", ACTIVE, NULL},
    {SECTION_GENERAL, "scaling_warm_pool_ratio", ACTIVE, NULL},
    {SECTION_GENERAL, "scaling_fast_retries", ACTIVE, NULL},
    {SECTION_GENERAL, "scaling_max_parallel_creates", ACTIVE, NULL},
    {SECTION_GENERAL, "max_waiters", ACTIVE, NULL},
    {SECTION_GENERAL, "shed_expected_timeouts", ACTIVE, NULL},
    {SECTION_GENERAL, "server_round_robin", ACTIVE, NULL},
    {SECTION_GENERAL, "sync_server_parameters", ACTIVE, NULL},
    {SECTION_GENERAL, "prepared_statements", ACTIVE, NULL},
    {SECTION_GENERAL, "prepared_statements_cache_size", ACTIVE, NULL},
    {SECTION_GENERAL, "server_prepared_statements_cache_size", EXAMPLE, "8192"},
    {SECTION_GENERAL, "client_anonymous_prepared_cache_size", EXAMPLE, "256"},
    {SECTION_GENERAL, "query_interner_gc_interval_seconds", ACTIVE, NULL},
    {SECTION_GENERAL, "query_interner_anon_idle_ttl_seconds", ACTIVE, NULL},
    {SECTION_GENERAL, "message_size_to_be_stream", ACTIVE, NULL},
    {SECTION_GENERAL, "max_memory_usage", ACTIVE, NULL},
    {SECTION_GENERAL, "pooler_check_query", ACTIVE, NULL},
    {SECTION_GENERAL, "worker_threads", ACTIVE, NULL},
    {SECTION_GENERAL, "worker_cpu_affinity_pinning", ACTIVE, NULL},
    {SECTION_GENERAL, "worker_stack_size", EXAMPLE, "8MB"},
    {SECTION_GENERAL, "max_blocking_threads", EXAMPLE, "8"},
    {SECTION_GENERAL, "tokio_global_queue_interval", EXAMPLE, "31"},
    {SECTION_GENERAL, "tokio_event_interval", EXAMPLE, "61"},
    {SECTION_GENERAL, "daemon_pid_file", EXAMPLE, NULL}, /* would fail in containers */
    {SECTION_GENERAL, "syslog_prog_name", EXAMPLE, "pg_doorman"},
    {SECTION_GENERAL, "log_client_connections", ACTIVE, "true"},
    {SECTION_GENERAL, "log_client_disconnections", ACTIVE, "true"},
    {SECTION_GENERAL, "tls_certificate", EXAMPLE, "/etc/pg_doorman/server.crt"},
    {SECTION_GENERAL, "tls_private_key", EXAMPLE, "/etc/pg_doorman/server.key"},
    {SECTION_GENERAL, "tls_ca_cert", EXAMPLE, "/etc/pg_doorman/clients-ca.crt"},
    {SECTION_GENERAL, "tls_mode", ACTIVE, "allow"},
    {SECTION_GENERAL, "tls_rate_limit_per_second", ACTIVE, NULL},
    {SECTION_GENERAL, "server_tls_mode", ACTIVE, NULL},
    {SECTION_GENERAL, "server_tls_ca_cert", EXAMPLE, "/etc/pg_doorman/servers-ca.crt"},
    {SECTION_GENERAL, "server_tls_certificate", EXAMPLE, "/etc/pg_doorman/client.crt"},
    {SECTION_GENERAL, "server_tls_private_key", EXAMPLE, "/etc/pg_doorman/client.key"},
    {SECTION_GENERAL, "patroni_api_urls", EXAMPLE, "http://10.0.0.1:8008, http://10.0.0.2:8008"},
    {SECTION_GENERAL, "fallback_cooldown", EXAMPLE, "30s"},
    {SECTION_GENERAL, "patroni_api_timeout", EXAMPLE, "5s"},
    {SECTION_GENERAL, "fallback_connect_timeout", EXAMPLE, "5s"},
    {SECTION_GENERAL, "fallback_lifetime", EXAMPLE, "30s"},
    {SECTION_GENERAL, "admin_username", ACTIVE, "admin"},
    {SECTION_GENERAL, "admin_password", ACTIVE, "admin"},
    {SECTION_GENERAL, "hba", ACTIVE, ""},
    {SECTION_GENERAL, "pg_hba_strict", EXAMPLE, NULL}, /* belongs to pg_hba, which is none here */
    {SECTION_GENERAL, "startup_parameters", EXAMPLE, "work_mem=64MB"},

    {SECTION_WEB, "enabled", ACTIVE, NULL},
    {SECTION_WEB, "host", ACTIVE, NULL},
    {SECTION_WEB, "port", ACTIVE, NULL},
    {SECTION_WEB, "ui", ACTIVE, NULL},
    {SECTION_WEB, "ui_anonymous", ACTIVE, NULL},
    {SECTION_WEB, "log_tap_max_entries", ACTIVE, NULL},
    {SECTION_WEB, "sso_enabled", ACTIVE, NULL},
    {SECTION_WEB, "sso_proxy_url", EXAMPLE, "https://sso.example.com"},
    {SECTION_WEB, "sso_public_key_file", EXAMPLE, "/etc/pg_doorman/sso.pub"},
    {SECTION_WEB, "sso_audience", EXAMPLE, "pg_doorman"},
    {SECTION_WEB, "sso_allowed_users", ACTIVE, NULL},
    {SECTION_WEB, "sso_groups_claim", ACTIVE, NULL},
    {SECTION_WEB, "sso_admin_groups", EXAMPLE, "dba"},
    {SECTION_WEB, "sso_require_https", ACTIVE, NULL},
    {SECTION_WEB, "trusted_proxies", EXAMPLE, "10.0.0.0/8"},

    {SECTION_TALOS, "keys", EXAMPLE, "/etc/pg_doorman/talos/key.pem"},
    {SECTION_TALOS, "databases", EXAMPLE, "exampledb"},

    {SECTION_POOL, "pool_mode", ACTIVE, NULL},
    {SECTION_POOL, "cleanup_server_connections", ACTIVE, NULL},
    {SECTION_POOL, "log_client_parameter_status_changes", ACTIVE, NULL},
    {SECTION_POOL, "application_name", EXAMPLE, "pg_doorman"},
    {SECTION_POOL, "connect_timeout", EXAMPLE, "3000"},
    {SECTION_POOL, "idle_timeout", EXAMPLE, "600000"},
    {SECTION_POOL, "server_lifetime", EXAMPLE, "1200000"},
    {SECTION_POOL, "prepared_statements_cache_size", EXAMPLE, "8192"},
    {SECTION_POOL, "server_prepared_statements_cache_size", EXAMPLE, "8192"},
    {SECTION_POOL, "scaling_warm_pool_ratio", EXAMPLE, "20"},
    {SECTION_POOL, "scaling_fast_retries", EXAMPLE, "10"},
    {SECTION_POOL, "max_waiters", EXAMPLE, "1000"},
    {SECTION_POOL, "max_db_connections", EXAMPLE, "100"},
    {SECTION_POOL, "server_tls_mode", EXAMPLE, "require"},
    {SECTION_POOL, "server_tls_ca_cert", EXAMPLE, "/etc/pg_doorman/servers-ca.crt"},
    {SECTION_POOL, "server_tls_certificate", EXAMPLE, "/etc/pg_doorman/client.crt"},
    {SECTION_POOL, "server_tls_private_key", EXAMPLE, "/etc/pg_doorman/client.key"},
    {SECTION_POOL, "patroni_api_urls", EXAMPLE, "http://10.0.0.1:8008, http://10.0.0.2:8008"},
    {SECTION_POOL, "fallback_cooldown", EXAMPLE, "30s"},
    {SECTION_POOL, "patroni_api_timeout", EXAMPLE, "5s"},
    {SECTION_POOL, "fallback_connect_timeout", EXAMPLE, "5s"},
    {SECTION_POOL, "fallback_lifetime", EXAMPLE, "30s"},
    {SECTION_POOL, "startup_parameters", EXAMPLE, "work_mem=64MB"},

    {SECTION_USER, "min_pool_size", EXAMPLE, "2"},
    {SECTION_USER, "pool_mode", EXAMPLE, "session"},
    {SECTION_USER, "server_lifetime", EXAMPLE, "1200000"},
    {SECTION_USER, "server_username", EXAMPLE, "other_role"},
    {SECTION_USER, "server_password", EXAMPLE, "its_password"},
    {SECTION_USER, "auth_pam_service", EXAMPLE, "pg_doorman"},
};

static const struct item *item_of(const struct setting *s)
{
    for (size_t i = 0; i < COUNT_OF(items); i++)
        if (items[i].section == s->section && strcmp(items[i].name, s->name) == 0)
            return &items[i];
    return NULL;
}

/* --- settings --- */

static void explain_and_write(struct generate_out *out, const struct setting *s, bool active,
                              const char *value)
{
    bool was_off = out->off;

    out_comment(out, s->help, setting_help_russian(s));
    out->off = was_off || !active;
    out_setting(out, s, value);
    out->off = was_off;
    out_gap(out);
}

/* The rules of access have three forms, and none of them is active. */
static void write_hba_example(struct generate_out *out, const struct setting *s)
{
    static const char *const yaml[] = {"pg_hba: |", "  local all all trust",
                                       "  host  all all 127.0.0.1/32 scram-sha-256",
                                       "pg_hba: {path: \"/etc/pg_doorman/pg_hba.conf\"}",
                                       "pg_hba: {content: \"host all all 10.0.0.0/8 md5\"}"};
    static const char *const toml[] = {"pg_hba = \"\"\"",
                                       "local all all trust",
                                       "host  all all 127.0.0.1/32 scram-sha-256",
                                       "\"\"\"",
                                       "pg_hba = {path = \"/etc/pg_doorman/pg_hba.conf\"}",
                                       "pg_hba.content = \"host all all 10.0.0.0/8 md5\""};
    bool is_yaml = out->request->yaml;

    if (!out->explain)
        return;
    out_comment(out, s->help, setting_help_russian(s));
    out->off = true;
    for (size_t i = 0; i < (is_yaml ? COUNT_OF(yaml) : COUNT_OF(toml)); i++)
        out_line(out, is_yaml ? yaml[i] : toml[i]);
    out->off = false;
    out_gap(out);
}

/* What is known only now. NULL: nothing. */
static const char *known_value(const struct generate_out *out, const struct setting *s)
{
    const struct generate_request *r = out->request;

    if (s->section == SECTION_GENERAL && strcmp(s->name, "server_tls_mode") == 0 && r->server_tls)
        return "require";
    if (s->section == SECTION_POOL && strcmp(s->name, "pool_mode") == 0)
        return r->session_mode ? "session" : "transaction";
    return NULL;
}

static void write_setting(struct generate_out *out, const struct setting *s)
{
    const struct item *item = item_of(s);
    const char *value = known_value(out, s);
    bool active = item != NULL ? item->state == ACTIVE : !out->request->comments;

    if (value == NULL)
        value = item != NULL && item->value != NULL ? item->value : s->fallback;
    if (s->type == SETTING_HBA)
        write_hba_example(out, s);
    else if (value != NULL && (active || out->explain))
        explain_and_write(out, s, active, value);
}

/* All settings of a section, but for those that are written by hand. */
static void write_section(struct generate_out *out, enum setting_section section,
                          const char *const *by_hand)
{
    for (size_t i = 0; i < setting_count; i++) {
        bool skip = settings[i].section != section || settings[i].type == SETTING_SECTION;

        for (const char *const *name = by_hand; !skip && name != NULL && *name != NULL; name++)
            skip = strcmp(*name, settings[i].name) == 0;
        if (!skip)
            write_setting(out, &settings[i]);
    }
}

static void write_known(struct generate_out *out, enum setting_section section, const char *name,
                        const char *value)
{
    explain_and_write(out, setting_find(section, name), true, value);
}

/* --- pools --- */

static void write_user(struct generate_out *out, const struct generate_user *user,
                       const char *database, size_t number)
{
    static const char *const by_hand[] = {"username", "password", "pool_size", NULL};
    char size[24];

    if (!out->request->yaml) {
        fprintf(out->to, "[pools.");
        out_name(out->to, database);
        fprintf(out->to, ".users.%zu]\n", number);
    }
    int indent = out->indent;
    /* The dash stands on the line of the name, so nothing may come before it. */
    out->item = out->request->yaml;
    bool explain = out->explain;
    out->explain = explain && !out->request->yaml;
    write_known(out, SECTION_USER, "username", user->name);
    out->explain = explain;
    write_known(out, SECTION_USER, "password", user->secret);
    snprintf(size, sizeof size, "%u", out->request->pool_size);
    write_known(out, SECTION_USER, "pool_size", size);
    if (out->explain)
        write_section(out, SECTION_USER, by_hand);
    out->indent = indent;
}

static void write_auth_query_example(struct generate_out *out, const char *database)
{
    static const char *const yaml[] = {
        "auth_query:",
        "  query: \"SELECT passwd FROM pg_shadow WHERE usename = $1\"",
        "  user: \"pooler\"",
        "  password: \"its_password\"",
        "  server_user: \"shared_role\"",
        "  server_password: \"its_password\"",
    };
    static const char *const toml[] = {
        "query = \"SELECT passwd FROM pg_shadow WHERE usename = $1\"",
        "user = \"pooler\"",
        "password = \"its_password\"",
        "server_user = \"shared_role\"",
        "server_password = \"its_password\"",
    };
    bool is_yaml = out->request->yaml;
    size_t count = is_yaml ? COUNT_OF(yaml) : COUNT_OF(toml);

    out_comment(out,
                "Users that are looked up in PostgreSQL. With server_user all of them share the "
                "connections of that role; without it (leave the last two lines away) each has "
                "connections under the own name.",
                "Пользователи, которых пул ищет в PostgreSQL. С server_user все они делят "
                "соединения этой роли; без него (уберите две последние строки) у каждого свои "
                "соединения под своим именем.");
    out->off = true;
    if (!is_yaml) {
        fputs("# [pools.", out->to);
        out_name(out->to, database);
        fputs(".auth_query]\n", out->to);
    }
    for (size_t i = 0; i < count; i++)
        out_line(out, is_yaml ? yaml[i] : toml[i]);
    out->off = false;
    out_gap(out);
}

static void write_pool(struct generate_out *out, const char *database)
{
    static const char *const by_hand[] = {"server_host", "server_port", "server_database", NULL};
    const struct generate_request *r = out->request;
    bool explain = out->explain;
    char port[16];

    fputs(r->yaml ? "  " : "[pools.", out->to);
    out_name(out->to, database);
    fputs(r->yaml ? ":\n" : "]\n", out->to);
    out->indent = 4;
    snprintf(port, sizeof port, "%u", r->server_port);
    write_known(out, SECTION_POOL, "server_host", r->server_host);
    write_known(out, SECTION_POOL, "server_port", port);
    write_known(out, SECTION_POOL, "server_database", database);
    write_section(out, SECTION_POOL, by_hand);
    if (explain)
        write_auth_query_example(out, database);
    if (r->yaml)
        out_line(out, r->user_count > 0 ? "users:" : "users: []");
    out->indent = 6;
    for (size_t i = 0; i < r->user_count; i++) {
        write_user(out, &r->users[i], database, i);
        out->explain = false;
    }
    out->explain = false; /* once is enough */
    out->indent = 0;
    fputc('\n', out->to);
}

static void write_pool_examples(struct generate_out *out)
{
    static const char yaml[] =
        "#   several_users:\n#     server_host: \"127.0.0.1\"\n#     users:\n"
        "#       - {username: \"reader\", password: \"md5...\", pool_size: 10}\n"
        "#       - {username: \"writer\", password: \"SCRAM-SHA-256$...\", pool_size: 20}\n"
        "#   unix_socket:\n#     server_host: \"/var/run/postgresql\"\n#     users:\n"
        "#       - {username: \"app\", password: \"md5...\", pool_size: 10}\n"
        "#   tokens:\n#     users:\n"
        "#       - {username: \"service\", password: \"jwt-pkey-fpath:/etc/pg_doorman/jwt.pub\", "
        "pool_size: 10}\n"
        "#   mapped:\n#     users:\n"
        "#       - {username: \"front\", password: \"md5...\", pool_size: 10,\n"
        "#          server_username: \"role\", server_password: \"its_password\"}\n";
    static const char toml[] =
        "# [pools.several_users]\n# server_host = \"127.0.0.1\"\n"
        "# [pools.several_users.users.0]\n# username = \"reader\"\n# password = \"md5...\"\n"
        "# pool_size = 10\n# [pools.several_users.users.1]\n# username = \"writer\"\n"
        "# password = \"SCRAM-SHA-256$...\"\n# pool_size = 20\n"
        "# [pools.unix_socket]\n# server_host = \"/var/run/postgresql\"\n"
        "# [pools.unix_socket.users.0]\n# username = \"app\"\n# password = \"md5...\"\n"
        "# pool_size = 10\n"
        "# [pools.tokens.users.0]\n# username = \"service\"\n"
        "# password = \"jwt-pkey-fpath:/etc/pg_doorman/jwt.pub\"\n# pool_size = 10\n"
        "# [pools.mapped.users.0]\n# username = \"front\"\n# password = \"md5...\"\n"
        "# pool_size = 10\n# server_username = \"role\"\n# server_password = \"its_password\"\n";

    if (!out->request->comments)
        return;
    out->explain = true;
    out_comment(out,
                "More pools, as examples: several users; PostgreSQL behind a Unix socket; clients "
                "that show a token; a role in PostgreSQL with another name than the client's.",
                "Примеры других пулов: несколько пользователей; PostgreSQL за Unix-сокетом; "
                "клиенты с токеном; роль в PostgreSQL под другим именем, чем у клиента.");
    fputs(out->request->yaml ? yaml : toml, out->to);
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_pools(struct generate_out *out, struct generate_request *r)
{
    if (r->database_count > 1)
        qsort(r->databases, r->database_count, sizeof *r->databases, name_compare);
    out_comment(out, "Pools by the name of the database that clients ask for.",
                "Пулы по имени базы данных, которое называют клиенты.");
    fputs(!r->yaml ? "[pools]\n\n" : r->database_count > 0 ? "pools:\n" : "pools: {}\n", out->to);
    for (size_t i = 0; i < r->database_count; i++)
        write_pool(out, r->databases[i]);
    write_pool_examples(out);
}

/* --- the file --- */

static void write_header(struct generate_out *out, const char *name)
{
    fprintf(out->to, out->request->yaml ? "%s%s:\n" : "%s[%s]\n", out->off ? "# " : "", name);
    out->indent = 2;
}

static void write_talos_example(struct generate_out *out)
{
    if (!out->explain)
        return;
    out_comment(out, "Login with tokens that carry roles.", "Вход по токенам с ролями.");
    out->off = true;
    write_header(out, "talos");
    out->off = false;
    write_section(out, SECTION_TALOS, NULL);
    out->indent = 0;
}

static void write_include(struct generate_out *out)
{
    const struct setting *files = setting_find(SECTION_INCLUDE, "files");

    out_comment(out, "Further files.", "Другие файлы.");
    write_header(out, "include");
    if (out->explain)
        explain_and_write(out, files, false, "users.toml");
    out->indent = 0;
}

static void write_file(FILE *to, struct generate_request *r)
{
    struct generate_out out = {.to = to, .request = r, .explain = r->comments};

    out_comment(&out,
                "Configuration of pg_doorman. Lines that begin with # and a name show an example "
                "or the default. Check the file with: pg_doorman -t FILE",
                "Конфигурация pg_doorman. В закомментированных строках — пример или значение по "
                "умолчанию. Проверить файл: pg_doorman -t FILE");
    out_gap(&out);
    write_include(&out);
    fputc('\n', to);
    write_header(&out, "general");
    write_section(&out, SECTION_GENERAL, NULL);
    out.indent = 0;
    fputc('\n', to);
    out_comment(&out, "Metrics for Prometheus, and the web console.",
                "Метрики для Prometheus и веб-консоль.");
    write_header(&out, "web");
    write_section(&out, SECTION_WEB, NULL);
    out.indent = 0;
    fputc('\n', to);
    write_talos_example(&out);
    write_pools(&out, r);
}

/* One empty line is enough between any two things. Values hold no line ends: they are escaped. */
static void squeeze(char *text)
{
    char *to = text;

    for (const char *at = text; *at != '\0'; at++)
        if (*at != '\n' || to < text + 2 || to[-1] != '\n' || to[-2] != '\n')
            *to++ = *at;
    if (to > text + 1 && to[-1] == '\n' && to[-2] == '\n')
        to--;
    *to = '\0';
}

char *generate_configuration(struct generate_request *request)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    INVARIANT(to != NULL);
    write_file(to, request);
    INVARIANT(fclose(to) == 0);
    squeeze(text);
    return text;
}

void generate_example(struct generate_request *request)
{
    static const char *databases[] = {"exampledb"};
    static const struct generate_user users[] = {
        {"app_user", "md5dd9a0f26a4302744db881776a09bbfad"}};

    request->comments = true;
    if (request->server_host == NULL)
        request->server_host = "127.0.0.1";
    request->databases = databases;
    request->database_count = COUNT_OF(databases);
    request->users = users;
    request->user_count = COUNT_OF(users);
}
