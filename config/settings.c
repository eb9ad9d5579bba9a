#include "config/settings.h"

#include "config/include.h"

/* clang-format off */
#define TOP(n, flag, reload, help) \
    {SECTION_TOP, #n, SETTING_SECTION, 0, NULL, flag, 0, 0, NULL, reload, help}
#define ROW(sec, owner, n, type, fallback, flag, reload, help) \
    {sec, #n, type, offsetof(struct owner, n), fallback, flag, 0, 0, NULL, reload, help}
#define LIM(sec, owner, n, type, fallback, least, most, bounds, flag, reload, help) \
    {sec, #n, type, offsetof(struct owner, n), fallback, flag, least, most, bounds, reload, help}
#define GEN(n, ...)     ROW(SECTION_GENERAL, general_config, n, __VA_ARGS__)
#define GEN_LIM(n, ...) LIM(SECTION_GENERAL, general_config, n, __VA_ARGS__)
#define POOL(n, ...)     ROW(SECTION_POOL, pool_config, n, __VA_ARGS__)
#define POOL_LIM(n, ...) LIM(SECTION_POOL, pool_config, n, __VA_ARGS__)
#define USER(n, ...)     ROW(SECTION_USER, user_config, n, __VA_ARGS__)
#define USER_LIM(n, ...) LIM(SECTION_USER, user_config, n, __VA_ARGS__)
#define AUTH(n, ...)     ROW(SECTION_AUTH_QUERY, auth_query_config, n, __VA_ARGS__)
#define AUTH_LIM(n, ...) LIM(SECTION_AUTH_QUERY, auth_query_config, n, __VA_ARGS__)
#define WEB(n, ...)   ROW(SECTION_WEB, web_config, n, __VA_ARGS__)
#define TALOS(n, ...) ROW(SECTION_TALOS, talos_config, n, __VA_ARGS__)
#define PART(sec, n, reload, help) {sec, n, SETTING_SECTION, 0, NULL, 0, 0, 0, NULL, reload, help}

const struct setting settings[] = {
    TOP(general, SETTING_REQUIRED, RELOAD_LIVE, "Settings of the whole process."),
    TOP(pools, SETTING_REQUIRED, RELOAD_POOL, "Virtual databases by the name that clients ask for."),
    TOP(web, 0, RELOAD_LIVE, "HTTP listener: metrics, web console and its API."),
    TOP(talos, 0, RELOAD_LIVE, "Token login with roles per database."),
    TOP(include, 0, RELOAD_LIVE, "Further files to read."),
    TOP(path, 0, RELOAD_NEVER, "Ignored; the real file name is used."),

    {SECTION_INCLUDE, "files", SETTING_LIST, offsetof(struct include_config, files), NULL, 0, 0, 0, NULL, RELOAD_LIVE,
     "Names of files that are merged over this one, in this order. Relative to the working directory."},

    GEN(host, SETTING_STRING, "0.0.0.0", SETTING_FIXED, RELOAD_RESTART,
        "Address or name to listen on for TCP. IPv6 in brackets: \"[::]\"."),
    GEN(port, SETTING_U16, "5432", SETTING_FIXED, RELOAD_RESTART,
        "TCP port; also part of the Unix socket's file name."),
    GEN(backlog, SETTING_U32, "0", SETTING_FIXED, RELOAD_RESTART,
        "Queue of connections that the kernel holds for the TCP listener. 0: as many as max_connections."),
    GEN(max_connections, SETTING_U64, "8192", 0, RELOAD_CLIENT,
        "Client connections at once, over all listeners."),
    GEN(unix_socket_dir, SETTING_STRING, NULL, SETTING_FIXED, RELOAD_RESTART,
        "Directory in which to listen on .s.PGSQL.<port> as well. Unset: TCP only."),
    GEN(unix_socket_mode, SETTING_STRING, "0600", 0, RELOAD_RESTART,
        "Permission bits of that socket, in octal."),
    GEN(tcp_keepalives_idle, SETTING_U64, "5", 0, RELOAD_CLIENT,
        "Seconds of silence before the first TCP keepalive probe."),
    GEN(tcp_keepalives_interval, SETTING_U64, "5", 0, RELOAD_CLIENT, "Seconds between probes."),
    GEN(tcp_keepalives_count, SETTING_U32, "5", 0, RELOAD_CLIENT,
        "Unanswered probes until the connection counts as dead."),
    GEN(tcp_so_linger, SETTING_U64, "0", 0, RELOAD_CLIENT,
        "Seconds that closing a socket may linger. 0: close at once, with a reset."),
    GEN(tcp_no_delay, SETTING_BOOL, "true", 0, RELOAD_CLIENT,
        "Send small packets at once (TCP_NODELAY)."),
    GEN(tcp_user_timeout, SETTING_U64, "60", 0, RELOAD_CLIENT,
        "Seconds that sent data may stay unacknowledged. 0: the kernel's default."),
    GEN(tcp_socket_buffer_size, SETTING_BYTES, "0", 0, RELOAD_CLIENT,
        "Kernel send and receive buffer of each TCP socket. 0: the kernel tunes it."),
    GEN(unix_socket_buffer_size, SETTING_BYTES, "1MB", 0, RELOAD_CLIENT,
        "The same for Unix sockets."),

    GEN(connect_timeout, SETTING_DURATION, "3s", 0, RELOAD_POOL,
        "Limit for opening a backend connection, TLS and login included, and for probing an idle one."),
    GEN(query_wait_timeout, SETTING_DURATION, "5s", 0, RELOAD_POOL,
        "How long a client may wait for a backend."),
    GEN(idle_timeout, SETTING_DURATION, "10m", 0, RELOAD_POOL,
        "Idle backends that were used before are closed after this, give or take a fifth. 0: never."),
    GEN(server_lifetime, SETTING_DURATION, "20m", 0, RELOAD_POOL,
        "Backends older than this are closed when idle, give or take a fifth. 0: never."),
    GEN(server_idle_check_timeout, SETTING_DURATION, "60s", 0, RELOAD_POOL,
        "A backend that was idle longer is probed before it is handed out. 0: no probe."),
    GEN_LIM(retain_connections_time, SETTING_DURATION, "30s", 1, 0, "must be > 0", 0, RELOAD_LIVE,
        "Period of housekeeping: closing expired backends, refilling pools to their minimum."),
    GEN(retain_connections_max, SETTING_USIZE, "3", 0, RELOAD_LIVE,
        "Expired backends closed per round of housekeeping, over all pools. 0: no limit."),
    GEN(shutdown_timeout, SETTING_DURATION, "10s", 0, RELOAD_RESTART,
        "How long a process that drains waits for its clients."),
    GEN(drain_idle_clients, SETTING_BOOL, "false", 0, RELOAD_LIVE,
        "When a drain begins, end clients outside of transactions at once, not at their next message."),
    GEN(upgrade_mode, SETTING_STRING, "transfer", 0, RELOAD_LIVE,
        "What a hot upgrade hands over. transfer: all clients, whatever they are doing, and their backends. drain: clients outside of transactions; the others when theirs has ended."),
    GEN_LIM(upgrade_ready_timeout, SETTING_DURATION, "10s", 1, 0, "must be > 0", 0, RELOAD_LIVE,
        "How long the new process of a hot upgrade may take from its start until it is ready."),
    GEN(upgrade_settle_timeout, SETTING_DURATION, "200ms", 0, RELOAD_LIVE,
        "How long a hot upgrade waits for logins that are under way before the freeze. 0: not at all."),
    GEN_LIM(upgrade_freeze_limit, SETTING_DURATION, "1s", 1, 0, "must be > 0", 0, RELOAD_LIVE,
        "How long the freeze of a hot upgrade may last; beyond that the old process goes on."),
    GEN(upgrade_guard, SETTING_DURATION, "500ms", 0, RELOAD_LIVE,
        "How long after a hot upgrade the old process keeps the listening sockets, to serve again should the new one die."),
    GEN(upgrade_linger, SETTING_DURATION, NULL, 0, RELOAD_LIVE,
        "How long the old process of a hot upgrade serves clients that could not move yet. Unset: shutdown_timeout."),
    GEN(upgrade_incomplete, SETTING_STRING, "drain", 0, RELOAD_LIVE,
        "A hot upgrade finds clients that cannot move at that moment. drain: they follow later. abort: it is given up."),
    GEN(upgrade_legacy_tls, SETTING_BOOL, "false", 0, RELOAD_LIVE,
        "Hand clients with TLS to a successor of version 3.10, too. No effect yet: such clients stay until they leave."),
    GEN(upgrade_inherited_accounting, SETTING_STRING, "extra", 0, RELOAD_LIVE,
        "Do backends that a hot upgrade brings along in the middle of a transaction count against pool_size? extra: not until they come back. strict: at once."),
    GEN(proxy_copy_data_timeout, SETTING_DURATION, "15s", 0, RELOAD_LIVE,
        "Limit for passing one oversized backend message on to a client."),
    GEN(client_idle_timeout, SETTING_DURATION, "0", 0, RELOAD_CLIENT,
        "A client that is silent this long outside of transactions is ended. 0: no limit."),
    GEN(idle_transaction_timeout, SETTING_DURATION, "0", 0, RELOAD_CLIENT,
        "A client that is silent this long inside of a transaction is ended. 0: no limit."),
    GEN(query_timeout, SETTING_DURATION, "0", 0, RELOAD_CLIENT,
        "A query that runs this long is cancelled. 0: no limit."),
    GEN(cancel_on_disconnect, SETTING_BOOL, "true", 0, RELOAD_BACKEND,
        "Cancel the statement that a client leaves running when it vanishes without saying goodbye."),
    GEN(client_login_timeout, SETTING_DURATION, "60s", 0, RELOAD_CLIENT,
        "A client must have logged in this long after it connected. 0: no limit."),
    GEN(auth_mock, SETTING_BOOL, "true", 0, RELOAD_CLIENT,
        "Ask for a password in the name of users whom auth_query does not find, as of all others."),

    GEN_LIM(max_concurrent_creates, SETTING_USIZE, "4", 1, 0, "must be > 0", 0, RELOAD_POOL,
        "Backend connections that one pool opens at the same time."),
    GEN_LIM(scaling_warm_pool_ratio, SETTING_U32, "20", 0, 100, "must be 0-100", 0, RELOAD_POOL,
        "Percentage of pool_size below which a missing backend is opened without waiting for a returned one."),
    GEN(scaling_fast_retries, SETTING_U32, "10", 0, RELOAD_POOL,
        "Quick looks for a returned backend before waiting for one begins."),
    GEN_LIM(scaling_max_parallel_creates, SETTING_U32, "2", 1, 0, "must be >= 1", 0, RELOAD_POOL,
        "Backend connections that waiting clients may start at the same time, per pool."),
    GEN(max_waiters, SETTING_U32, "0", 0, RELOAD_POOL,
        "Clients that may wait for a busy backend, per pool; others are refused at once. 0: any number."),
    GEN(shed_expected_timeouts, SETTING_BOOL, "false", 0, RELOAD_POOL,
        "Refuse a client at once that would, as backends come back now, wait longer than query_wait_timeout."),
    GEN(server_round_robin, SETTING_BOOL, "false", 0, RELOAD_POOL,
        "Use idle backends in turn instead of the most recently returned first."),
    GEN(sync_server_parameters, SETTING_BOOL, "false", 0, RELOAD_POOL,
        "Before each transaction, bring the backend's session parameters in line with the client's."),
    GEN(prepared_statements, SETTING_BOOL, "true", 0, RELOAD_POOL,
        "Let prepared statements work in transaction mode."),
    GEN(prepared_statements_cache_size, SETTING_USIZE, "8192", 0, RELOAD_POOL,
        "Distinct statements that a pool remembers."),
    GEN(server_prepared_statements_cache_size, SETTING_USIZE, NULL, 0, RELOAD_POOL,
        "Statements kept prepared on each backend. Unset: the pool's size; 0: none."),
    GEN(client_anonymous_prepared_cache_size, SETTING_USIZE, NULL, 0, RELOAD_CLIENT,
        "Unnamed statements remembered per client. Unset: the pool's size; 0: without limit."),
    GEN_LIM(query_interner_gc_interval_seconds, SETTING_U64, "60", 1, 0, "must be > 0", 0, RELOAD_RESTART,
        "Seconds between collections of query texts that nobody uses."),
    GEN(query_interner_anon_idle_ttl_seconds, SETTING_U64, "60", 0, RELOAD_LIVE,
        "Seconds after which the text of an unused unnamed statement may go. 0: kept for ever."),
    GEN(message_size_to_be_stream, SETTING_BYTES, "1MB", 0, RELOAD_BACKEND,
        "Backend messages larger than this are passed on in pieces instead of being held whole."),
    GEN(max_memory_usage, SETTING_BYTES, "256MB", 0, RELOAD_CLIENT,
        "Memory for client messages that are being read, over all clients."),
    GEN(pooler_check_query, SETTING_STRING, ";", 0, RELOAD_LIVE,
        "This exact simple query is answered from a cache, as health checks send it."),

    GEN_LIM(worker_threads, SETTING_USIZE, "4", 1, 0, "must be > 0", SETTING_FIXED, RELOAD_RESTART,
        "Threads that serve clients."),
    GEN(worker_cpu_affinity_pinning, SETTING_BOOL, "false", 0, RELOAD_RESTART,
        "Bind each worker thread to a CPU."),
    GEN(worker_stack_size, SETTING_BYTES, NULL, 0, RELOAD_RESTART, "Stack of a worker thread."),
    GEN(max_blocking_threads, SETTING_USIZE, NULL, 0, RELOAD_RESTART,
        "Most helper threads for work that blocks, such as PAM."),
    GEN(tokio_global_queue_interval, SETTING_U32, NULL, 0, RELOAD_NEVER,
        "Accepted for old files; has no effect."),
    GEN(tokio_event_interval, SETTING_U32, NULL, 0, RELOAD_NEVER,
        "Accepted for old files; has no effect."),
    GEN(daemon_pid_file, SETTING_STRING, "/tmp/pg_doorman.pid", 0, RELOAD_RESTART,
        "File for the process id, written with --daemon only."),
    GEN(syslog_prog_name, SETTING_STRING, NULL, 0, RELOAD_RESTART,
        "Log to syslog under this name instead of stderr."),
    GEN(log_client_connections, SETTING_BOOL, "false", 0, RELOAD_CLIENT,
        "Log a line for each client that logs in."),
    GEN(log_client_disconnections, SETTING_BOOL, "false", 0, RELOAD_CLIENT,
        "Log a line for each client that leaves."),
    GEN(io_engine, SETTING_STRING, "auto", 0, RELOAD_RESTART,
        "How the kernel is asked for I/O: auto, io_uring or epoll."),

    GEN(tls_certificate, SETTING_STRING, NULL, 0, RELOAD_RESTART,
        "PEM file with the certificate chain shown to clients. Turns TLS on, together with the key."),
    GEN(tls_private_key, SETTING_STRING, NULL, 0, RELOAD_RESTART, "PEM file with its private key."),
    GEN(tls_ca_cert, SETTING_STRING, NULL, 0, RELOAD_RESTART,
        "PEM file with the authority that signs client certificates."),
    GEN(tls_mode, SETTING_STRING, NULL, 0, RELOAD_CLIENT,
        "disable, allow (the default), require, or verify-full: also demand a client certificate."),
    GEN(tls_rate_limit_per_second, SETTING_USIZE, "0", 0, RELOAD_RESTART,
        "TLS handshakes per second, a multiple of 100. 0: no limit."),
    GEN(server_tls_mode, SETTING_STRING, "allow", 0, RELOAD_POOL,
        "TLS towards PostgreSQL: disable, allow, prefer, require, verify-ca or verify-full."),
    GEN(server_tls_ca_cert, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "PEM bundle that PostgreSQL's certificate is verified against."),
    GEN(server_tls_certificate, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "PEM file with the certificate shown to PostgreSQL."),
    GEN(server_tls_private_key, SETTING_STRING, NULL, 0, RELOAD_POOL, "PEM file with its private key."),

    GEN(patroni_api_urls, SETTING_LIST, NULL, 0, RELOAD_POOL,
        "Base URLs of the Patroni API, for finding another backend when the usual one is down."),
    GEN(fallback_cooldown, SETTING_DURATION, NULL, 0, RELOAD_POOL,
        "How long the usual backend is left alone after a failed connect. Unset: 30s."),
    GEN(patroni_api_timeout, SETTING_DURATION, NULL, 0, RELOAD_POOL,
        "Limit for one call of the Patroni API. Unset: 5s."),
    GEN(fallback_connect_timeout, SETTING_DURATION, NULL, 0, RELOAD_POOL,
        "Limit for connecting to one fallback candidate. Unset: 5s."),
    GEN(fallback_lifetime, SETTING_DURATION, NULL, 0, RELOAD_POOL,
        "Lifetime of connections to a fallback. Unset: as fallback_cooldown."),

    GEN(admin_username, SETTING_STRING, NULL, SETTING_REQUIRED, RELOAD_LIVE,
        "Who may use the admin databases pgdoorman and pgbouncer, and the web console."),
    GEN(admin_password, SETTING_STRING, NULL, SETTING_REQUIRED | SETTING_SECRET, RELOAD_LIVE,
        "Password of the admin. The web console stays closed while it is empty or \"admin\"."),
    GEN(hba, SETTING_CIDR_LIST, NULL, 0, RELOAD_LIVE,
        "Networks from which TCP clients may connect. Empty: all. Not together with pg_hba."),
    GEN(pg_hba, SETTING_HBA, NULL, 0, RELOAD_LIVE,
        "Access rules as in pg_hba.conf: text, or a table with path or content."),
    GEN(pg_hba_strict, SETTING_BOOL, "true", 0, RELOAD_LIVE,
        "Evaluate pg_hba as PostgreSQL does: the first matching rule decides. false: as 3.10 did."),
    GEN(startup_parameters, SETTING_MAP, NULL, 0, RELOAD_POOL,
        "PostgreSQL settings that each backend connection starts with."),

    POOL(server_host, SETTING_STRING, "127.0.0.1", 0, RELOAD_POOL,
        "Where PostgreSQL is: name, address (IPv6 in brackets), or directory of its Unix socket."),
    POOL(server_port, SETTING_U16, "5432", 0, RELOAD_POOL, "Port of PostgreSQL."),
    POOL(server_database, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "Name of the database there. Unset: the pool's name."),
    POOL(pool_mode, SETTING_POOL_MODE, "transaction", 0, RELOAD_POOL,
        "When a backend is given back: after the transaction, or after the session."),
    POOL(application_name, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "Name under which PostgreSQL shows the connections. Unset: pg_doorman."),
    POOL(connect_timeout, SETTING_MS, NULL, 0, RELOAD_POOL,
        "As in general, for this pool; a number of milliseconds."),
    POOL(idle_timeout, SETTING_MS, NULL, 0, RELOAD_POOL,
        "As in general, for this pool; a number of milliseconds."),
    POOL(server_lifetime, SETTING_MS, NULL, 0, RELOAD_POOL,
        "As in general, for this pool; a number of milliseconds."),
    POOL(cleanup_server_connections, SETTING_BOOL, "true", 0, RELOAD_POOL,
        "Reset what a client left in the session before the next one gets the backend."),
    POOL(cleanup_check, SETTING_STRING, "trust", 0, RELOAD_POOL,
        "trust: clean what statements say they leave. verify: after each transaction also ask PostgreSQL what functions have left."),
    POOL(server_reset_query, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "SQL that each backend runs when a client gives it back, such as DISCARD ALL. Unset: only what is needed."),
    POOL(log_client_parameter_status_changes, SETTING_BOOL, "false", 0, RELOAD_POOL,
        "Log a line when a reported parameter changes."),
    POOL(prepared_statements_cache_size, SETTING_USIZE, NULL, 0, RELOAD_POOL,
        "As in general, for this pool."),
    POOL(server_prepared_statements_cache_size, SETTING_USIZE, NULL, 0, RELOAD_POOL,
        "As in general, for this pool."),
    POOL_LIM(scaling_warm_pool_ratio, SETTING_U32, NULL, 0, 100, "must be 0-100", 0, RELOAD_POOL,
        "As in general, for this pool."),
    POOL(scaling_fast_retries, SETTING_U32, NULL, 0, RELOAD_POOL, "As in general, for this pool."),
    POOL(max_waiters, SETTING_U32, NULL, 0, RELOAD_POOL, "As in general, for this pool."),
    POOL(max_db_connections, SETTING_U32, NULL, 0, RELOAD_POOL,
        "Backends of all users of this pool together. Unset or 0: no cap."),
    POOL(min_connection_lifetime, SETTING_MS, "30000", 0, RELOAD_POOL,
        "Under the cap, a backend younger than this many milliseconds is not taken from its user."),
    POOL(reserve_pool_size, SETTING_U32, "0", 0, RELOAD_POOL, "Backends allowed above the cap."),
    POOL(reserve_pool_timeout, SETTING_MS, "3000", 0, RELOAD_POOL,
        "Longest wait for room under the cap, in milliseconds."),
    POOL(min_guaranteed_pool_size, SETTING_U32, "0", 0, RELOAD_POOL,
        "Backends per user that others cannot take away."),
    POOL(server_tls_mode, SETTING_STRING, NULL, 0, RELOAD_POOL, "As in general, for this pool."),
    POOL(server_tls_ca_cert, SETTING_STRING, NULL, 0, RELOAD_POOL, "As in general, for this pool."),
    POOL(server_tls_certificate, SETTING_STRING, NULL, 0, RELOAD_POOL, "As in general, for this pool."),
    POOL(server_tls_private_key, SETTING_STRING, NULL, 0, RELOAD_POOL, "As in general, for this pool."),
    POOL(patroni_api_urls, SETTING_LIST, NULL, 0, RELOAD_POOL, "As in general, for this pool."),
    POOL_LIM(fallback_cooldown, SETTING_DURATION, NULL, 1, 0, "must be > 0", 0, RELOAD_POOL,
        "As in general, for this pool."),
    POOL_LIM(patroni_api_timeout, SETTING_DURATION, NULL, 1, 0, "must be > 0", 0, RELOAD_POOL,
        "As in general, for this pool."),
    POOL_LIM(fallback_connect_timeout, SETTING_DURATION, NULL, 1, 0, "must be > 0", 0, RELOAD_POOL,
        "As in general, for this pool."),
    POOL_LIM(fallback_lifetime, SETTING_DURATION, NULL, 1, 0, "must be > 0", 0, RELOAD_POOL,
        "As in general, for this pool."),
    POOL(startup_parameters, SETTING_MAP, NULL, 0, RELOAD_POOL,
        "As in general; merged over it, name by name."),
    PART(SECTION_POOL, "auth_query", RELOAD_POOL, "Looks users up in PostgreSQL."),
    PART(SECTION_POOL, "users", RELOAD_POOL, "Users written down here."),

    USER(username, SETTING_STRING, NULL, SETTING_REQUIRED, RELOAD_POOL,
        "Name that the client logs in with."),
    USER(password, SETTING_STRING, "", SETTING_SECRET, RELOAD_POOL,
        "SCRAM-SHA-256 secret (best), md5 hash, plain text, or jwt-pkey-fpath: and the path of a public key."),
    USER_LIM(pool_size, SETTING_U32, NULL, 1, 0, "must be > 0", SETTING_REQUIRED, RELOAD_POOL,
        "Most backends for this user in this pool."),
    USER(min_pool_size, SETTING_U32, NULL, 0, RELOAD_POOL, "Backends kept open at least."),
    USER(pool_mode, SETTING_POOL_MODE, NULL, 0, RELOAD_POOL, "As in the pool, for this user."),
    USER(server_lifetime, SETTING_MS, NULL, 0, RELOAD_POOL,
        "As in the pool, for this user; a number of milliseconds."),
    USER(server_username, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "Role to use in PostgreSQL. Unset: username."),
    USER(server_password, SETTING_STRING, NULL, SETTING_SECRET, RELOAD_POOL,
        "Password of that role, or jwt-priv-key-fpath: and the path of a private key to sign tokens with."),
    USER(auth_pam_service, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "Check the client's password with this PAM service."),

    AUTH(query, SETTING_STRING, NULL, SETTING_REQUIRED, RELOAD_POOL,
        "Query that finds a user's secret; $1 is the name."),
    AUTH(user, SETTING_STRING, NULL, SETTING_REQUIRED, RELOAD_POOL, "Role that runs the query."),
    AUTH(password, SETTING_STRING, "", SETTING_SECRET, RELOAD_POOL, "Its password."),
    AUTH(database, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "Database in which to run it. Unset: server_database, then the pool's name."),
    AUTH_LIM(workers, SETTING_U32, "2", 1, 0, "must be > 0", 0, RELOAD_POOL,
        "Connections for running it."),
    AUTH(server_user, SETTING_STRING, NULL, 0, RELOAD_POOL,
        "Role shared by all users found. Unset: each user connects as himself."),
    AUTH(server_password, SETTING_STRING, NULL, SETTING_SECRET, RELOAD_POOL, "Password of that role."),
    AUTH_LIM(pool_size, SETTING_U32, "40", 1, 0, "must be > 0", 0, RELOAD_POOL,
        "Most backends of the shared role, or of each user found."),
    AUTH(min_pool_size, SETTING_U32, "0", 0, RELOAD_POOL, "Backends kept open per user found."),
    AUTH(cache_ttl, SETTING_DURATION, "1h", 0, RELOAD_POOL, "How long an answer is remembered."),
    AUTH(cache_failure_ttl, SETTING_DURATION, "30s", 0, RELOAD_POOL,
        "How long the answer \"no such user\" is remembered."),
    AUTH(min_interval, SETTING_DURATION, "1s", 0, RELOAD_POOL,
        "Least time between two queries for one name after a failed login."),

    WEB(enabled, SETTING_BOOL, "false", 0, RELOAD_RESTART, "Open the HTTP listener."),
    WEB(host, SETTING_STRING, "0.0.0.0", SETTING_FIXED, RELOAD_RESTART,
        "Address to listen on; no names. IPv6 in brackets."),
    WEB(port, SETTING_U16, "9127", SETTING_FIXED, RELOAD_RESTART, "Port to listen on."),
    WEB(ui, SETTING_BOOL, "false", 0, RELOAD_LIVE,
        "Serve the web console and its API. Needs a real admin_password."),
    WEB(ui_anonymous, SETTING_BOOL, "false", 0, RELOAD_LIVE, "Let everyone read without login."),
    WEB(log_tap_max_entries, SETTING_U32, "8192", 0, RELOAD_LIVE,
        "Log lines kept for the console. 0: none."),
    WEB(sso_enabled, SETTING_BOOL, "false", 0, RELOAD_LIVE, "Accept signed tokens for login."),
    WEB(sso_proxy_url, SETTING_STRING, NULL, 0, RELOAD_LIVE, "Where to send people to sign in."),
    WEB(sso_public_key_file, SETTING_STRING, NULL, 0, RELOAD_LIVE,
        "PEM file with the public key that tokens are checked with."),
    WEB(sso_audience, SETTING_LIST, NULL, 0, RELOAD_LIVE, "Accepted audiences."),
    WEB(sso_allowed_users, SETTING_LIST, "*", 0, RELOAD_LIVE, "Accepted users; * for all."),
    WEB(sso_groups_claim, SETTING_STRING, "groups", 0, RELOAD_LIVE, "Claim that lists the groups."),
    WEB(sso_admin_groups, SETTING_LIST, NULL, 0, RELOAD_LIVE, "Groups that make their members admin."),
    WEB(sso_require_https, SETTING_BOOL, "false", 0, RELOAD_LIVE,
        "Refuse tokens unless a trusted proxy says that the client came by https."),
    WEB(trusted_proxies, SETTING_CIDR_LIST, NULL, 0, RELOAD_LIVE,
        "Networks whose forwarding headers are believed."),

    TALOS(keys, SETTING_LIST, NULL, SETTING_REQUIRED, RELOAD_LIVE,
        "PEM files with public keys; the file's base name is the key id."),
    TALOS(databases, SETTING_LIST, NULL, SETTING_REQUIRED, RELOAD_LIVE,
        "Resource names whose roles count."),
};
/* clang-format on */
const size_t setting_count = COUNT_OF(settings);

const struct setting_alias setting_aliases[] = {
    {SECTION_TOP, "prometheus", "web", false},
    {SECTION_GENERAL, "client_prepared_statements_cache_size",
     "client_anonymous_prepared_cache_size", true},
};
const size_t setting_alias_count = COUNT_OF(setting_aliases);

const struct setting_alias *setting_find_alias(enum setting_section section, const char *alias)
{
    for (size_t i = 0; i < setting_alias_count; i++)
        if (setting_aliases[i].section == section && strcmp(setting_aliases[i].alias, alias) == 0)
            return &setting_aliases[i];
    return NULL;
}

const struct setting *setting_find(enum setting_section section, const char *name)
{
    const struct setting_alias *alias = setting_find_alias(section, name);

    if (alias != NULL)
        name = alias->name;
    for (size_t i = 0; i < setting_count; i++)
        if (settings[i].section == section && strcmp(settings[i].name, name) == 0)
            return &settings[i];
    return NULL;
}

const char *setting_section_name(enum setting_section section)
{
    switch (section) {
    case SECTION_TOP: return "top level";
    case SECTION_INCLUDE: return "include";
    case SECTION_GENERAL: return "general";
    case SECTION_POOL: return "pools.NAME";
    case SECTION_USER: return "pools.NAME.users";
    case SECTION_AUTH_QUERY: return "pools.NAME.auth_query";
    case SECTION_WEB: return "web";
    case SECTION_TALOS: return "talos";
    }
    return "";
}

const char *setting_type_name(enum setting_type type)
{
    switch (type) {
    case SETTING_STRING:
    case SETTING_HBA: return "a string";
    case SETTING_BOOL: return "a boolean";
    case SETTING_U16: return "u16";
    case SETTING_U32: return "u32";
    case SETTING_U64: return "u64";
    case SETTING_MS: return "u64 (milliseconds, without a unit)";
    case SETTING_USIZE: return "usize";
    case SETTING_DURATION:
        return "a duration like '5s', '100ms', '1h', '30m', '1d' or a number in milliseconds";
    case SETTING_BYTES: return "a byte size like '1MB', '256KB', '1G' or a number in bytes";
    case SETTING_POOL_MODE: return "enum PoolMode";
    case SETTING_LIST:
    case SETTING_CIDR_LIST: return "a sequence";
    case SETTING_MAP:
    case SETTING_SECTION: return "a map";
    }
    return "";
}
