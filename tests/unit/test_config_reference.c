/* Every setting of the reference, one row each: its type, its default, when a change takes effect,
 * a value that must be read and the values that must be refused, in both formats. What the settings
 * mean together is in test_config.c. */
#include "config/settings.h"
#include "tests/unit/config_rows.h"

struct reference {
    enum setting_section section;
    const char *name;
    enum setting_type type;
    enum setting_reload reload;
    const char *fallback; /* in serialised form; "": unset; REQUIRED */
    const char *sample;   /* good in both formats */
    const char *want;     /* how it is told then; "!text": refused for another reason, with that */
};
#define REQUIRED  "(required)"
#define GENERAL   SECTION_GENERAL
#define POOL      SECTION_POOL
#define USER      SECTION_USER
#define LOOKUP    SECTION_AUTH_QUERY
#define WEB       SECTION_WEB
#define TALOS     SECTION_TALOS
#define STRING    SETTING_STRING
#define BOOL      SETTING_BOOL
#define U16       SETTING_U16
#define U32       SETTING_U32
#define U64       SETTING_U64
#define USIZE     SETTING_USIZE
#define DURATION  SETTING_DURATION
#define MS        SETTING_MS
#define BYTES     SETTING_BYTES
#define POOL_MODE SETTING_POOL_MODE
#define LIST      SETTING_LIST
#define CIDRS     SETTING_CIDR_LIST
#define MAP       SETTING_MAP
#define HBA       SETTING_HBA
#define L         RELOAD_LIVE
#define N         RELOAD_CLIENT
#define B         RELOAD_BACKEND
#define P         RELOAD_POOL
#define R         RELOAD_RESTART
#define NONE      RELOAD_NEVER

