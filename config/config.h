/* config.h: what the operator asked for, read from YAML or TOML and checked.
 *
 * A `struct config` is immutable after loading and shared by reference count: whoever keeps it
 * across a wait holds a reference. Durations are milliseconds (`_ms`), sizes bytes, unless a name
 * says otherwise. One table (config/settings.c) describes every setting: name, type, place,
 * default, bounds, reload class and help; readers, validation, SHOW CONFIG, `generate` and the
 * documentation walk that table. "Unset" of an inheritable number is SETTING_UNSET. Effective
 * values (pool -> general and so on, spec/config.md 10) are resolved at load into the fields named
 * `effective`, so nobody else needs the rules.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "runtime/base.h"

#define SETTING_UNSET UINT64_MAX

enum pool_mode { POOL_MODE_TRANSACTION, POOL_MODE_SESSION };
enum server_tls_mode {
    SERVER_TLS_DISABLE,
    SERVER_TLS_ALLOW,
    SERVER_TLS_PREFER,
    SERVER_TLS_REQUIRE,
    SERVER_TLS_VERIFY_CA,
    SERVER_TLS_VERIFY_FULL
};
enum client_tls_mode {
    CLIENT_TLS_DISABLE,
    CLIENT_TLS_ALLOW,
    CLIENT_TLS_REQUIRE,
    CLIENT_TLS_VERIFY_FULL
};

struct string_list {
    char **items;
    size_t count;
};
struct pair {
    char *name;
    char *value;
};
struct pair_list { /* canonical names, sorted by name */
    struct pair *items;
    size_t count;
};

/* What a pool object is built from. Equal settings mean that the pool may be kept as it is. */
struct effective {
    enum pool_mode mode;
    uint32_t pool_size;
    uint32_t min_pool_size;
    uint64_t connect_timeout_ms;
    uint64_t query_wait_timeout_ms;
    uint64_t idle_timeout_ms;    /* 0 = never */
    uint64_t server_lifetime_ms; /* 0 = never */
    uint64_t server_idle_check_timeout_ms;
    uint32_t max_concurrent_creates;
    uint32_t scaling_warm_pool_ratio;
    uint32_t scaling_fast_retries;
    uint32_t scaling_max_parallel_creates;
    uint32_t max_waiters;        /* 0 = no limit */
    bool shed_expected_timeouts; /* who could not be served in time is told at once */
    bool server_round_robin;
    bool sync_server_parameters;
    bool cleanup_server_connections;
    bool cleanup_verify;            /* cleanup_check is verify */
    const char *server_reset_query; /* NULL: none */
    bool log_client_parameter_status_changes;
    uint64_t prepared_cache_size;         /* 0 = statements are not cached */
    uint64_t server_prepared_cache_size;  /* per backend */
    uint64_t client_anonymous_cache_size; /* per client; 0 = unlimited */
    const char *server_host;
    uint16_t server_port;
    const char *server_database;
    const char *server_user;
    const char *server_password; /* NULL: pass-through or none */
    const char *application_name;
    struct pair_list startup_parameters; /* general merged with pool */
    enum server_tls_mode server_tls_mode;
    const char *server_tls_ca_cert;
    const char *server_tls_certificate;
    const char *server_tls_private_key;
    uint8_t server_tls_digest[32];       /* of the three files' contents when they were loaded */
    struct string_list patroni_api_urls; /* borrowed; empty: no fallback */
    uint64_t fallback_cooldown_ms;
    uint64_t patroni_api_timeout_ms;
    uint64_t fallback_connect_timeout_ms;
    uint64_t fallback_lifetime_ms;
};

struct user_config {
    char *username;
    char *password; /* "" allowed */
    uint64_t pool_size;
    uint64_t min_pool_size; /* SETTING_UNSET */
    char *pool_mode;        /* NULL: the pool's */
    uint64_t server_lifetime;
    char *server_username; /* NULL: username */
    char *server_password;
    char *auth_pam_service;
    struct effective effective;
};

struct auth_query_config {
    char *query;
    char *user;
    char *password;
    char *database;
    uint64_t workers;
    char *server_user;
    char *server_password;
    uint64_t pool_size;
    uint64_t min_pool_size;
    uint64_t cache_ttl;
    uint64_t cache_failure_ttl;
    uint64_t min_interval;
    /* Dedicated mode: the shared user. Pass-through: a pattern for each user that is found, whose
     * server_user is NULL and to be filled in. */
    struct effective effective;
    struct effective executor; /* of the connections that run the query */
};