/* clang-format off */
static const struct reference references[] = {
    /* listener and sockets */
    {GENERAL, "host", STRING, R, "0.0.0.0", "\"[::]\"", "[::]"},
    {GENERAL, "port", U16, R, "5432", "6432", "6432"},
    {GENERAL, "backlog", U32, R, "0", "1024", "1024"},
    {GENERAL, "max_connections", U64, N, "8192", "11000", "11000"},
    {GENERAL, "unix_socket_dir", STRING, R, "", "\"/tmp\"", "/tmp"},
    {GENERAL, "unix_socket_mode", STRING, R, "0600", "\"0660\"", "0660"},
    {GENERAL, "tcp_keepalives_idle", U64, N, "5", "7", "7"},
    {GENERAL, "tcp_keepalives_interval", U64, N, "5", "7", "7"},
    {GENERAL, "tcp_keepalives_count", U32, N, "5", "7", "7"},
    {GENERAL, "tcp_so_linger", U64, N, "0", "1", "1"},
    {GENERAL, "tcp_no_delay", BOOL, N, "true", "false", "false"},
    {GENERAL, "tcp_user_timeout", U64, N, "60", "0", "0"},
    {GENERAL, "tcp_socket_buffer_size", BYTES, N, "0", "\"1MB\"", "1048576"},
    {GENERAL, "unix_socket_buffer_size", BYTES, N, "1048576", "\"64K\"", "65536"},
    /* time-outs and the life of connections */
    {GENERAL, "connect_timeout", DURATION, P, "3000", "\"4s\"", "4000"},
    {GENERAL, "query_wait_timeout", DURATION, P, "5000", "6000", "6000"},
    {GENERAL, "idle_timeout", DURATION, P, "600000", "\"1h\"", "3600000"},
    {GENERAL, "server_lifetime", DURATION, P, "1200000", "\"1d\"", "86400000"},
    {GENERAL, "server_idle_check_timeout", DURATION, P, "60000", "0", "0"},
    {GENERAL, "retain_connections_time", DURATION, L, "30000", "\"100ms\"", "100"},
    {GENERAL, "retain_connections_max", USIZE, L, "3", "0", "0"},
    {GENERAL, "shutdown_timeout", DURATION, R, "10000", "\"1m\"", "60000"},
    {GENERAL, "upgrade_mode", STRING, L, "transfer", "\"drain\"", "drain"},
    {GENERAL, "upgrade_ready_timeout", DURATION, L, "10000", "\"1m\"", "60000"},
    {GENERAL, "upgrade_settle_timeout", DURATION, L, "200", "0", "0"},
    {GENERAL, "upgrade_freeze_limit", DURATION, L, "1000", "\"3s\"", "3000"},
    {GENERAL, "upgrade_guard", DURATION, L, "500", "0", "0"},
    {GENERAL, "upgrade_linger", DURATION, L, "", "\"1h\"", "3600000"},
    {GENERAL, "upgrade_incomplete", STRING, L, "drain", "\"abort\"", "abort"},
    {GENERAL, "upgrade_legacy_tls", BOOL, L, "false", "true", "true"},
    {GENERAL, "upgrade_inherited_accounting", STRING, L, "extra", "\"strict\"", "strict"},
    {GENERAL, "proxy_copy_data_timeout", DURATION, L, "15000", "\"1m\"", "60000"},
    /* pools */
    {GENERAL, "max_concurrent_creates", USIZE, P, "4", "1", "1"},
    {GENERAL, "scaling_warm_pool_ratio", U32, P, "20", "0", "0"},
    {GENERAL, "scaling_fast_retries", U32, P, "10", "0", "0"},
    {GENERAL, "scaling_max_parallel_creates", U32, P, "2", "1", "1"},
    {GENERAL, "max_waiters", U32, P, "0", "7", "7"},
    {GENERAL, "shed_expected_timeouts", BOOL, P, "false", "true", "true"},
    {GENERAL, "server_round_robin", BOOL, P, "false", "true", "true"},
    {GENERAL, "sync_server_parameters", BOOL, P, "false", "true", "true"},
    {GENERAL, "prepared_statements", BOOL, P, "true", "false", "false"},
    {GENERAL, "prepared_statements_cache_size", USIZE, P, "8192", "1", "1"},
    {GENERAL, "server_prepared_statements_cache_size", USIZE, P, "", "0", "0"},
    {GENERAL, "client_anonymous_prepared_cache_size", USIZE, N, "", "5", "5"},
    {GENERAL, "query_interner_gc_interval_seconds", U64, R, "60", "1", "1"},
    {GENERAL, "query_interner_anon_idle_ttl_seconds", U64, L, "60", "0", "0"},
    {GENERAL, "message_size_to_be_stream", BYTES, B, "1048576", "2147483647", "2147483647"},
    {GENERAL, "max_memory_usage", BYTES, N, "268435456", "\"1 GB\"", "1073741824"},
    {GENERAL, "pooler_check_query", STRING, L, ";", "\"select 1\"", "select 1"},
    /* process, threads, logging */
    {GENERAL, "worker_threads", USIZE, R, "4", "1", "1"},
    {GENERAL, "worker_cpu_affinity_pinning", BOOL, R, "false", "true", "true"},
    {GENERAL, "worker_stack_size", BYTES, R, "", "\"8MB\"", "8388608"},
    {GENERAL, "max_blocking_threads", USIZE, R, "", "3", "3"},
    {GENERAL, "tokio_global_queue_interval", U32, NONE, "", "0", "0"},
    {GENERAL, "tokio_event_interval", U32, NONE, "", "61", "61"},
    {GENERAL, "daemon_pid_file", STRING, R, "/tmp/pg_doorman.pid", "\"/run/p.pid\"", "/run/p.pid"},
    {GENERAL, "syslog_prog_name", STRING, R, "", "\"pg_doorman\"", "pg_doorman"},
    {GENERAL, "log_client_connections", BOOL, N, "false", "true", "true"},
    {GENERAL, "log_client_disconnections", BOOL, N, "false", "true", "true"},
    /* TLS */
    {GENERAL, "tls_certificate", STRING, R, "", "\"c\"", "!tls_certificate is set but tls_private_key is not"},
    {GENERAL, "tls_private_key", STRING, R, "", "\"k\"", "!tls_private_key is set but tls_certificate is not"},
    {GENERAL, "tls_ca_cert", STRING, R, "", "\"ca\"", "ca"},
    {GENERAL, "tls_mode", STRING, N, "", "\"allow\"", "allow"},
    {GENERAL, "tls_rate_limit_per_second", USIZE, R, "0", "200", "200"},
    {GENERAL, "server_tls_mode", STRING, P, "allow", "\"prefer\"", "prefer"},
    {GENERAL, "server_tls_ca_cert", STRING, P, "", "\"ca\"", "!Failed to read certificate file ca: No such file or directory"},
    {GENERAL, "server_tls_certificate", STRING, P, "", "\"c\"", "!server_tls_certificate is set but server_tls_private_key is not"},
    {GENERAL, "server_tls_private_key", STRING, P, "", "\"k\"", "!server_tls_private_key is set but server_tls_certificate is not"},
    /* Patroni */
    {GENERAL, "patroni_api_urls", LIST, P, "", "[\"http://a:8008\"]", "http://a:8008"},
    {GENERAL, "fallback_cooldown", DURATION, P, "", "\"30s\"", "30000"},
    {GENERAL, "patroni_api_timeout", DURATION, P, "", "5000", "5000"},
    {GENERAL, "fallback_connect_timeout", DURATION, P, "", "\"5s\"", "5000"},
    {GENERAL, "fallback_lifetime", DURATION, P, "", "\"30s\"", "30000"},
    /* access */
    {GENERAL, "admin_username", STRING, L, REQUIRED, "\"root\"", "root"},
    {GENERAL, "admin_password", STRING, L, REQUIRED, "\"x\"", "********"},
    {GENERAL, "hba", CIDRS, L, "", "[\"10.0.0.0/8\", \"fe80::/10\"]", "10.0.0.0/8, fe80::/10"},
    {GENERAL, "pg_hba", HBA, L, "", "\"local all all trust\"", "local all all trust"},
    {GENERAL, "startup_parameters", MAP, P, "", "work_mem", "1MB"},

    {POOL, "server_host", STRING, P, "127.0.0.1", "\"/run/postgresql\"", "/run/postgresql"},
    {POOL, "server_port", U16, P, "5432", "5433", "5433"},
    {POOL, "server_database", STRING, P, "", "\"real\"", "real"},
    {POOL, "pool_mode", POOL_MODE, P, "transaction", "\"session\"", "session"},
    {POOL, "application_name", STRING, P, "", "\"app\"", "app"},
    {POOL, "connect_timeout", MS, P, "", "4000", "4000"},
    {POOL, "idle_timeout", MS, P, "", "0", "0"},
    {POOL, "server_lifetime", MS, P, "", "1000", "1000"},
    {POOL, "cleanup_server_connections", BOOL, P, "true", "false", "false"},
    {POOL, "log_client_parameter_status_changes", BOOL, P, "false", "true", "true"},
    {POOL, "prepared_statements_cache_size", USIZE, P, "", "0", "0"},
    {POOL, "server_prepared_statements_cache_size", USIZE, P, "", "7", "7"},
    {POOL, "scaling_warm_pool_ratio", U32, P, "", "100", "100"},
    {POOL, "scaling_fast_retries", U32, P, "", "0", "0"},
    {POOL, "max_waiters", U32, P, "", "0", "0"},
    {POOL, "max_db_connections", U32, P, "", "100", "100"},
    {POOL, "min_connection_lifetime", MS, P, "30000", "1000", "1000"},
    {POOL, "reserve_pool_size", U32, P, "0", "5", "5"},
    {POOL, "reserve_pool_timeout", MS, P, "3000", "1000", "1000"},
    {POOL, "min_guaranteed_pool_size", U32, P, "0", "2", "2"},
    {POOL, "server_tls_mode", STRING, P, "", "\"REQUIRE\"", "REQUIRE"},
    {POOL, "server_tls_ca_cert", STRING, P, "", "\"ca\"", "!pool 'db': Failed to read certificate file ca"},
    {POOL, "server_tls_certificate", STRING, P, "", "\"c\"", "!pool 'db': server_tls_certificate without server_tls_private_key"},
    {POOL, "server_tls_private_key", STRING, P, "", "\"k\"", "!pool 'db': server_tls_private_key without server_tls_certificate"},
    {POOL, "patroni_api_urls", LIST, P, "", "[\"https://a\", \"http://b/\"]", "https://a, http://b/"},
    {POOL, "fallback_cooldown", DURATION, P, "", "\"30s\"", "30000"},
    {POOL, "patroni_api_timeout", DURATION, P, "", "\"1s\"", "1000"},
    {POOL, "fallback_connect_timeout", DURATION, P, "", "\"1s\"", "1000"},
    {POOL, "fallback_lifetime", DURATION, P, "", "\"1m\"", "60000"},
    {POOL, "startup_parameters", MAP, P, "", "work_mem", "1MB"},

    {USER, "username", STRING, P, REQUIRED, "\"somebody\"", "somebody"},
    {USER, "password", STRING, P, "", "\"" HASH "\"", "********"},
    {USER, "pool_size", U32, P, REQUIRED, "40", "40"},
    {USER, "min_pool_size", U32, P, "", "3", "3"},
    {USER, "pool_mode", POOL_MODE, P, "", "\"Session\"", "session"},
    {USER, "server_lifetime", MS, P, "", "1000", "1000"},
    {USER, "server_username", STRING, P, "", "\"role\"", "role"},
    {USER, "server_password", STRING, P, "", "\"hunter2\"", "!server_password requires server_username to be set"},
    {USER, "auth_pam_service", STRING, P, "", "\"login\"", "login"},

    {LOOKUP, "query", STRING, P, REQUIRED, "\"select $1\"", "select $1"},
    {LOOKUP, "user", STRING, P, REQUIRED, "\"looker\"", "looker"},
    {LOOKUP, "password", STRING, P, "", "\"hunter2\"", "********"},
    {LOOKUP, "database", STRING, P, "", "\"users\"", "users"},
    {LOOKUP, "workers", U32, P, "2", "1", "1"},
    {LOOKUP, "server_user", STRING, P, "", "\"shared\"", "shared"},
    {LOOKUP, "server_password", STRING, P, "", "\"hunter2\"", "!auth_query: server_password requires server_user to be set"},
    {LOOKUP, "pool_size", U32, P, "40", "5", "5"},
    {LOOKUP, "min_pool_size", U32, P, "0", "40", "40"},
    {LOOKUP, "cache_ttl", DURATION, P, "3600000", "\"5m\"", "300000"},
    {LOOKUP, "cache_failure_ttl", DURATION, P, "30000", "\"1s\"", "1000"},
    {LOOKUP, "min_interval", DURATION, P, "1000", "\"0s\"", "0"},

    {WEB, "enabled", BOOL, R, "false", "true", "true"},
    {WEB, "host", STRING, R, "0.0.0.0", "\"127.0.0.1\"", "127.0.0.1"},
    {WEB, "port", U16, R, "9127", "9999", "9999"},
    {WEB, "ui", BOOL, L, "false", "true", "true"},
    {WEB, "ui_anonymous", BOOL, L, "false", "true", "true"},
    {WEB, "log_tap_max_entries", U32, L, "8192", "0", "0"},
    {WEB, "sso_enabled", BOOL, L, "false", "true", "true"},
    {WEB, "sso_proxy_url", STRING, L, "", "\"https://in\"", "https://in"},
    {WEB, "sso_public_key_file", STRING, L, "", "\"key\"", "key"},
    {WEB, "sso_audience", LIST, L, "", "[\"a\", \"b\"]", "a, b"},
    {WEB, "sso_allowed_users", LIST, L, "*", "[\"u\"]", "u"},
    {WEB, "sso_groups_claim", STRING, L, "groups", "\"roles\"", "roles"},
    {WEB, "sso_admin_groups", LIST, L, "", "[\"dba\"]", "dba"},
    {WEB, "sso_require_https", BOOL, L, "false", "true", "true"},
    {WEB, "trusted_proxies", CIDRS, L, "", "[\"10.0.0.0/8\"]", "10.0.0.0/8"},

    {TALOS, "keys", LIST, L, REQUIRED, "[]", ""},
    {TALOS, "databases", LIST, L, REQUIRED, "[\"d\"]", "d"},

    /* Beyond the reference. */
    {GENERAL, "client_login_timeout", DURATION, N, "60000", "\"90s\"", "90000"},
    {GENERAL, "auth_mock", BOOL, N, "true", "false", "false"},
    {POOL, "cleanup_check", STRING, P, "trust", "\"verify\"", "verify"},
    {POOL, "server_reset_query", STRING, P, "", "\"DISCARD ALL\"", "DISCARD ALL"},
    {GENERAL, "drain_idle_clients", BOOL, L, "false", "true", "true"},
    {GENERAL, "client_idle_timeout", DURATION, N, "0", "\"90s\"", "90000"},
    {GENERAL, "idle_transaction_timeout", DURATION, N, "0", "\"90s\"", "90000"},
    {GENERAL, "query_timeout", DURATION, N, "0", "\"90s\"", "90000"},
    {GENERAL, "cancel_on_disconnect", BOOL, B, "true", "false", "false"},
    {GENERAL, "io_engine", STRING, R, "auto", "\"epoll\"", "epoll"},
    {GENERAL, "pg_hba_strict", BOOL, L, "true", "false", "false"},
};

/* What each type refuses, and what it says it wants. */
static const struct {
    enum setting_type type;
    const char *value;
    const char *want;
} refusals[] = {
    {STRING, "5", "expected a string"},
    {STRING, "true", "expected a string"},
    {STRING, "[\"x\"]", "expected a string"},
    {HBA, "5", "expected a string"},
    {HBA, "[\"local all all trust\"]", "expected a string"},
    {BOOL, "\"true\"", "expected a boolean"},
    {BOOL, "1", "expected a boolean"},
    {BOOL, "\"yes\"", "expected a boolean"},
    {U16, "65536", "invalid value: integer `65536`, expected u16"},
    {U16, "-1", "invalid value: integer `-1`, expected u16"},
    {U16, "\"5\"", "invalid type: string \"5\", expected u16"},
    {U16, "5.5", "invalid type: floating point `5.5`, expected u16"},
    {U32, "4294967296", "invalid value: integer `4294967296`, expected u32"},
    {U32, "-1", "invalid value: integer `-1`, expected u32"},
    {U32, "\"5\"", "invalid type: string \"5\", expected u32"},
    {U32, "true", "invalid type: boolean `true`, expected u32"},
    {U64, "-1", "invalid value: integer `-1`, expected u64"},
    {U64, "\"5s\"", "invalid type: string \"5s\", expected u64"},
    {USIZE, "-1", "invalid value: integer `-1`, expected usize"},
    {USIZE, "\"5\"", "invalid type: string \"5\", expected usize"},
    {USIZE, "1.0", "expected usize"},
    {MS, "\"5s\"", "invalid type: string \"5s\", expected u64"},
    {MS, "-1", "invalid value: integer `-1`, expected u64"},
    {MS, "1.5", "invalid type: floating point `1.5`, expected u64"},
    {DURATION, "-1", "duration cannot be negative"},
    {DURATION, "5.5", "expected a duration like '5s', '100ms', '1h', '30m', '1d' or a number in milliseconds"},
    {DURATION, "\"5x\"", "invalid duration format: '5x'. Expected a number or a string with suffix (ms, s, m, h, d)"},
    {DURATION, "\"-5s\"", "invalid number in duration: '-5'"},
    {DURATION, "true", "expected a duration"},
    {BYTES, "-1", "byte size cannot be negative"},
    {BYTES, "\"5TT\"", "invalid byte size format: '5TT'. Expected a number or a string with suffix (B, K, KB, M, MB, G, GB)"},
    {BYTES, "\"5TB\"", "invalid number in byte size: '5T'"},
    {BYTES, "[]", "expected a byte size"},
    {POOL_MODE, "\"statement\"", "unknown variant `statement`"},
    {POOL_MODE, "\"SESSION\"", "unknown variant `SESSION`"},
    {POOL_MODE, "5", "expected a string"},
    {LIST, "\"x\"", "expected a sequence"},
    {LIST, "[5]", "expected a string"},
    {CIDRS, "\"10.0.0.0/8\"", "expected a sequence"},
    {CIDRS, "[\"10.0.0.1\"]", "invalid IP address syntax: \"10.0.0.1\""},
    {MAP, "\"x\"", "expected a map"},
    {MAP, "[\"x\"]", "expected a map"},
};
/* clang-format on */