/* Fields carry the names of the settings, so that the table reads like the manual. NULL or
 * SETTING_UNSET: not given. */
struct pool_config {
    char *name;
    char *server_host;
    uint64_t server_port;
    char *server_database;
    char *pool_mode;
    char *application_name;
    uint64_t connect_timeout;
    uint64_t idle_timeout;
    uint64_t server_lifetime;
    bool cleanup_server_connections;
    char *cleanup_check;      /* new: trust (default) or verify */
    char *server_reset_query; /* new; NULL: none */
    bool log_client_parameter_status_changes;
    uint64_t prepared_statements_cache_size;
    uint64_t server_prepared_statements_cache_size;
    uint64_t scaling_warm_pool_ratio;
    uint64_t scaling_fast_retries;
    uint64_t max_waiters;        /* new */
    uint64_t max_db_connections; /* 0 or unset: no coordinator */
    uint64_t min_connection_lifetime;
    uint64_t reserve_pool_size;
    uint64_t reserve_pool_timeout;
    uint64_t min_guaranteed_pool_size;
    char *server_tls_mode;
    char *server_tls_ca_cert;
    char *server_tls_certificate;
    char *server_tls_private_key;
    struct string_list patroni_api_urls;
    uint64_t fallback_cooldown;
    uint64_t patroni_api_timeout;
    uint64_t fallback_connect_timeout;
    uint64_t fallback_lifetime;
    struct pair_list startup_parameters;
    struct auth_query_config *auth_query; /* NULL: none */
    struct user_config *users;
    size_t user_count;
};

struct general_config {
    char *host;
    uint64_t port;
    uint64_t backlog;
    uint64_t max_connections;
    char *unix_socket_dir;
    char *unix_socket_mode;
    uint32_t unix_socket_mode_bits; /* derived */
    uint64_t tcp_keepalives_idle;   /* seconds */
    uint64_t tcp_keepalives_interval;
    uint64_t tcp_keepalives_count;
    uint64_t tcp_so_linger; /* seconds */
    bool tcp_no_delay;
    uint64_t tcp_user_timeout; /* seconds */
    uint64_t tcp_socket_buffer_size;
    uint64_t unix_socket_buffer_size;

    uint64_t connect_timeout;
    uint64_t query_wait_timeout;
    uint64_t idle_timeout;
    uint64_t server_lifetime;
    uint64_t server_idle_check_timeout;
    uint64_t retain_connections_time;
    uint64_t retain_connections_max;
    uint64_t shutdown_timeout;
    bool drain_idle_clients; /* new */
    char *upgrade_mode;      /* new; these nine: transfer (default) or drain */
    uint64_t upgrade_ready_timeout;
    uint64_t upgrade_settle_timeout;
    uint64_t upgrade_freeze_limit;
    uint64_t upgrade_guard;
    uint64_t upgrade_linger;  /* SETTING_UNSET: shutdown_timeout */
    char *upgrade_incomplete; /* drain (default) or abort */
    bool upgrade_legacy_tls;
    char *upgrade_inherited_accounting; /* extra (default) or strict */
    uint64_t proxy_copy_data_timeout;
    uint64_t client_idle_timeout;      /* new; these three: 0 = none */
    uint64_t idle_transaction_timeout; /* new */
    uint64_t query_timeout;            /* new */
    bool auth_mock;                    /* new: true; unknown users are asked for a proof */
    bool cancel_on_disconnect;         /* new: true; not behind a Terminate */
    uint64_t client_login_timeout;     /* new: 60s; from accept to AuthenticationOk */

    uint64_t max_concurrent_creates;
    uint64_t scaling_warm_pool_ratio;
    uint64_t scaling_fast_retries;
    uint64_t scaling_max_parallel_creates;
    uint64_t max_waiters;        /* new */
    bool shed_expected_timeouts; /* new */
    bool server_round_robin;
    bool sync_server_parameters;
    bool prepared_statements;
    uint64_t prepared_statements_cache_size;
    uint64_t server_prepared_statements_cache_size;
    uint64_t client_anonymous_prepared_cache_size;
    uint64_t query_interner_gc_interval_seconds;
    uint64_t query_interner_anon_idle_ttl_seconds;
    uint64_t message_size_to_be_stream;
    uint64_t max_memory_usage;
    char *pooler_check_query;