static const char *const section_keys[] = {
    [SECTION_GENERAL] = "",
    [SECTION_POOL] = "pools.db.",
    [SECTION_USER] = "pools.db.users.0.",
    [SECTION_AUTH_QUERY] = "pools.db.auth_query.",
    [SECTION_WEB] = "web.",
    [SECTION_TALOS] = "talos.",
};

struct document {
    bool yaml;
    size_t len;
    char text[4096];
};

static void put(struct document *d, const char *format, const char *a, const char *b)
{
    d->len += (size_t)snprintf(d->text + d->len, sizeof d->text - d->len, format, a, b);
    INVARIANT(d->len < sizeof d->text);
}

/* What each section must have; the row's own setting, if it is in this section, in place of it. */
static void put_section(struct document *d, const struct reference *row, const char *value,
                        enum setting_section section)
{
    static const struct {
        enum setting_section section;
        const char *name;
        const char *value;
    } needed[] = {
        {SECTION_GENERAL, "admin_username", "\"admin\""},
        {SECTION_GENERAL, "admin_password", "\"s3cret\""},
        {SECTION_USER, "username", "\"u\""},
        {SECTION_USER, "pool_size", "10"},
        {SECTION_AUTH_QUERY, "query", "\"q\""},
        {SECTION_AUTH_QUERY, "user", "\"x\""},
        {SECTION_TALOS, "keys", "[]"},
        {SECTION_TALOS, "databases", "[]"},
    };
    const char *form = d->yaml ? "%s: %s, " : "%s = %s\n";
    bool own = row->section == section && value != NULL;

    for (size_t i = 0; i < COUNT_OF(needed); i++)
        if (needed[i].section == section && !(own && strcmp(needed[i].name, row->name) == 0))
            put(d, form, needed[i].name, needed[i].value);
    if (own)
        put(d, form, row->name, value);
}

/* value NULL: the setting is left out. */
static void write_document(const struct reference *row, const char *value, bool yaml,
                           const char *path)
{
    struct document d = {.yaml = yaml};
    /* Marks between the sections: general, pool, auth_query, user, web, talos, end. */
    static const char *const marks[2][7] = {
        {"[general]\n", "[pools.db]\n", "[pools.db.auth_query]\n", "[[pools.db.users]]\n",
         "[web]\n", "[talos]\n", ""},
        {"general: {", "}\npools: {db: {", "auth_query: {", "}, users: [{", "}]}}\nweb: {",
         "}\ntalos: {", "}\n"},
    };
    static const enum setting_section order[] = {SECTION_GENERAL, SECTION_POOL, SECTION_AUTH_QUERY,
                                                 SECTION_USER,    SECTION_WEB,  SECTION_TALOS};

    for (size_t i = 0; i < COUNT_OF(order); i++) {
        put(&d, "%s%s", marks[yaml][i], "");
        put_section(&d, row, value, order[i]);
    }
    put(&d, "%s%s", marks[yaml][COUNT_OF(order)], "");
    file_write(path, d.text);
}