    uint64_t worker_threads;
    bool worker_cpu_affinity_pinning;
    uint64_t worker_stack_size;
    uint64_t max_blocking_threads;
    uint64_t tokio_global_queue_interval;
    uint64_t tokio_event_interval;
    char *daemon_pid_file;
    char *syslog_prog_name;
    bool log_client_connections;
    bool log_client_disconnections;
    char *io_engine; /* new: "auto" (default), "io_uring", "epoll" */

    char *tls_certificate;
    char *tls_private_key;
    char *tls_ca_cert;
    char *tls_mode;
    enum client_tls_mode tls_mode_value; /* derived */
    uint64_t tls_rate_limit_per_second;
    char *server_tls_mode;
    char *server_tls_ca_cert;
    char *server_tls_certificate;
    char *server_tls_private_key;

    struct string_list patroni_api_urls;
    uint64_t fallback_cooldown;
    uint64_t patroni_api_timeout;
    uint64_t fallback_connect_timeout;
    uint64_t fallback_lifetime;

    char *admin_username;
    char *admin_password;
    struct string_list hba;
    char *pg_hba;       /* the rules' text, whatever form they came in; NULL: not given */
    bool pg_hba_strict; /* new: true */
    struct pair_list startup_parameters;
};

struct web_config {
    bool given;
    bool enabled;
    char *host;
    uint64_t port;
    bool ui;
    bool ui_anonymous;
    uint64_t log_tap_max_entries;
    bool sso_enabled;
    char *sso_proxy_url;
    char *sso_public_key_file;
    struct string_list sso_audience;
    struct string_list sso_allowed_users;
    char *sso_groups_claim;
    struct string_list sso_admin_groups;
    bool sso_require_https;
    struct string_list trusted_proxies;
};

struct talos_config {
    bool given;
    struct string_list keys;
    struct string_list databases;
};

struct hba; /* auth/hba.h */

struct config {
    char *path;
    struct general_config general;
    struct web_config web;
    struct talos_config talos;
    struct pool_config *pools; /* sorted by name */
    size_t pool_count;
    struct string_list warnings; /* to be logged once logging is up, and printed by -t */
    struct string_list remarks;  /* the same, at info level */
    uint8_t files_digest[32];    /* contents of client TLS, token and SSO key files */
    struct hba *hba;             /* parsed from pg_hba or hba */
    struct derived **derived_;   /* config_derive() */
    uint32_t references_;
};

/* Reads, merges includes, decodes, validates. Blocking file I/O. On failure -1 and the full text
 * behind "Config parse error: " (spec/config.md 15). The caller gets one reference. */
MUST_CHECK int config_load(struct config **out, const char *path, struct failure *why);
struct config *config_ref(struct config *c); /* thread-safe */
void config_unref(struct config *c);

/* NULL when there is none. Borrowed from the configuration. */
const struct pool_config *config_pool(const struct config *c, const char *database);
const struct user_config *config_user(const struct pool_config *pool, const char *user);
/* Same meaning in every field that a pool is built from? */
bool effective_equal(const struct effective *a, const struct effective *b);
/* Same meaning as a whole (a reload that finds this changes nothing)? */
bool config_equal(const struct config *a, const struct config *b);
/* Do two pools look users up in the same way, and open the same connections for them? Settings
 * that pools take over as they live are not compared. NULL is like nothing. */
bool config_pool_same(const struct pool_config *a, const struct pool_config *b);

/* One row per setting, for SHOW CONFIG, `generate` and the documentation: in the order of the
 * table; value as text in the serialised form (integers), secrets masked as "********". */
struct setting_row {
    const char *key; /* "connect_timeout", "pools.appdb.pool_mode", "web.port" */
    const char *value;
    const char *fallback; /* the default, or "-" */
    bool changeable;
    const char *help;
};
typedef void setting_visitor(void *context, const struct setting_row *row);
void config_visit(const struct config *c, setting_visitor *visit, void *context);

#endif