struct told {
    const char *key;
    char value[256];
    char fallback[256];
    bool found;
};

static void note_row(void *context, const struct setting_row *row)
{
    struct told *told = context;

    if (strcmp(told->key, row->key) != 0)
        return;
    told->found = true;
    snprintf(told->value, sizeof told->value, "%s", row->value);
    snprintf(told->fallback, sizeof told->fallback, "%s", row->fallback);
}

static bool load(const struct reference *row, const char *value, bool yaml, struct told *told,
                 struct failure *why)
{
    const char *path = yaml ? "row.yaml" : "row.toml";
    char key[128];
    struct config *c;

    snprintf(key, sizeof key, "%s%s%s", section_keys[row->section], row->name,
             row->type == MAP ? ".work_mem" : "");
    *told = (struct told){.key = key};
    write_document(row, value, yaml, path);
    if (config_load(&c, path, why) != 0)
        return false;
    config_visit(c, note_row, told);
    config_unref(c);
    told->key = NULL;
    return true;
}

TEST(reference_defaults)
{
    struct failure why;
    struct told told;

    enter_scratch_directory();
    for (size_t i = 0; i < 2 * COUNT_OF(references); i++) {
        const struct reference *row = &references[i / 2];
        bool yaml = i % 2;

        if (strcmp(row->fallback, REQUIRED) == 0 || row->type == MAP)
            continue;
        if (!load(row, NULL, yaml, &told, &why)) {
            unit_fail(__FILE__, __LINE__, "%s: %s", row->name, why.text);
            continue;
        }
        CHECK(told.found, "%s", row->name);
        STR_EQ(told.value, row->fallback, "%s%s", section_keys[row->section], row->name);
        STR_EQ(told.fallback, *row->fallback == '\0' ? "-" : row->fallback, "%s", row->name);
    }
}

TEST(reference_values_are_read)
{
    struct failure why;
    struct told told;

    enter_scratch_directory();
    for (size_t i = 0; i < 2 * COUNT_OF(references); i++) {
        const struct reference *row = &references[i / 2];
        bool yaml = i % 2;
        const char *map = yaml ? "{work_mem: \"1MB\"}" : "{work_mem = \"1MB\"}";

        if (load(row, row->type == MAP ? map : row->sample, yaml, &told, &why)) {
            CHECK(told.found, "%s", row->name);
            STR_EQ(told.value, row->want, "%s%s", section_keys[row->section], row->name);
        } else if (row->want[0] != '!' || strstr(why.text, row->want + 1) == NULL) {
            unit_fail(__FILE__, __LINE__, "%s = %s: %s", row->name, row->sample, why.text);
        }
    }
}

TEST(reference_types_are_refused_in_their_words)
{
    struct failure why;
    struct told told;

    enter_scratch_directory();
    for (size_t i = 0; i < COUNT_OF(references); i++)
        for (size_t j = 0; j < 2 * COUNT_OF(refusals); j++) {
            const struct reference *row = &references[i];
            const char *value = refusals[j / 2].value;

            if (refusals[j / 2].type != row->type)
                continue;
            if (load(row, value, j % 2, &told, &why)) {
                unit_fail(__FILE__, __LINE__, "%s = %s: accepted", row->name, value);
                continue;
            }
            CHECK(strstr(why.text, "Configuration error: Could not merge config: ") == why.text,
                  "%s", why.text);
            CHECK(strstr(why.text, refusals[j / 2].want) != NULL, "%s = %s: %s", row->name, value,
                  why.text);
            CHECK(strstr(why.text, row->name) != NULL, "names the setting: %s", why.text);
        }
}

TEST(reference_and_table_of_settings_agree)
{
    for (size_t i = 0; i < COUNT_OF(references); i++) {
        const struct reference *row = &references[i];
        const struct setting *s = setting_find(row->section, row->name);

        if (s == NULL) {
            unit_fail(__FILE__, __LINE__, "%s is not a setting", row->name);
            continue;
        }
        EQ(s->type, row->type, "%s", row->name);
        EQ(s->reload, row->reload, "%s", row->name);
        EQ((s->flags & SETTING_REQUIRED) != 0, strcmp(row->fallback, REQUIRED) == 0, "%s",
           row->name);
    }
    for (size_t i = 0; i < setting_count; i++) {
        const struct setting *s = &settings[i];
        bool known = s->type == SETTING_SECTION || s->section == SECTION_TOP ||
                     s->section == SECTION_INCLUDE;

        for (size_t j = 0; j < COUNT_OF(references) && !known; j++)
            known = references[j].section == s->section && strcmp(references[j].name, s->name) == 0;
        CHECK(known, "%s.%s needs a row in the table of this test",
              setting_section_name(s->section), s->name);
    }
}

TEST(reference_names_what_cannot_be_changed_while_it_runs)
{
    static const struct {
        enum setting_section section;
        const char *name;
    } rows[] = {{GENERAL, "host"},    {GENERAL, "port"}, {GENERAL, "worker_threads"},
                {GENERAL, "backlog"}, {WEB, "host"},     {GENERAL, "unix_socket_dir"},
                {WEB, "port"}};
    size_t fixed = 0;

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        CHECK((setting_find(rows[i].section, rows[i].name)->flags & SETTING_FIXED) != 0, "%s",
              rows[i].name);
    for (size_t i = 0; i < setting_count; i++)
        fixed += (settings[i].flags & SETTING_FIXED) != 0;
    EQ(fixed, COUNT_OF(rows));
}

TEST(reference_scratch_files_are_removed)
{
    static const char *const files[] = {"row.yaml", "row.toml"};

    leave_scratch_directory(files, COUNT_OF(files));
}
