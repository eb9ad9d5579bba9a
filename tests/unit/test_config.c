/* Every fragment of the reference, as it must be read or refused, in both formats. */
#include "tests/unit/config_rows.h"

/* clang-format off */
/* Long values, by length. */
#define I_X "x"
#define D_X "xxxxxxxxxx"
#define C_X D_X D_X D_X D_X D_X D_X D_X D_X D_X D_X
#define K_X C_X C_X C_X C_X C_X C_X C_X C_X C_X C_X
#define I_U "u"
#define D_U "uuuuuuuuuu"
#define C_U D_U D_U D_U D_U D_U D_U D_U D_U D_U D_U
#define K_U C_U C_U C_U C_U C_U C_U C_U C_U C_U C_U
#define I_D "d"
#define D_D "dddddddddd"
#define C_D D_D D_D D_D D_D D_D D_D D_D D_D D_D D_D
#define K_D C_D C_D C_D C_D C_D C_D C_D C_D C_D C_D
#define DS_480 C_D C_D C_D C_D D_D D_D D_D D_D D_D D_D D_D D_D
#define US_600 C_U C_U C_U C_U C_U C_U
#define XS_5000 K_X K_X K_X K_X K_X
#define XS_9400 K_X K_X K_X K_X K_X K_X K_X K_X K_X C_X C_X C_X C_X
#define XS_9480 K_X K_X K_X K_X K_X K_X K_X K_X K_X C_X C_X C_X C_X D_X D_X D_X D_X D_X D_X D_X D_X
#define XS_9485 K_X K_X K_X K_X K_X K_X K_X K_X K_X C_X C_X C_X C_X D_X D_X D_X D_X D_X D_X D_X D_X I_X I_X I_X I_X I_X
#define XS_9486 K_X K_X K_X K_X K_X K_X K_X K_X K_X C_X C_X C_X C_X D_X D_X D_X D_X D_X D_X D_X D_X I_X I_X I_X I_X I_X I_X

/* First, while the working directory is still that of the sources. */
TEST(config_loads_the_examples)
{
    static const char *const paths[] = {"examples/pg_doorman.yaml", "examples/pg_doorman.toml"};
    struct config *loaded[COUNT_OF(paths)] = {NULL};
    struct failure why = {""};

    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        if (config_load(&loaded[i], paths[i], &why) != 0) {
            unit_fail(__FILE__, __LINE__, "%s: %s", paths[i], why.text);
            return;
        }
        EQ(loaded[i]->warnings.count, 0, "%s", paths[i]);
    }
    CHECK(config_equal(loaded[0], loaded[1]), "both formats say the same");
    config_unref(loaded[0]);
    config_unref(loaded[1]);
}

TEST(config_types_are_strict)
{
    static const struct config_row rows[] = {
        {"host \"[::]\"", IN_GENERAL, "  host: \"[::]\"\n", "host = \"[::]\"\n", "host=[::]"},
        {"host 5", IN_GENERAL, "  host: 5\n", "host = 5\n", "!Could not merge config: invalid type: integer `5`, expected a string (general.host, row."},
        {"port 6432", IN_GENERAL, "  port: 6432\n", "port = 6432\n", "port=6432"},
        {"port 70000", IN_GENERAL, "  port: 70000\n", "port = 70000\n", "!invalid value: integer `70000`, expected u16"},
        {"port -1", IN_GENERAL, "  port: -1\n", "port = -1\n", "!invalid value: integer `-1`, expected u16"},
        {"port \"x\"", IN_GENERAL, "  port: \"x\"\n", "port = \"x\"\n", "!invalid type: string \"x\", expected u16"},
        {"port 5.5", IN_GENERAL, "  port: 5.5\n", "port = 5.5\n", "!invalid type: floating point `5.5`, expected u16"},
        {"port true", IN_GENERAL, "  port: true\n", "port = true\n", "!invalid type: boolean `true`, expected u16"},
        {"port [1]", IN_GENERAL, "  port: [1]\n", "port = [1]\n", "!invalid type: sequence, expected u16"},
        {"port {a: 1}", IN_GENERAL, "  port: {a: 1}\n", "port = {a = 1}\n", "!invalid type: map, expected u16"},
        {"port 0x1920", IN_GENERAL, "  port: 0x1920\n", "port = 0x1920\n", "port=6432"},
        {"port 0o14440", IN_GENERAL, "  port: 0o14440\n", "port = 0o14440\n", "port=6432"},
        {"port 0b1100100100000", IN_GENERAL, "  port: 0b1100100100000\n", "port = 0b1100100100000\n", "port=6432"},
        {"port +6432", IN_GENERAL, "  port: +6432\n", "port = +6432\n", "port=6432"},
        {"port as a date", IN_GENERAL, NULL, "port = 1979-05-27\n", "!invalid type: datetime `1979-05-27`, expected u16"},
        {"backlog 4294967295", IN_GENERAL, "  backlog: 4294967295\n", "backlog = 4294967295\n", "backlog=4294967295"},
        {"backlog 4294967296", IN_GENERAL, "  backlog: 4294967296\n", "backlog = 4294967296\n", "!expected u32"},
        {"max_connections 11000", IN_GENERAL, "  max_connections: 11000\n", "max_connections = 11000\n", "max_connections=11000"},
        {"max_connections 9223372036854775808", IN_GENERAL, "  max_connections: 9223372036854775808\n", NULL, "!YAML to TOML conversion error"},
        {"max_connections None", IN_GENERAL, NULL, "max_connections = 9223372036854775808\n", "!TOML parse error: TOML parse error at line 4, column 19 in row.toml"},
        {"tcp_no_delay true", IN_GENERAL, "  tcp_no_delay: true\n", "tcp_no_delay = true\n", "tcp_no_delay=true"},
        {"tcp_no_delay False", IN_GENERAL, "  tcp_no_delay: False\n", "tcp_no_delay = false\n", "tcp_no_delay=false"},
        {"tcp_no_delay TRUE", IN_GENERAL, "  tcp_no_delay: TRUE\n", NULL, "tcp_no_delay=true"},
        {"tcp_no_delay yes", IN_GENERAL, "  tcp_no_delay: yes\n", "tcp_no_delay = \"yes\"\n", "!invalid type: string \"yes\", expected a boolean"},
        {"tcp_no_delay off", IN_GENERAL, "  tcp_no_delay: off\n", "tcp_no_delay = \"off\"\n", "!expected a boolean"},
        {"tcp_no_delay 1", IN_GENERAL, "  tcp_no_delay: 1\n", "tcp_no_delay = 1\n", "!invalid type: integer `1`, expected a boolean"},
        {"tcp_no_delay \"true\"", IN_GENERAL, "  tcp_no_delay: \"true\"\n", "tcp_no_delay = \"true\"\n", "!invalid type: string \"true\", expected a boolean"},
        {"tcp_no_delay None", IN_GENERAL, NULL, "tcp_no_delay = True\n", "!TOML parse error"},
        {"pooler_check_query \"select 1\"", IN_GENERAL, "  pooler_check_query: \"select 1\"\n", "pooler_check_query = \"select 1\"\n", "pooler_check_query=select 1"},
        {"pooler_check_query \"a\\0b\"", IN_GENERAL, "  pooler_check_query: \"a\\0b\"\n", "pooler_check_query = \"a\\u0000b\"\n", "!the value contains a null byte"},
        {"admin_passwort hunter2", IN_GENERAL, "  admin_passwort: hunter2\n", "admin_passwort = \"hunter2\"\n", "?unknown setting `admin_passwort` in [general] ignored; did you mean `admin_password`?"},
        {"user password 12345", IN_USER, "        password: 12345\n", "password = 12345\n", "!invalid type: integer, expected a string (pools.db.users.0.password, row."},
        {"user server_password [hunter2]", IN_USER, "        server_password: [hunter2]\n", "server_password = [\"hunter2\"]\n", "!invalid type: sequence, expected a string"},
        {"user server_password true", IN_USER, "        server_password: true\n", "server_password = true\n", "!invalid type: boolean, expected a string"},
        {"general is no table", WHOLE, "general: 5\npools: {}\n", "general = 5\n[pools]\n", "!invalid type: integer, expected struct General"},
        {"pools is no table", WHOLE, "general: {admin_username: a, admin_password: b}\npools: [x]\n", "pools = [\"x\"]\n[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n", "!invalid type: sequence, expected a map (pools"},
        {"pool is no table", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: x}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools]\ndb=\"x\"\n", "!invalid type: string, expected struct Pool (pools.db"},
    };
    RUN_ROWS(rows);
}

TEST(config_reads_durations)
{
    static const struct config_row rows[] = {
        {"connect_timeout 3000", IN_GENERAL, "  connect_timeout: 3000\n", "connect_timeout = 3000\n", "connect_timeout=3000"},
        {"connect_timeout \"5s\"", IN_GENERAL, "  connect_timeout: \"5s\"\n", "connect_timeout = \"5s\"\n", "connect_timeout=5000"},
        {"plain 5s", IN_GENERAL, "  connect_timeout: 5s\n", "connect_timeout = \"5s\"\n", "connect_timeout=5000"},
        {"connect_timeout \"500ms\"", IN_GENERAL, "  connect_timeout: \"500ms\"\n", "connect_timeout = \"500ms\"\n", "connect_timeout=500"},
        {"connect_timeout \"2m\"", IN_GENERAL, "  connect_timeout: \"2m\"\n", "connect_timeout = \"2m\"\n", "connect_timeout=120000"},
        {"connect_timeout \"1h\"", IN_GENERAL, "  connect_timeout: \"1h\"\n", "connect_timeout = \"1h\"\n", "connect_timeout=3600000"},
        {"connect_timeout \"1D\"", IN_GENERAL, "  connect_timeout: \"1D\"\n", "connect_timeout = \"1D\"\n", "connect_timeout=86400000"},
        {"blanks and case", IN_GENERAL, "  connect_timeout: \" 5 S \"\n", "connect_timeout = \" 5 S \"\n", "connect_timeout=5000"},
        {"a string without suffix", IN_GENERAL, "  connect_timeout: \"250\"\n", "connect_timeout = \"250\"\n", "connect_timeout=250"},
        {"connect_timeout \"+5s\"", IN_GENERAL, "  connect_timeout: \"+5s\"\n", "connect_timeout = \"+5s\"\n", "connect_timeout=5000"},
        {"connect_timeout -1", IN_GENERAL, "  connect_timeout: -1\n", "connect_timeout = -1\n", "!duration cannot be negative"},
        {"connect_timeout 5.5", IN_GENERAL, "  connect_timeout: 5.5\n", "connect_timeout = 5.5\n", "!invalid type: floating point `5.5`, expected a duration like '5s', '100ms', '1h', '30m', '1d' or a number in milliseconds"},
        {"connect_timeout true", IN_GENERAL, "  connect_timeout: true\n", "connect_timeout = true\n", "!invalid type: boolean `true`, expected a duration like"},
        {"connect_timeout \"5.5s\"", IN_GENERAL, "  connect_timeout: \"5.5s\"\n", "connect_timeout = \"5.5s\"\n", "!invalid number in duration: '5.5'"},
        {"connect_timeout \"-5s\"", IN_GENERAL, "  connect_timeout: \"-5s\"\n", "connect_timeout = \"-5s\"\n", "!invalid number in duration: '-5'"},
        {"connect_timeout \"5x\"", IN_GENERAL, "  connect_timeout: \"5x\"\n", "connect_timeout = \"5x\"\n", "!invalid duration format: '5x'. Expected a number or a string with suffix (ms, s, m, h, d)"},
        {"connect_timeout \"\"", IN_GENERAL, "  connect_timeout: \"\"\n", "connect_timeout = \"\"\n", "!invalid duration format: ''"},
        {"connect_timeout \"100us\"", IN_GENERAL, "  connect_timeout: \"100us\"\n", "connect_timeout = \"100us\"\n", "!invalid number in duration: '100u'"},
        {"connect_timeout \"5 min\"", IN_GENERAL, "  connect_timeout: \"5 min\"\n", "connect_timeout = \"5 min\"\n", "!invalid duration format: '5 min'"},
        {"connect_timeout \"5w\"", IN_GENERAL, "  connect_timeout: \"5w\"\n", "connect_timeout = \"5w\"\n", "!invalid duration format"},
        {"connect_timeout \"s\"", IN_GENERAL, "  connect_timeout: \"s\"\n", "connect_timeout = \"s\"\n", "!invalid number in duration: ''"},
        {"connect_timeout \"99999999999999999999s\"", IN_GENERAL, "  connect_timeout: \"99999999999999999999s\"\n", "connect_timeout = \"99999999999999999999s\"\n", "!invalid number in duration"},
        {"connect_timeout \"9999999999999999999d\"", IN_GENERAL, "  connect_timeout: \"9999999999999999999d\"\n", "connect_timeout = \"9999999999999999999d\"\n", "!duration is too large"},
        {"connect_timeout \"18446744073709551615\"", IN_GENERAL, "  connect_timeout: \"18446744073709551615\"\n", "connect_timeout = \"18446744073709551615\"\n", "!duration is too large"},
        {"server_idle_check_timeout 0", IN_GENERAL, "  server_idle_check_timeout: 0\n", "server_idle_check_timeout = 0\n", "server_idle_check_timeout=0"},
        {"client_login_timeout 90s", IN_GENERAL, "  client_login_timeout: 90s\n", "client_login_timeout = \"90s\"\n", "client_login_timeout=90000"},
        {"pool idle_timeout 30000", IN_POOL, "    idle_timeout: 30000\n", "idle_timeout = 30000\n", "pools.db.idle_timeout=30000"},
        {"pool timeouts are plain numbers", IN_POOL, "    idle_timeout: \"30s\"\n", "idle_timeout = \"30s\"\n", "!invalid type: string \"30s\", expected u64 (milliseconds, without a unit) (pools.db.idle_timeout, row."},
        {"pool idle_timeout -5", IN_POOL, "    idle_timeout: -5\n", "idle_timeout = -5\n", "!invalid value: integer `-5`, expected u64"},
        {"user server_lifetime 120000", IN_USER, "        server_lifetime: 120000\n", "server_lifetime = 120000\n", "pools.db.users.0.server_lifetime=120000"},
    };
    RUN_ROWS(rows);
}

TEST(config_reads_byte_sizes)
{
    static const struct config_row rows[] = {
        {"max_memory_usage 1024", IN_GENERAL, "  max_memory_usage: 1024\n", "max_memory_usage = 1024\n", "max_memory_usage=1024"},
        {"max_memory_usage \"256MB\"", IN_GENERAL, "  max_memory_usage: \"256MB\"\n", "max_memory_usage = \"256MB\"\n", "max_memory_usage=268435456"},
        {"max_memory_usage \"5 mb\"", IN_GENERAL, "  max_memory_usage: \"5 mb\"\n", "max_memory_usage = \"5 mb\"\n", "max_memory_usage=5242880"},
        {"max_memory_usage \"64K\"", IN_GENERAL, "  max_memory_usage: \"64K\"\n", "max_memory_usage = \"64K\"\n", "max_memory_usage=65536"},
        {"max_memory_usage \"64kb\"", IN_GENERAL, "  max_memory_usage: \"64kb\"\n", "max_memory_usage = \"64kb\"\n", "max_memory_usage=65536"},
        {"max_memory_usage \"2M\"", IN_GENERAL, "  max_memory_usage: \"2M\"\n", "max_memory_usage = \"2M\"\n", "max_memory_usage=2097152"},
        {"max_memory_usage \"1G\"", IN_GENERAL, "  max_memory_usage: \"1G\"\n", "max_memory_usage = \"1G\"\n", "max_memory_usage=1073741824"},
        {"max_memory_usage \"1GB\"", IN_GENERAL, "  max_memory_usage: \"1GB\"\n", "max_memory_usage = \"1GB\"\n", "max_memory_usage=1073741824"},
        {"max_memory_usage \"100B\"", IN_GENERAL, "  max_memory_usage: \"100B\"\n", "max_memory_usage = \"100B\"\n", "max_memory_usage=100"},
        {"max_memory_usage -1", IN_GENERAL, "  max_memory_usage: -1\n", "max_memory_usage = -1\n", "!byte size cannot be negative"},
        {"max_memory_usage \"5TT\"", IN_GENERAL, "  max_memory_usage: \"5TT\"\n", "max_memory_usage = \"5TT\"\n", "!invalid byte size format: '5TT'. Expected a number or a string with suffix (B, K, KB, M, MB, G, GB)"},
        {"max_memory_usage \"5T\"", IN_GENERAL, "  max_memory_usage: \"5T\"\n", "max_memory_usage = \"5T\"\n", "!invalid byte size format"},
        {"max_memory_usage \"5x\"", IN_GENERAL, "  max_memory_usage: \"5x\"\n", "max_memory_usage = \"5x\"\n", "!invalid byte size format"},
        {"max_memory_usage \"5TB\"", IN_GENERAL, "  max_memory_usage: \"5TB\"\n", "max_memory_usage = \"5TB\"\n", "!invalid number in byte size: '5T'"},
        {"max_memory_usage \"1KiB\"", IN_GENERAL, "  max_memory_usage: \"1KiB\"\n", "max_memory_usage = \"1KiB\"\n", "!invalid number in byte size: '1Ki'"},
        {"max_memory_usage \"99999999999GB\"", IN_GENERAL, "  max_memory_usage: \"99999999999GB\"\n", "max_memory_usage = \"99999999999GB\"\n", "!byte size is too large"},
        {"max_memory_usage false", IN_GENERAL, "  max_memory_usage: false\n", "max_memory_usage = false\n", "!expected a byte size"},
        {"worker_stack_size \"8MB\"", IN_GENERAL, "  worker_stack_size: \"8MB\"\n", "worker_stack_size = \"8MB\"\n", "worker_stack_size=8388608"},
    };
    RUN_ROWS(rows);
}

TEST(config_reads_words_and_lists)
{
    static const struct config_row rows[] = {
        {"pool pool_mode session", IN_POOL, "    pool_mode: session\n", "pool_mode = \"session\"\n", "pools.db.pool_mode=session"},
        {"pool pool_mode Session", IN_POOL, "    pool_mode: Session\n", "pool_mode = \"Session\"\n", "pools.db.pool_mode=session"},
        {"pool pool_mode Transaction", IN_POOL, "    pool_mode: Transaction\n", "pool_mode = \"Transaction\"\n", "pools.db.pool_mode=transaction"},
        {"pool pool_mode statement", IN_POOL, "    pool_mode: statement\n", "pool_mode = \"statement\"\n", "!unknown variant `statement`, expected one of `transaction`"},
        {"pool pool_mode SESSION", IN_POOL, "    pool_mode: SESSION\n", "pool_mode = \"SESSION\"\n", "!unknown variant `SESSION`"},
        {"user pool_mode session", IN_USER, "        pool_mode: session\n", "pool_mode = \"session\"\n", "pools.db.users.0.pool_mode=session"},
        {"tls_mode allow", IN_GENERAL, "  tls_mode: allow\n", "tls_mode = \"allow\"\n", "tls_mode=allow"},
        {"tls_mode disable", IN_GENERAL, "  tls_mode: disable\n", "tls_mode = \"disable\"\n", "tls_mode=disable"},
        {"tls_mode Allow", IN_GENERAL, "  tls_mode: Allow\n", "tls_mode = \"Allow\"\n", "!Configuration error: Invalid tls_mode: Allow"},
        {"server_tls_mode PREFER", IN_GENERAL, "  server_tls_mode: PREFER\n", "server_tls_mode = \"PREFER\"\n", "server_tls_mode=PREFER"},
        {"server_tls_mode maybe", IN_GENERAL, "  server_tls_mode: maybe\n", "server_tls_mode = \"maybe\"\n", "!Configuration error: invalid server_tls_mode: maybe"},
        {"io_engine epoll", IN_GENERAL, "  io_engine: epoll\n", "io_engine = \"epoll\"\n", "io_engine=epoll"},
        {"inherited accounting", IN_GENERAL, "  upgrade_inherited_accounting: loose\n", "upgrade_inherited_accounting = \"loose\"\n", "!general.upgrade_inherited_accounting 'loose' is unknown; must be extra or strict"},
        {"upgrade mode", IN_GENERAL, "  upgrade_mode: restart\n", "upgrade_mode = \"restart\"\n", "!general.upgrade_mode 'restart' is unknown; must be transfer or drain"},
        {"upgrade incomplete", IN_GENERAL, "  upgrade_incomplete: maybe\n", "upgrade_incomplete = \"maybe\"\n", "!general.upgrade_incomplete 'maybe' is unknown; must be drain or abort"},
        {"upgrade ready at once", IN_GENERAL, "  upgrade_ready_timeout: 0\n", "upgrade_ready_timeout = 0\n", "!general.upgrade_ready_timeout must be > 0"},
        {"upgrade without freeze", IN_GENERAL, "  upgrade_freeze_limit: 0\n", "upgrade_freeze_limit = 0\n", "!general.upgrade_freeze_limit must be > 0"},
        {"io_engine kqueue", IN_GENERAL, "  io_engine: kqueue\n", "io_engine = \"kqueue\"\n", "!general.io_engine 'kqueue' is unknown; must be auto, io_uring or epoll"},
        {"hba [\"10.0.0.0/8\", \"::1/128\"]", IN_GENERAL, "  hba: [\"10.0.0.0/8\", \"::1/128\"]\n", "hba = [\"10.0.0.0/8\", \"::1/128\"]\n", "hba=10.0.0.0/8, ::1/128"},
        {"host bits may be set", IN_GENERAL, "  hba: [\"10.0.0.1/8\"]\n", "hba = [\"10.0.0.1/8\"]\n", "hba=10.0.0.1/8"},
        {"hba []", IN_GENERAL, "  hba: []\n", "hba = []\n", "ok"},
        {"hba [\"10.0.0.1\"]", IN_GENERAL, "  hba: [\"10.0.0.1\"]\n", "hba = [\"10.0.0.1\"]\n", "!invalid IP address syntax: \"10.0.0.1\""},
        {"hba [\"10.0.0.0/33\"]", IN_GENERAL, "  hba: [\"10.0.0.0/33\"]\n", "hba = [\"10.0.0.0/33\"]\n", "!invalid IP address syntax"},
        {"hba [\"all\"]", IN_GENERAL, "  hba: [\"all\"]\n", "hba = [\"all\"]\n", "!invalid IP address syntax"},
        {"hba 10.0.0.0/8", IN_GENERAL, "  hba: 10.0.0.0/8\n", "hba = \"10.0.0.0/8\"\n", "!invalid type: string \"10.0.0.0/8\", expected a sequence"},
        {"hba [5]", IN_GENERAL, "  hba: [5]\n", "hba = [5]\n", "!invalid type: integer `5`, expected a string"},
        {"trusted proxies", AT_TOP, "web: {trusted_proxies: [\"192.168.0.0/16\"]}\n", "[web]\ntrusted_proxies = [\"192.168.0.0/16\"]\n", "web.trusted_proxies=192.168.0.0/16"},
        {"bad trusted proxy", AT_TOP, "web: {trusted_proxies: [\"here\"]}\n", "[web]\ntrusted_proxies = [\"here\"]\n", "!invalid IP address syntax"},
        {"unix_socket_mode 0660", IN_GENERAL, "  unix_socket_mode: 0660\n", NULL, "unix_socket_mode=0660"},
        {"unix_socket_mode \"0o640\"", IN_GENERAL, "  unix_socket_mode: \"0o640\"\n", "unix_socket_mode = \"0o640\"\n", "unix_socket_mode=0o640"},
        {"unix_socket_mode \" 0O640 \"", IN_GENERAL, "  unix_socket_mode: \" 0O640 \"\n", "unix_socket_mode = \" 0O640 \"\n", "ok"},
        {"unix_socket_mode 600", IN_GENERAL, "  unix_socket_mode: 600\n", "unix_socket_mode = 600\n", "!invalid type: integer `600`, expected a string"},
        {"unix_socket_mode None", IN_GENERAL, NULL, "unix_socket_mode = 0600\n", "!a number cannot have leading zeros"},
        {"unix_socket_mode \"\"", IN_GENERAL, "  unix_socket_mode: \"\"\n", "unix_socket_mode = \"\"\n", "!Configuration error: general.unix_socket_mode must not be empty"},
        {"unix_socket_mode \"  \"", IN_GENERAL, "  unix_socket_mode: \"  \"\n", "unix_socket_mode = \"  \"\n", "!general.unix_socket_mode must not be empty"},
        {"unix_socket_mode \"0900\"", IN_GENERAL, "  unix_socket_mode: \"0900\"\n", "unix_socket_mode = \"0900\"\n", "!general.unix_socket_mode \"0900\" is not a valid octal number: "},
        {"unix_socket_mode \"01600\"", IN_GENERAL, "  unix_socket_mode: \"01600\"\n", "unix_socket_mode = \"01600\"\n", "!general.unix_socket_mode \"01600\" sets bits outside 0o777; only standard rwx permissions are allowed"},
    };
    RUN_ROWS(rows);
}

TEST(config_demands_what_is_required)
{
    static const struct config_row rows[] = {
        {"nothing in general", WHOLE, "general: {}\npools: {}\n", "[general]\n[pools]\n", "!Configuration error: Could not merge config: missing field `admin_username`"},
        {"no admin_password", WHOLE, "general: {admin_username: a}\npools: {}\n", "[general]\nadmin_username=\"a\"\n[pools]\n", "!missing field `admin_password` (general, row."},
        {"no general", WHOLE, "pools: {}\n", "[pools]\n", "!missing field `general`"},
        {"no pools", WHOLE, "general: {admin_username: a, admin_password: b}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n", "!missing field `pools`"},
        {"pools with nothing under it", WHOLE, "general: {admin_username: a, admin_password: b}\npools:\n", NULL, "!missing field `pools`"},
        {"no pool at all", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools]\n", "ok"},
        {"a pool without users", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db]\n", "pools.db.server_host=127.0.0.1"},
        {"user without name", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: [{pool_size: 1}]}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[[pools.db.users]]\npool_size=1\n", "!missing field `username`"},
        {"user without pool_size", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: [{username: u}]}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[[pools.db.users]]\nusername=\"u\"\n", "!missing field `pool_size` (pools.db.users.0, row."},
        {"auth_query without query", IN_POOL, "    auth_query: {user: x}\n", "auth_query = {user=\"x\"}\n", "!missing field `query` (pools.db.auth_query"},
        {"auth_query without user", IN_POOL, "    auth_query: {query: x}\n", "auth_query = {query=\"x\"}\n", "!missing field `user`"},
        {"talos without databases", AT_TOP, "talos: {keys: []}\n", "[talos]\nkeys=[]\n", "!missing field `databases`"},
        {"talos without keys", AT_TOP, "talos: {databases: []}\n", "[talos]\ndatabases=[]\n", "!missing field `keys`"},
        {"empty YAML", WHOLE, "", NULL, "!YAML to TOML conversion error"},
        {"YAML of comments", WHOLE, "# nothing\n", NULL, "!YAML to TOML conversion error"},
        {"empty TOML", WHOLE, NULL, "", "!missing field `general`"},
        {"YAML list", WHOLE, "- a\n", NULL, "!YAML to TOML conversion error"},
    };
    RUN_ROWS(rows);
}

TEST(config_reads_both_layouts_of_users)
{
    static const struct config_row rows[] = {
        {"list", WHOLE, "general: {admin_username: a, admin_password: b}\npools:\n  db:\n    users:\n      - {username: x, password: \"md5d41d8cd98f00b204e9800998ecf8427e\", pool_size: 1}\n      - {username: y, password: \"md5d41d8cd98f00b204e9800998ecf8427e\", pool_size: 2}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[[pools.db.users]]\nusername=\"x\"\npassword=\"md5d41d8cd98f00b204e9800998ecf8427e\"\npool_size=1\n[[pools.db.users]]\nusername=\"y\"\npassword=\"md5d41d8cd98f00b204e9800998ecf8427e\"\npool_size=2\n", "pools.db.users.1.username=y"},
        {"numbered", WHOLE, "general: {admin_username: a, admin_password: b}\npools:\n  db:\n    users:\n      \"0\": {username: x, password: \"md5d41d8cd98f00b204e9800998ecf8427e\", pool_size: 1}\n      1: {username: y, password: \"md5d41d8cd98f00b204e9800998ecf8427e\", pool_size: 2}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db.users.0]\nusername=\"x\"\npassword=\"md5d41d8cd98f00b204e9800998ecf8427e\"\npool_size=1\n[pools.db.users.1]\nusername=\"y\"\npassword=\"md5d41d8cd98f00b204e9800998ecf8427e\"\npool_size=2\n", "pools.db.users.1.pool_size=2"},
        {"bad number", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: {x1: {username: x, pool_size: 1}}}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db.users.x1]\nusername=\"x\"\npool_size=1\n", "!invalid user key 'x1': expected numeric index or use array format"},
        {"negative number", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: {-1: {username: x, pool_size: 1}}}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db.users.-1]\nusername=\"x\"\npool_size=1\n", "!invalid user key '-1'"},
        {"neither", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: x}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db]\nusers=\"x\"\n", "!invalid type: string, expected a sequence or a map"},
        {"user is no table", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: [x]}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db]\nusers=[\"x\"]\n", "!invalid type: string, expected struct User"},
        {"empty password", IN_USER, "        password: \"\"\n", "password = \"\"\n", "ok"},
        {"no password", IN_USER, "", "", "ok"},
        {"plain password", IN_USER, "        password: hunter2\n", "password = \"hunter2\"\n", "?the password of user 'u' is stored as plain text; a SCRAM-SHA-256 secret is recommended"},
        {"empty server_password", IN_USER, "        server_password: \"\"\n", "server_password = \"\"\n", "ok"},
        {"min above max", IN_USER, "        min_pool_size: 11\n", "min_pool_size = 11\n", "!min_pool_size of 11 cannot be larger than pool_size of 10"},
        {"min 0", IN_USER, "        min_pool_size: 0\n", "min_pool_size = 0\n", "pools.db.users.0.min_pool_size=0"},
        {"server_password alone", IN_USER, "        server_password: hunter2\n", "server_password = \"hunter2\"\n", "!server_password requires server_username to be set"},
        {"mapped", IN_USER, "        server_username: r\n        server_password: hunter2\n", "server_username = \"r\"\nserver_password = \"hunter2\"\n", "pools.db.users.0.server_password=********"},
        {"same name twice", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: [{username: x, pool_size: 1}, {username: x, pool_size: 1}]}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[[pools.db.users]]\nusername=\"x\"\npool_size=1\n[[pools.db.users]]\nusername=\"x\"\npool_size=1\n", "!duplicate username 'x' in pool users"},
        {"pool_size 0", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: [{username: x, pool_size: 0}]}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[[pools.db.users]]\nusername=\"x\"\npool_size=0\n", "!Configuration error: pools.db: user 'x': pool_size must be > 0"},
    };
    RUN_ROWS(rows);
}

TEST(config_warns_of_unknown_names)
{
    static const struct config_row rows[] = {
        {"prot 1", IN_GENERAL, "  prot: 1\n", "prot = 1\n", "?unknown setting `prot` in [general] ignored; did you mean `port`?"},
        {"position of an unknown name", IN_GENERAL, "  prot: 1\n", "prot = 1\n", "?:4: unknown setting `prot`"},
        {"pool_mode session", IN_GENERAL, "  pool_mode: session\n", "pool_mode = \"session\"\n", "?unknown setting `pool_mode` in [general] ignored: it belongs to [pools.NAME]"},
        {"cleanup_server_connections true", IN_GENERAL, "  cleanup_server_connections: true\n", "cleanup_server_connections = true\n", "?it belongs to [pools.NAME]"},
        {"log_level debug", IN_GENERAL, "  log_level: debug\n", "log_level = \"debug\"\n", "?unknown setting `log_level` in [general]"},
        {"scaling_cooldown_sleep 1", IN_GENERAL, "  scaling_cooldown_sleep: 1\n", "scaling_cooldown_sleep = 1\n", "?unknown setting `scaling_cooldown_sleep` in [general] ignored: no longer used"},
        {"clock_resolution_statistics 1", IN_GENERAL, "  clock_resolution_statistics: 1\n", "clock_resolution_statistics = 1\n", "?no longer used"},
        {"virtual_pool_count 1", IN_GENERAL, "  virtual_pool_count: 1\n", "virtual_pool_count = 1\n", "?no longer used"},
        {"patroni_discovery_urls []", IN_GENERAL, "  patroni_discovery_urls: []\n", "patroni_discovery_urls = []\n", "?no longer used, use patroni_api_urls"},
        {"failover_cooldown 1", IN_GENERAL, "  failover_cooldown: 1\n", "failover_cooldown = 1\n", "?no longer used, see patroni_api_urls"},
        {"pool server_tls true", IN_POOL, "    server_tls: true\n", "server_tls = true\n", "?no longer used, use server_tls_mode"},
        {"pool verify_server_certificate true", IN_POOL, "    verify_server_certificate: true\n", "verify_server_certificate = true\n", "?no longer used, use server_tls_mode"},
        {"default_pool_size", IN_POOL, "    auth_query: {query: q, user: x, default_pool_size: 3}\n", "auth_query = {query=\"q\", user=\"x\", default_pool_size=3}\n", "?no longer used, use auth_query.pool_size"},
        {"pool idel_timeout 1", IN_POOL, "    idel_timeout: 1\n", "idel_timeout = 1\n", "?unknown setting `idel_timeout` in [pools.db] ignored; did you mean `idle_timeout`?"},
        {"user poolsize 1", IN_USER, "        poolsize: 1\n", "poolsize = 1\n", "?unknown setting `poolsize` in [pools.db.users.0] ignored; did you mean `pool_size`?"},
        {"unknown section", AT_TOP, "metrics: {}\n", "[metrics]\n", "?unknown setting `metrics` in [top level] ignored"},
        {"unknown name in web", AT_TOP, "web: {adress: x}\n", "[web]\nadress = \"x\"\n", "?unknown setting `adress` in [web]"},
        {"merge key", IN_GENERAL, "  <<: {port: 1}\n", NULL, "?unknown setting `<<` in [general]"},
        {"path", AT_TOP, "path: x\n", NULL, "ok"},
        {"duplicate key in YAML", IN_GENERAL, "  port: 1\n  port: 2\n", NULL, "?row.yaml:5: key `port` is given twice (first in line 4); the last one counts"},
        {"duplicate key in YAML wins", IN_GENERAL, "  port: 1\n  port: 2\n", NULL, "port=2"},
        {"duplicate key in TOML", IN_GENERAL, NULL, "port=1\nport=2\n", "!TOML parse error at line 5, column 1 in row.toml: duplicate key `port`"},
        {"null after a value", IN_GENERAL, "  port: 1\n  port:\n", NULL, "port=5432"},
    };
    RUN_ROWS(rows);
}

TEST(config_knows_old_names)
{
    static const struct config_row rows[] = {
        {"prometheus", AT_TOP, "prometheus: {port: 9999}\n", "[prometheus]\nport = 9999\n", "web.port=9999"},
        {"prometheus does not warn", AT_TOP, "prometheus: {enabled: true}\n", "[prometheus]\nenabled = true\n", "ok"},
        {"web and prometheus", AT_TOP, "web: {}\nprometheus: {}\n", "[web]\n[prometheus]\n", "!duplicate field `web`"},
        {"client_prepared_statements_cache_size 5", IN_GENERAL, "  client_prepared_statements_cache_size: 5\n", "client_prepared_statements_cache_size = 5\n", "client_anonymous_prepared_cache_size=5"},
        {"client_prepared_statements_cache_size 5", IN_GENERAL, "  client_prepared_statements_cache_size: 5\n", "client_prepared_statements_cache_size = 5\n", "?setting `client_prepared_statements_cache_size` is deprecated, use `client_anonymous_prepared_cache_size`"},
        {"both cache names", IN_GENERAL, "  client_prepared_statements_cache_size: 1\n  client_anonymous_prepared_cache_size: 1\n", "client_prepared_statements_cache_size = 1\nclient_anonymous_prepared_cache_size = 1\n", "!duplicate field `client_anonymous_prepared_cache_size`"},
    };
    RUN_ROWS(rows);
}

TEST(config_reads_the_yaml_dialect)
{
    static const struct config_row rows[] = {
        {"two documents", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {}\n---\na: 1\n", NULL, "!YAML parse error: more than one document"},
        {"document marks", WHOLE, "---\ngeneral: {admin_username: a, admin_password: b}\npools: {}\n...\n", NULL, "ok"},
        {"syntax", WHOLE, "general: {a: 1\npools\n", NULL, "!Configuration error: YAML parse error: "},
        {"tab indent", WHOLE, "general:\n	port: 1\n", NULL, "!YAML parse error"},
        {"null words", IN_GENERAL, "  port: ~\n  backlog: null\n  host: Null\n  tls_mode: NULL\n  hba:\n", NULL, "ok"},
        {"anchor and alias", WHOLE, "general: {admin_username: a, admin_password: b}\nx: &p {users: [{username: u, pool_size: 3}]}\npools: {a: *p, b: *p}\n", NULL, "pools.b.users.0.pool_size=3"},
        {"scalar anchor", WHOLE, "general: {admin_username: &n root, admin_password: *n}\npools: {}\n", NULL, "admin_username=root"},
        {"unknown alias", WHOLE, "general: *x\n", NULL, "!YAML parse error"},
        {"leading zero is text", IN_GENERAL, "  port: 0600\n", NULL, "!invalid type: string \"0600\", expected u16"},
        {"dot without digits", IN_GENERAL, "  host: .\n", NULL, "host=."},
        {"address is text", IN_GENERAL, "  host: 1.2.3.4\n", NULL, "host=1.2.3.4"},
        {"float", IN_GENERAL, "  host: 1.5\n", NULL, "!invalid type: floating point `1.5`, expected a string"},
        {"exponent", IN_USER, "        password: 12e03\n", NULL, "!invalid type: floating point, expected a string"},
        {"infinity", IN_GENERAL, "  host: .inf\n", NULL, "!invalid type: floating point"},
        {"str tag", IN_USER, "        password: !!str 12345\n", NULL, "pools.db.users.0.password=********"},
        {"int tag on text", IN_GENERAL, "  port: !!int abc\n", NULL, "!YAML to TOML conversion error"},
        {"strange tag", IN_GENERAL, "  port: !thing 5\n", NULL, "!YAML to TOML conversion error"},
        {"key of digits", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {123: {}}\n", NULL, "pools.123.pool_mode=transaction"},
        {"mapping as key", WHOLE, "? {a: b}\n: c\n", NULL, "!a mapping key must be a scalar"},
        {"folded text", IN_GENERAL, "  pooler_check_query: >-\n    select\n    1\n", NULL, "pooler_check_query=select 1"},
        {"null in a list", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {users: [{username: u, pool_size: 3}, ~]}}\n", NULL, "?empty list element ignored"},
        {"byte order mark", WHOLE, "﻿general: {admin_username: a, admin_password: b}\npools: {}\n", NULL, "ok"},
    };
    RUN_ROWS(rows);
}

TEST(config_reads_hba_rules)
{
    static const struct config_row rows[] = {
        {"text", IN_GENERAL, "  pg_hba: |\n    host all all 0.0.0.0/0 md5\n    local all all trust\n", "pg_hba = \"\"\"\nhost all all 0.0.0.0/0 md5\nlocal all all trust\n\"\"\"\n", "pg_hba=host all all 0.0.0.0/0 md5\nlocal all all trust\n"},
        {"content", IN_GENERAL, "  pg_hba:\n    content: \"host all all 0.0.0.0/0 md5\"\n", "pg_hba = {content = \"host all all 0.0.0.0/0 md5\"}\n", "pg_hba=host all all 0.0.0.0/0 md5"},
        {"dotted content", IN_GENERAL, NULL, "pg_hba.content = \"host all all 0.0.0.0/0 md5\"\n", "pg_hba=host all all 0.0.0.0/0 md5"},
        {"content wins", IN_GENERAL, "  pg_hba: {content: \"host all all 0.0.0.0/0 md5\", path: nowhere}\n", "pg_hba = {content = \"host all all 0.0.0.0/0 md5\", path=\"nowhere\"}\n", "pg_hba=host all all 0.0.0.0/0 md5"},
        {"missing file", IN_GENERAL, "  pg_hba: {path: nowhere}\n", "pg_hba = {path = \"nowhere\"}\n", "!Could not merge config: failed to read hba file nowhere: No such file or directory (os error 2)"},
        {"empty table", IN_GENERAL, "  pg_hba: {}\n", "pg_hba = {}\n", "!expected either 'path' or 'content' field for PgHba"},
        {"unknown field", IN_GENERAL, "  pg_hba: {file: x}\n", "pg_hba = {file = \"x\"}\n", "!unknown field `file`, expected `path` or `content`"},
        {"number", IN_GENERAL, "  pg_hba: 5\n", "pg_hba = 5\n", "!invalid type: integer `5`, expected a string"},
        {"bad line", IN_GENERAL, "  pg_hba: |\n    # rules\n    host all all nonsense/99 md5\n", "pg_hba = \"\"\"\n# rules\nhost all all nonsense/99 md5\n\"\"\"\n", "!Configuration error: pg_hba line 2: "},
        {"with hba", IN_GENERAL, "  hba: [\"10.0.0.0/8\"]\n  pg_hba: \"host all all 0.0.0.0/0 md5\"\n", "hba = [\"10.0.0.0/8\"]\npg_hba = \"host all all 0.0.0.0/0 md5\"\n", "!general.hba and general.pg_hba cannot be specified at the same time"},
        {"with empty hba", IN_GENERAL, "  hba: []\n  pg_hba: \"host all all 0.0.0.0/0 md5\"\n", "hba = []\npg_hba = \"host all all 0.0.0.0/0 md5\"\n", "ok"},
        {"lax", IN_GENERAL, "  pg_hba_strict: false\n  pg_hba: \"host all all 0.0.0.0/0 md5\"\n", "pg_hba_strict = false\npg_hba = \"host all all 0.0.0.0/0 md5\"\n", "pg_hba_strict=false"},
    };
    RUN_ROWS(rows);
}

TEST(config_checks_startup_parameters)
{
    static const struct config_row rows[] = {
        {"a map", IN_GENERAL, "  startup_parameters: {work_mem: 64MB}\n", "startup_parameters = {work_mem = \"64MB\"}\n", "startup_parameters.work_mem=64MB"},
        {"canonical names", IN_GENERAL, "  startup_parameters: {timezone: UTC}\n", "startup_parameters = {timezone = \"UTC\"}\n", "startup_parameters.TimeZone=UTC"},
        {"lower case", IN_GENERAL, "  startup_parameters: {Work_Mem: 1MB}\n", "startup_parameters = {Work_Mem = \"1MB\"}\n", "startup_parameters.work_mem=1MB"},
        {"integer value", IN_GENERAL, "  startup_parameters: {work_mem: 64}\n", "startup_parameters = {work_mem = 64}\n", "!invalid type: integer `64`, expected a string (general.startup_parameters.work_mem"},
        {"boolean value", IN_GENERAL, "  startup_parameters: {jit: false}\n", "startup_parameters = {jit = false}\n", "!invalid type: boolean `false`, expected a string"},
        {"empty name", IN_GENERAL, "  startup_parameters: {\"\": x}\n", "startup_parameters = {\"\" = \"x\"}\n", "!Configuration error: general.startup_parameters: empty key"},
        {"reserved", IN_GENERAL, "  startup_parameters: {User: x}\n", "startup_parameters = {User = \"x\"}\n", "!general.startup_parameters: 'User' is reserved and managed by pg_doorman"},
        {"options", IN_GENERAL, "  startup_parameters: {options: x}\n", "startup_parameters = {options = \"x\"}\n", "!'options' is reserved"},
        {"session_authorization", IN_GENERAL, "  startup_parameters: {session_authorization: x}\n", "startup_parameters = {session_authorization = \"x\"}\n", "!is reserved"},
        {"protocol extension", IN_GENERAL, "  startup_parameters: {_PQ_.x: y}\n", "startup_parameters = {\"_PQ_.x\" = \"y\"}\n", "!'_PQ_.x' uses the reserved '_pq_.' prefix"},
        {"bad name", IN_GENERAL, "  startup_parameters: {\"a-b\": x}\n", "startup_parameters = {\"a-b\" = \"x\"}\n", "!'a-b' is not a valid GUC name (expected [A-Za-z_][A-Za-z0-9_.]*)"},
        {"digit first", IN_GENERAL, "  startup_parameters: {1a: x}\n", "startup_parameters = {1a = \"x\"}\n", "!'1a' is not a valid GUC name"},
        {"dotted name", IN_GENERAL, "  startup_parameters: {my.var: x}\n", "startup_parameters = {\"my.var\" = \"x\"}\n", "startup_parameters.my.var=x"},
        {"NUL byte", IN_GENERAL, "  startup_parameters: {a: \"x\\0y\"}\n", "startup_parameters = {a = \"x\\u0000y\"}\n", "!value for 'a' contains a null byte"},
        {"two spellings", IN_GENERAL, "  startup_parameters: {TimeZone: UTC, timezone: UTC}\n", "startup_parameters = {TimeZone = \"UTC\", timezone = \"UTC\"}\n", "!'TimeZone' and 'timezone' both refer to PG GUC 'TimeZone'; keep one"},
        {"just small enough", IN_GENERAL, "  startup_parameters: {a: \"" XS_9485 "\"}\n", "startup_parameters = {a = \"" XS_9485 "\"}\n", "ok"},
        {"too large", IN_GENERAL, "  startup_parameters: {a: \"" XS_9486 "\"}\n", "startup_parameters = {a = \"" XS_9486 "\"}\n", "!general.startup_parameters: serialized size 9489 bytes exceeds operator budget 9488"},
        {"pool scope", IN_POOL, "    startup_parameters: {role: x}\n", "startup_parameters = {role = \"x\"}\n", "!pool.startup_parameters: 'role' is reserved"},
        {"pool map", IN_POOL, "    startup_parameters: {DateStyle: ISO}\n", "startup_parameters = {DateStyle = \"ISO\"}\n", "pools.db.startup_parameters.DateStyle=ISO"},
        {"merged too large", WHOLE, "general: {admin_username: a, admin_password: b, startup_parameters: {a: \"" XS_5000 "\"}}\npools: {db: {startup_parameters: {b: \"" XS_5000 "\"}}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\nstartup_parameters = {a = \"" XS_5000 "\"}\n[pools.db]\nstartup_parameters = {b = \"" XS_5000 "\"}\n", "!merged general + pools.db.startup_parameters: serialized size 10006 bytes exceeds operator budget 9488"},
        {"message too large", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {startup_parameters: {a: \"" XS_9400 "\"}, users: [{username: \"" US_600 "\", pool_size: 1}]}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db]\nstartup_parameters = {a = \"" XS_9400 "\"}\n[[pools.db.users]]\nusername = \"" US_600 "\"\npool_size = 1\n", "!merged general + pools.db.startup_parameters: full StartupMessage for user 'uuuu"},
        {"message of server_user too large", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {startup_parameters: {a: \"" XS_9480 "\"}, server_database: \"" DS_480 "\", auth_query: {query: q, user: x, server_user: su}}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db]\nstartup_parameters = {a = \"" XS_9480 "\"}\nserver_database = \"" DS_480 "\"\nauth_query = {query = \"q\", user = \"x\", server_user = \"su\"}\n", "!full StartupMessage for auth_query server_user 'su' is 10018 bytes, exceeding the PG cap of 10000 bytes"},
    };
    RUN_ROWS(rows);
}

TEST(config_checks_general)
{
    static const struct config_row rows[] = {
        {"tls_rate_limit_per_second 99", IN_GENERAL, "  tls_rate_limit_per_second: 99\n", "tls_rate_limit_per_second = 99\n", "!Configuration error: tls rate limit should be > 100"},
        {"tls_rate_limit_per_second 100", IN_GENERAL, "  tls_rate_limit_per_second: 100\n", "tls_rate_limit_per_second = 100\n", "tls_rate_limit_per_second=100"},
        {"tls_rate_limit_per_second 150", IN_GENERAL, "  tls_rate_limit_per_second: 150\n", "tls_rate_limit_per_second = 150\n", "!tls rate limit should be multiple 100"},
        {"scaling_warm_pool_ratio 101", IN_GENERAL, "  scaling_warm_pool_ratio: 101\n", "scaling_warm_pool_ratio = 101\n", "!general.scaling_warm_pool_ratio must be 0-100"},
        {"scaling_warm_pool_ratio 100", IN_GENERAL, "  scaling_warm_pool_ratio: 100\n", "scaling_warm_pool_ratio = 100\n", "scaling_warm_pool_ratio=100"},
        {"scaling_max_parallel_creates 0", IN_GENERAL, "  scaling_max_parallel_creates: 0\n", "scaling_max_parallel_creates = 0\n", "!general.scaling_max_parallel_creates must be >= 1"},
        {"prepared_statements_cache_size 0", IN_GENERAL, "  prepared_statements_cache_size: 0\n", "prepared_statements_cache_size = 0\n", "!The value of prepared_statements_cache should be greater than 0 if prepared_statements are enabled"},
        {"cache 0 with statements off", IN_GENERAL, "  prepared_statements: false\n  prepared_statements_cache_size: 0\n", "prepared_statements = false\nprepared_statements_cache_size = 0\n", "ok"},
        {"query_interner_gc_interval_seconds 0", IN_GENERAL, "  query_interner_gc_interval_seconds: 0\n", "query_interner_gc_interval_seconds = 0\n", "!general.query_interner_gc_interval_seconds must be > 0"},
        {"patroni_api_urls []", IN_GENERAL, "  patroni_api_urls: []\n", "patroni_api_urls = []\n", "!general.patroni_api_urls cannot be an empty list"},
        {"patroni_api_urls [\"ftp://x\"]", IN_GENERAL, "  patroni_api_urls: [\"ftp://x\"]\n", "patroni_api_urls = [\"ftp://x\"]\n", "!general.patroni_api_urls: invalid URL 'ftp://x'; must start with http:// or https://"},
        {"patroni_api_urls [\"http://x:8008/cluster\", \"https://y\"]", IN_GENERAL, "  patroni_api_urls: [\"http://x:8008/cluster\", \"https://y\"]\n", "patroni_api_urls = [\"http://x:8008/cluster\", \"https://y\"]\n", "patroni_api_urls=http://x:8008/cluster, https://y"},
        {"worker_threads 0", IN_GENERAL, "  worker_threads: 0\n", "worker_threads = 0\n", "!general.worker_threads must be > 0 (row."},
        {"worker_threads 1", IN_GENERAL, "  worker_threads: 1\n", "worker_threads = 1\n", "worker_threads=1"},
        {"retain_connections_time 0", IN_GENERAL, "  retain_connections_time: 0\n", "retain_connections_time = 0\n", "!general.retain_connections_time must be > 0"},
        {"max_concurrent_creates 0", IN_GENERAL, "  max_concurrent_creates: 0\n", "max_concurrent_creates = 0\n", "!general.max_concurrent_creates must be > 0"},
        {"connect_timeout 0", IN_GENERAL, "  connect_timeout: 0\n", "connect_timeout = 0\n", "?general.connect_timeout is 0"},
        {"query_wait_timeout 0", IN_GENERAL, "  query_wait_timeout: 0\n", "query_wait_timeout = 0\n", "?general.query_wait_timeout is 0"},
        {"fallback_cooldown 0", IN_GENERAL, "  fallback_cooldown: 0\n", "fallback_cooldown = 0\n", "?general.fallback_cooldown is 0"},
        {"fallback_cooldown 0 in use", IN_GENERAL, "  patroni_api_urls: [\"http://x\"]\n  fallback_cooldown: 0\n", "patroni_api_urls = [\"http://x\"]\nfallback_cooldown = 0\n", "!general.fallback_cooldown must be > 0"},
        {"patroni_api_timeout 0 in use", IN_GENERAL, "  patroni_api_urls: [\"http://x\"]\n  patroni_api_timeout: 0\n", "patroni_api_urls = [\"http://x\"]\npatroni_api_timeout = 0\n", "!general.patroni_api_timeout must be > 0"},
        {"patroni_api_timeout 0", IN_GENERAL, "  patroni_api_timeout: 0\n", "patroni_api_timeout = 0\n", "?general.patroni_api_timeout is 0"},
        {"fallback_connect_timeout 0 in use", IN_GENERAL, "  patroni_api_urls: [\"http://x\"]\n  fallback_connect_timeout: 0\n", "patroni_api_urls = [\"http://x\"]\nfallback_connect_timeout = 0\n", "!general.fallback_connect_timeout must be > 0"},
        {"fallback_connect_timeout 0", IN_GENERAL, "  fallback_connect_timeout: 0\n", "fallback_connect_timeout = 0\n", "?general.fallback_connect_timeout is 0"},
        {"fallback_lifetime 0 in use", IN_GENERAL, "  patroni_api_urls: [\"http://x\"]\n  fallback_lifetime: 0\n", "patroni_api_urls = [\"http://x\"]\nfallback_lifetime = 0\n", "!general.fallback_lifetime must be > 0"},
        {"fallback_lifetime 0", IN_GENERAL, "  fallback_lifetime: 0\n", "fallback_lifetime = 0\n", "?general.fallback_lifetime is 0"},
        {"fallback_cooldown 0 of a pool that has its own", WHOLE, "general: {admin_username: a, admin_password: b, fallback_cooldown: 0}\npools: {db: {patroni_api_urls: [\"http://x\"], fallback_cooldown: 5s}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\nfallback_cooldown=0\n[pools.db]\npatroni_api_urls=[\"http://x\"]\nfallback_cooldown=\"5s\"\n", "?general.fallback_cooldown is 0"},
        {"message_size_to_be_stream \"3GB\"", IN_GENERAL, "  message_size_to_be_stream: \"3GB\"\n", "message_size_to_be_stream = \"3GB\"\n", "?message_size_to_be_stream is above 2147483647"},
        {"tcp_socket_buffer_size 1000", IN_GENERAL, "  tcp_socket_buffer_size: 1000\n", "tcp_socket_buffer_size = 1000\n", "?tcp_socket_buffer_size of 1000 bytes is small"},
        {"tcp_socket_buffer_size \"64K\"", IN_GENERAL, "  tcp_socket_buffer_size: \"64K\"\n", "tcp_socket_buffer_size = \"64K\"\n", "ok"},
        {"client_anonymous_prepared_cache_size 0", IN_GENERAL, "  client_anonymous_prepared_cache_size: 0\n", "client_anonymous_prepared_cache_size = 0\n", "?client_anonymous_prepared_cache_size is 0"},
        {"socket and hba", IN_GENERAL, "  unix_socket_dir: /tmp\n  hba: [\"10.0.0.0/8\"]\n", "unix_socket_dir = \"/tmp\"\nhba = [\"10.0.0.0/8\"]\n", "?general.hba does not apply to clients of the Unix socket"},
        {"web host", AT_TOP, "web: {enabled: true, host: localhost}\n", "[web]\nenabled = true\nhost = \"localhost\"\n", "!web.host 'localhost' is not an IP address"},
        {"web host in brackets", AT_TOP, "web: {enabled: true, host: \"[::1]\"}\n", "[web]\nenabled = true\nhost = \"[::1]\"\n", "web.host=[::1]"},
        {"web ui with a real password", AT_TOP, "web: {ui: true}\n", "[web]\nui = true\n", "ok"},
        {"web ui with the default password", WHOLE, "general: {admin_username: admin, admin_password: admin}\npools: {}\nweb: {ui: true}\n", "[general]\nadmin_username=\"admin\"\nadmin_password=\"admin\"\n[pools]\n[web]\nui=true\n", "?web.ui = true ignored: admin_password is default/empty."},
        {"sso without key", AT_TOP, "web: {sso_enabled: true}\n", "[web]\nsso_enabled = true\n", "?web.sso_enabled ignored"},
    };
    RUN_ROWS(rows);
}

TEST(config_checks_pools)
{
    static const struct config_row rows[] = {
        {"pool scaling_warm_pool_ratio 101", IN_POOL, "    scaling_warm_pool_ratio: 101\n", "scaling_warm_pool_ratio = 101\n", "!pools.db: scaling_warm_pool_ratio must be 0-100"},
        {"pool patroni_api_urls []", IN_POOL, "    patroni_api_urls: []\n", "patroni_api_urls = []\n", "!patroni_api_urls cannot be an empty list; remove the setting to disable Patroni-assisted fallback"},
        {"pool patroni_api_urls [\"x\"]", IN_POOL, "    patroni_api_urls: [\"x\"]\n", "patroni_api_urls = [\"x\"]\n", "!pools.db: patroni_api_urls: invalid URL 'x'; must start with http:// or https://"},
        {"pool fallback_cooldown 0", IN_POOL, "    fallback_cooldown: 0\n", "fallback_cooldown = 0\n", "!fallback_cooldown must be > 0"},
        {"pool patroni_api_timeout \"0s\"", IN_POOL, "    patroni_api_timeout: \"0s\"\n", "patroni_api_timeout = \"0s\"\n", "!patroni_api_timeout must be > 0"},
        {"pool fallback_connect_timeout 0", IN_POOL, "    fallback_connect_timeout: 0\n", "fallback_connect_timeout = 0\n", "!fallback_connect_timeout must be > 0"},
        {"pool fallback_lifetime 0", IN_POOL, "    fallback_lifetime: 0\n", "fallback_lifetime = 0\n", "!fallback_lifetime must be > 0"},
        {"pool fallback_cooldown 500", IN_POOL, "    fallback_cooldown: 500\n", "fallback_cooldown = 500\n", "?fallback_cooldown is below one second"},
        {"long fallback_lifetime", IN_POOL, "    fallback_cooldown: 10s\n    fallback_lifetime: 20s\n", "fallback_cooldown = \"10s\"\nfallback_lifetime = \"20s\"\n", "?fallback_lifetime is longer than fallback_cooldown"},
        {"sum of minimums", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {max_db_connections: 5, users: [{username: a, pool_size: 5, min_pool_size: 3}, {username: b, pool_size: 5, min_pool_size: 3}]}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db]\nmax_db_connections = 5\n[[pools.db.users]]\nusername=\"a\"\npool_size=5\nmin_pool_size=3\n[[pools.db.users]]\nusername=\"b\"\npool_size=5\nmin_pool_size=3\n", "!sum of min_pool_size (6) exceeds max_db_connections (5); not all minimums can be satisfied simultaneously"},
        {"reserve above cap", IN_POOL, "    max_db_connections: 20\n    reserve_pool_size: 21\n", "max_db_connections = 20\nreserve_pool_size = 21\n", "?reserve_pool_size (21) is larger than max_db_connections (20)"},
        {"pool max_db_connections 5", IN_POOL, "    max_db_connections: 5\n", "max_db_connections = 5\n", "?pool_size (10) of user 'u' is larger than max_db_connections (5)"},
        {"guaranteed above pool_size", IN_POOL, "    max_db_connections: 20\n    min_guaranteed_pool_size: 11\n", "max_db_connections = 20\nmin_guaranteed_pool_size = 11\n", "?min_guaranteed_pool_size (11) is larger than pool_size (10) of user 'u'"},
        {"lifetime above idle", IN_POOL, "    max_db_connections: 20\n    idle_timeout: 1000\n", "max_db_connections = 20\nidle_timeout = 1000\n", "?min_connection_lifetime (30000 ms) is longer than idle_timeout (1000 ms)"},
        {"reserve timeout", IN_POOL, "    max_db_connections: 20\n    reserve_pool_timeout: 6000\n", "max_db_connections = 20\nreserve_pool_timeout = 6000\n", "?reserve_pool_timeout (6000 ms) is longer than query_wait_timeout (5000 ms)"},
        {"coordinator off", IN_POOL, "    max_db_connections: 0\n    reserve_pool_size: 5\n", "max_db_connections = 0\nreserve_pool_size = 5\n", "ok"},
        {"socket directory", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {db: {server_host: /tmp}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.db]\nserver_host=\"/tmp\"\n", "pools.db.server_host=/tmp"},
        {"name of the admin database", WHOLE, "general: {admin_username: a, admin_password: b}\npools: {pgbouncer: {}}\n", "[general]\nadmin_username=\"a\"\nadmin_password=\"b\"\n[pools.pgbouncer]\n", "?pools.pgbouncer cannot be reached"},
        {"empty query", IN_POOL, "    auth_query: {query: \"\", user: x}\n", "auth_query = {query = \"\", user = \"x\"}\n", "!auth_query.query cannot be empty"},
        {"empty user", IN_POOL, "    auth_query: {query: q, user: \"\"}\n", "auth_query = {query = \"q\", user = \"\"}\n", "!auth_query.user cannot be empty"},
        {"half a shared role", IN_POOL, "    auth_query: {query: q, user: x, server_password: hunter2}\n", "auth_query = {query = \"q\", user = \"x\", server_password = \"hunter2\"}\n", "!auth_query: server_password requires server_user to be set"},
        {"no workers", IN_POOL, "    auth_query: {query: q, user: x, workers: 0}\n", "auth_query = {query = \"q\", user = \"x\", workers = 0}\n", "!auth_query.workers must be > 0"},
        {"auth_query pool_size 0", IN_POOL, "    auth_query: {query: q, user: x, pool_size: 0}\n", "auth_query = {query = \"q\", user = \"x\", pool_size = 0}\n", "!auth_query.pool_size must be > 0"},
        {"auth_query min above max", IN_POOL, "    auth_query: {query: q, user: x, min_pool_size: 41}\n", "auth_query = {query = \"q\", user = \"x\", min_pool_size = 41}\n", "!auth_query: min_pool_size must be <= pool_size"},
        {"min_interval 0s", IN_POOL, "    auth_query: {query: q, user: x, min_interval: 0s}\n", "auth_query = {query = \"q\", user = \"x\", min_interval = \"0s\"}\n", "pools.db.auth_query.min_interval=0"},
        {"cache_ttl", IN_POOL, "    auth_query: {query: q, user: x, cache_ttl: 2h}\n", "auth_query = {query = \"q\", user = \"x\", cache_ttl = \"2h\"}\n", "pools.db.auth_query.cache_ttl=7200000"},
        {"password masked", IN_POOL, "    auth_query: {query: q, user: x, password: hunter2}\n", "auth_query = {query = \"q\", user = \"x\", password = \"hunter2\"}\n", "pools.db.auth_query.password=********"},
        {"auth_query defaults", IN_POOL, "    auth_query: {query: q, user: x}\n", "auth_query = {query = \"q\", user = \"x\"}\n", "pools.db.auth_query.pool_size=40"},
    };
    RUN_ROWS(rows);
}

TEST(config_checks_tls_settings)
{
    static const struct config_row rows[] = {
        {"tls_private_key k", IN_GENERAL, "  tls_private_key: k\n", "tls_private_key = \"k\"\n", "!Configuration error: tls_private_key is set but tls_certificate is not"},
        {"tls_certificate c", IN_GENERAL, "  tls_certificate: c\n", "tls_certificate = \"c\"\n", "!tls_certificate is set but tls_private_key is not"},
        {"tls_mode require", IN_GENERAL, "  tls_mode: require\n", "tls_mode = \"require\"\n", "!tls_mode is require but tls_certificate or tls_private_key is not"},
        {"tls_mode verify-full", IN_GENERAL, "  tls_mode: verify-full\n", "tls_mode = \"verify-full\"\n", "!tls_mode is verify-full but tls_certificate or tls_private_key is not"},
        {"no CA", IN_GENERAL, "  tls_mode: verify-full\n  tls_certificate: c\n  tls_private_key: k\n", "tls_mode = \"verify-full\"\ntls_certificate = \"c\"\ntls_private_key = \"k\"\n", "!tls_mode is verify-full but tls_ca_cert is not set"},
        {"missing files", IN_GENERAL, "  tls_certificate: c\n  tls_private_key: k\n", "tls_certificate = \"c\"\ntls_private_key = \"k\"\n", "!tls is incorrectly configured: c: No such file or directory (os error 2)"},
        {"disabled with files", IN_GENERAL, "  tls_mode: disable\n  tls_certificate: c\n  tls_private_key: k\n", "tls_mode = \"disable\"\ntls_certificate = \"c\"\ntls_private_key = \"k\"\n", "?tls_mode is disable: TLS is off"},
        {"server_tls_mode verify-ca", IN_GENERAL, "  server_tls_mode: verify-ca\n", "server_tls_mode = \"verify-ca\"\n", "!server_tls_mode is 'verify-ca' but server_tls_ca_cert is not set"},
        {"server_tls_certificate c", IN_GENERAL, "  server_tls_certificate: c\n", "server_tls_certificate = \"c\"\n", "!server_tls_certificate is set but server_tls_private_key is not"},
        {"server_tls_private_key c", IN_GENERAL, "  server_tls_private_key: c\n", "server_tls_private_key = \"c\"\n", "!server_tls_private_key is set but server_tls_certificate is not"},
        {"missing CA", IN_GENERAL, "  server_tls_mode: verify-full\n  server_tls_ca_cert: ca\n", "server_tls_mode = \"verify-full\"\nserver_tls_ca_cert = \"ca\"\n", "!Failed to read certificate file ca: No such file or directory"},
        {"missing CA that no mode needs", IN_GENERAL, "  server_tls_ca_cert: ca\n", "server_tls_ca_cert = \"ca\"\n", "!Failed to read certificate file ca"},
        {"missing identity", IN_GENERAL, "  server_tls_certificate: c\n  server_tls_private_key: k\n", "server_tls_certificate = \"c\"\nserver_tls_private_key = \"k\"\n", "!Failed to load server TLS client identity from c and k: "},
        {"missing identity, TLS off", IN_GENERAL, "  server_tls_mode: disable\n  server_tls_certificate: c\n  server_tls_private_key: k\n", "server_tls_mode = \"disable\"\nserver_tls_certificate = \"c\"\nserver_tls_private_key = \"k\"\n", "ok"},
        {"pool server_tls_mode x", IN_POOL, "    server_tls_mode: x\n", "server_tls_mode = \"x\"\n", "!Configuration error: pool 'db': invalid server_tls_mode 'x'"},
        {"pool server_tls_mode verify-full", IN_POOL, "    server_tls_mode: verify-full\n", "server_tls_mode = \"verify-full\"\n", "!pool 'db': server_tls_mode is 'verify-full' but no server_tls_ca_cert"},
        {"pool server_tls_certificate c", IN_POOL, "    server_tls_certificate: c\n", "server_tls_certificate = \"c\"\n", "!pool 'db': server_tls_certificate without server_tls_private_key"},
        {"pool server_tls_private_key c", IN_POOL, "    server_tls_private_key: c\n", "server_tls_private_key = \"c\"\n", "!pool 'db': server_tls_private_key without server_tls_certificate"},
        {"pool files", IN_POOL, "    server_tls_mode: verify-ca\n    server_tls_ca_cert: ca\n", "server_tls_mode = \"verify-ca\"\nserver_tls_ca_cert = \"ca\"\n", "!pool 'db': Failed to read certificate file ca"},
        {"JWT key missing", IN_USER, "        password: \"jwt-pkey-fpath:nowhere\"\n", "password = \"jwt-pkey-fpath:nowhere\"\n", "!JWT public key error: nowhere: No such file or directory"},
        {"talos key missing", AT_TOP, "talos: {keys: [nowhere], databases: []}\n", "[talos]\nkeys = [\"nowhere\"]\ndatabases = []\n", "!JWT public key error: nowhere: No such file or directory"},
        {"signing key missing", IN_USER, "        server_username: r\n        server_password: \"jwt-priv-key-fpath:nowhere\"\n", "server_username = \"r\"\nserver_password = \"jwt-priv-key-fpath:nowhere\"\n", "?tokens for user 'u' cannot be signed"},
    };
    RUN_ROWS(rows);
}
/* clang-format on */

struct include_row {
    const char *what;
    const char *main_name;
    const char *main;
    const char *first_name; /* the included files; NULL: none */
    const char *first;
    const char *second_name;
    const char *second;
    const char *want; /* as in config_rows.h */
};

#define MAIN_TOML                                                                    \
    "[include]\nfiles = [\"one.toml\", \"two.yaml\"]\n"                              \
    "[general]\nadmin_username = \"admin\"\nadmin_password = \"s3cret\"\nport = 1\n" \
    "hba = [\"10.0.0.0/8\"]\n[pools.db]\n"
#define MAIN_ONE                          \
    "[include]\nfiles = [\"one.toml\"]\n" \
    "[general]\nadmin_username = \"admin\"\nadmin_password = \"s3cret\"\nport = 1\n[pools.db]\n"
#define USER_TOML(name) \
    "[[pools.db.users]]\nusername = \"" name "\"\npassword = \"" HASH "\"\npool_size = 1\n"

static void include_run(const struct include_row *row)
{
    struct config_row as_row = {.what = row->what, .want = row->want};
    struct failure why = {""};
    struct config *c;

    file_write(row->main_name, row->main);
    if (row->first_name != NULL)
        file_write(row->first_name, row->first);
    if (row->second_name != NULL)
        file_write(row->second_name, row->second);
    if (config_load(&c, row->main_name, &why) != 0) {
        row_judge_failure(&as_row, row->main_name, why.text);
    } else {
        row_judge_loaded(&as_row, row->main_name, c);
        config_unref(c);
    }
    unlink("one.toml");
    unlink("two.yaml");
    unlink(row->main_name);
}

TEST(config_merges_includes)
{
    static const struct include_row rows[] = {
        {"later scalars win", "m.toml", MAIN_TOML, "one.toml", "[general]\nport = 2\n", "two.yaml",
         "general: {port: 3}\n", "port=3"},
        {"arrays add up", "m.toml", MAIN_TOML, "one.toml", "[general]\nhba = [\"10.1.0.0/16\"]\n",
         "two.yaml", "general: {hba: [\"10.2.0.0/16\"]}\n",
         "hba=10.0.0.0/8, 10.1.0.0/16, 10.2.0.0/16"},
        {"lists of users add up", "m.toml", MAIN_TOML USER_TOML("a"), "one.toml", USER_TOML("b"),
         "two.yaml", "pools: {db: {users: [{username: c, password: " HASH ", pool_size: 1}]}}\n",
         "pools.db.users.2.username=c"},
        {"numbered users merge", "m.toml",
         MAIN_ONE "[pools.db.users.0]\nusername = \"a\"\npassword = \"" HASH "\"\npool_size = 1\n",
         "one.toml", "[pools.db.users.0]\npool_size = 7\n", NULL, NULL,
         "pools.db.users.0.pool_size=7"},
        {"tables merge", "m.toml", MAIN_ONE, "one.toml", "[pools.other]\nserver_port = 5433\n",
         NULL, NULL, "pools.other.server_port=5433"},
        {"an include in an include is not followed", "m.toml", MAIN_ONE, "one.toml",
         "[include]\nfiles = [\"nowhere.toml\"]\n[general]\nport = 4\n", NULL, NULL, "port=4"},
        {"a YAML main file", "m.yaml",
         "include: {files: [one.toml]}\ngeneral: {admin_username: a, admin_password: s3cret}\n"
         "pools: {}\n",
         "one.toml", "[general]\nport = 5\n", NULL, NULL, "port=5"},
        {"missing file", "m.toml", MAIN_ONE, NULL, NULL, NULL, NULL,
         "!Could not open 'one.toml': No such file or directory (os error 2)"},
        {"broken TOML include", "m.toml", MAIN_ONE, "one.toml", "[general]\nport =\n", NULL, NULL,
         "!Could not parse include file one.toml: TOML parse error at line 2, column 7"},
        {"broken YAML include", "m.toml", MAIN_TOML, "one.toml", "", "two.yaml", "general: {\n",
         "!YAML parse error: "},
        {"broken YAML include is named", "m.toml", MAIN_TOML, "one.toml", "", "two.yaml",
         "general: {\n", "!two.yaml"},
        {"clash of types", "m.toml", MAIN_ONE, "one.toml", "[general]\nport = \"2\"\n", NULL, NULL,
         "!Could not merge config file one.toml: key general.port: expected integer (from "
         "m.toml:6),"
         " received string (one.toml:2)"},
        {"clash of layouts", "m.toml", MAIN_ONE USER_TOML("a"), "one.toml",
         "[pools.db.users.0]\nusername = \"b\"\n", NULL, NULL,
         "!key pools.db.users: expected sequence (from m.toml:8), received map (one.toml:1)"},
        {"an error in an include names it", "m.toml", MAIN_ONE, "one.toml",
         "[general]\nbacklog = \"x\"\n", NULL, NULL, "!(general.backlog, one.toml:2)"},
        {"a failed check in an include names it", "m.toml", MAIN_ONE, "one.toml",
         "[general]\nworker_threads = 0\n", NULL, NULL, "!must be > 0 (one.toml:2)"},
        {"files is no list of names", "m.toml", "[include]\nfiles = [5]\n", NULL, NULL, NULL, NULL,
         "!invalid type: integer `5`, expected a string (include.files"},
        {"files is no list", "m.toml",
         "[include]\nfiles = \"one.toml\"\n[general]\nadmin_username = \"a\"\n"
         "admin_password = \"s3cret\"\n[pools]\n",
         NULL, NULL, NULL, NULL, "!invalid type: string \"one.toml\", expected a sequence"},
    };

    enter_scratch_directory();
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        include_run(&rows[i]);
}

TEST(config_chooses_the_format_by_the_name)
{
    static const char yaml[] = "general: {admin_username: a, admin_password: s3cret}\npools: {}\n";
    static const char toml[] =
        "[general]\nadmin_username = \"a\"\nadmin_password = \"s3cret\"\n[pools]\n";
    static const struct {
        const char *name;
        bool yaml;
    } rows[] = {{"c.yaml", true}, {"c.YML", true},   {"c.toml", false},    {"c.conf", false},
                {"c", false},     {"c.json", false}, {"c.yaml.bak", false}};
    struct failure why;
    struct config *c;

    enter_scratch_directory();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        file_write(rows[i].name, rows[i].yaml ? yaml : toml);
        EQ(config_load(&c, rows[i].name, &why), 0, "%s", rows[i].name);
        STR_EQ(c->path, rows[i].name);
        config_unref(c);
        file_write(rows[i].name, rows[i].yaml ? toml : yaml);
        EQ(config_load(&c, rows[i].name, &why), -1, "%s", rows[i].name);
        unlink(rows[i].name);
    }
}

TEST(config_tells_when_the_file_cannot_be_read)
{
    struct failure why;
    struct config *c;

    enter_scratch_directory();
    EQ(config_load(&c, "absent.toml", &why), -1);
    STR_EQ(why.text, "Configuration error: Could not open 'absent.toml': No such file or directory "
                     "(os error 2)");
    EQ(config_load(&c, ".", &why), -1);
    CHECK(strstr(why.text, "Could not read config file: Is a directory (os error 21)") != NULL,
          "%s", why.text);
    file_write("bad.toml", "a = \"\xff\"\n");
    EQ(config_load(&c, "bad.toml", &why), -1);
    CHECK(strstr(why.text, "Could not read config file: ") != NULL, "%s", why.text);
    unlink("bad.toml");
}

static struct config *load_text(const char *yaml)
{
    struct failure why = {""};
    struct config *c = NULL;

    enter_scratch_directory();
    file_write("text.yaml", yaml);
    if (config_load(&c, "text.yaml", &why) != 0)
        fprintf(stderr, "%s\n", why.text);
    unlink("text.yaml");
    INVARIANT(c != NULL);
    return c;
}

TEST(config_resolves_effective_values)
{
    static const char text[] =
        "general:\n"
        "  {admin_username: a, admin_password: s3cret, connect_timeout: 3s, idle_timeout: 10m,\n"
        "   server_lifetime: 20m, prepared_statements_cache_size: 100, fallback_cooldown: 7s,\n"
        "   startup_parameters: {work_mem: 1MB, timezone: UTC}, server_tls_mode: prefer}\n"
        "pools:\n"
        "  b:\n"
        "    connect_timeout: 500\n"
        "    idle_timeout: 0\n"
        "    server_lifetime: 1000\n"
        "    server_database: real\n"
        "    application_name: app\n"
        "    scaling_fast_retries: 3\n"
        "    server_tls_mode: disable\n"
        "    startup_parameters: {WORK_MEM: 2MB, application_name: named}\n"
        "    users:\n"
        "      - {username: u, pool_size: 5, server_lifetime: 50, pool_mode: session}\n"
        "      - {username: v, pool_size: 6, server_username: r, server_password: hunter2}\n"
        "    auth_query: {query: q, user: x, server_user: shared, min_pool_size: 4}\n"
        "  a:\n"
        "    users: [{username: u, password: '', pool_size: 1, min_pool_size: 1}]\n"
        "    prepared_statements_cache_size: 0\n"
        "    auth_query: {query: q, user: x, min_pool_size: 4}\n";
    struct config *c = load_text(text);

    EQ(c->pool_count, 2);
    STR_EQ(c->pools[0].name, "a");
    CHECK(config_pool(c, "b") == &c->pools[1]);
    CHECK(config_pool(c, "c") == NULL);
    CHECK(config_user(&c->pools[1], "w") == NULL);

    const struct effective *u = &config_user(config_pool(c, "b"), "u")->effective;
    EQ(u->mode, POOL_MODE_SESSION);
    EQ(u->connect_timeout_ms, 500);
    EQ(u->idle_timeout_ms, 0);
    EQ(u->server_lifetime_ms, 50);
    EQ(u->query_wait_timeout_ms, 5000);
    EQ(u->pool_size, 5);
    EQ(u->min_pool_size, 0);
    EQ(u->scaling_fast_retries, 3);
    EQ(u->prepared_cache_size, 100);
    EQ(u->server_prepared_cache_size, 100);
    EQ(u->client_anonymous_cache_size, 100);
    EQ(u->server_tls_mode, SERVER_TLS_DISABLE);
    EQ(u->fallback_cooldown_ms, 7000);
    EQ(u->fallback_lifetime_ms, 7000);
    EQ(u->patroni_api_timeout_ms, 5000);
    STR_EQ(u->server_database, "real");
    STR_EQ(u->server_user, "u");
    CHECK(u->server_password == NULL);
    STR_EQ(u->application_name, "named");
    EQ(u->startup_parameters.count, 3);
    STR_EQ(u->startup_parameters.items[0].name, "TimeZone");
    STR_EQ(u->startup_parameters.items[2].name, "work_mem");
    STR_EQ(u->startup_parameters.items[2].value, "2MB");

    const struct effective *v = &config_user(config_pool(c, "b"), "v")->effective;
    EQ(v->mode, POOL_MODE_TRANSACTION);
    EQ(v->server_lifetime_ms, 1000);
    STR_EQ(v->server_user, "r");
    STR_EQ(v->server_password, "hunter2");
    CHECK(!effective_equal(u, v));

    const struct effective *shared = &config_pool(c, "b")->auth_query->effective;
    STR_EQ(shared->server_user, "shared");
    STR_EQ(shared->server_password, "");
    EQ(shared->pool_size, 40);
    EQ(shared->min_pool_size, 0, "only pass-through users have a minimum");

    const struct effective *w = &config_user(config_pool(c, "a"), "u")->effective;
    EQ(w->connect_timeout_ms, 3000);
    EQ(w->server_lifetime_ms, 1200000);
    EQ(w->min_pool_size, 1);
    EQ(w->prepared_cache_size, 1, "a pool's 0 keeps statements working");
    EQ(w->server_prepared_cache_size, 0);
    EQ(w->server_tls_mode, SERVER_TLS_PREFER);
    STR_EQ(w->server_database, "a");
    STR_EQ(w->application_name, "pg_doorman");
    CHECK(config_pool(c, "a")->auth_query->effective.server_user == NULL);
    EQ(config_pool(c, "a")->auth_query->effective.min_pool_size, 4);
    config_unref(c);
}

#define EQUAL_BASE "{admin_username: a, admin_password: s3cret"

TEST(config_equal_compares_meaning)
{
    static const struct {
        const char *what;
        const char *a;
        const char *b;
        bool equal;
    } rows[] = {
        {"the same text", "general: " EQUAL_BASE "}\npools: {}\n",
         "general: " EQUAL_BASE "}\npools: {}\n", true},
        {"a default spelt out", "general: " EQUAL_BASE "}\npools: {}\n",
         "general: " EQUAL_BASE ", port: 5432}\npools: {}\nweb: {}\n", true},
        {"another spelling", "general: " EQUAL_BASE ", connect_timeout: 5s}\npools: {}\n",
         "general: " EQUAL_BASE ", connect_timeout: 5000}\npools: {}\n", true},
        {"another number", "general: " EQUAL_BASE ", connect_timeout: 5s}\npools: {}\n",
         "general: " EQUAL_BASE ", connect_timeout: 6s}\npools: {}\n", false},
        {"comments in hba rules",
         "general: " EQUAL_BASE ", pg_hba: \"host all all all md5\"}\npools: {}\n",
         "general: " EQUAL_BASE ", pg_hba: \"# x\\n\\nhost all all all md5\"}\npools: {}\n", true},
        {"other hba rules",
         "general: " EQUAL_BASE ", pg_hba: \"host all all all md5\"}\npools: {}\n",
         "general: " EQUAL_BASE ", pg_hba: \"host all all all trust\"}\npools: {}\n", false},
        {"order of users",
         "general: " EQUAL_BASE
         "}\npools: {d: {users: [{username: x, pool_size: 1}, {username: y, pool_size: 1}]}}\n",
         "general: " EQUAL_BASE
         "}\npools: {d: {users: [{username: y, pool_size: 1}, {username: x, pool_size: 1}]}}\n",
         true},
        {"a user more",
         "general: " EQUAL_BASE "}\npools: {d: {users: [{username: x, pool_size: 1}]}}\n",
         "general: " EQUAL_BASE
         "}\npools: {d: {users: [{username: x, pool_size: 1}, {username: y, pool_size: 1}]}}\n",
         false},
        {"another password",
         "general: " EQUAL_BASE "}\npools: {d: {users: [{username: x, password: "
         "a, pool_size: 1}]}}\n",
         "general: " EQUAL_BASE
         "}\npools: {d: {users: [{username: x, password: b, pool_size: 1}]}}\n",
         false},
        {"spelling of a parameter",
         "general: " EQUAL_BASE ", startup_parameters: {TIMEZONE: x}}\npools: {}\n",
         "general: " EQUAL_BASE ", startup_parameters: {timezone: x}}\npools: {}\n", true},
        {"auth_query gone",
         "general: " EQUAL_BASE "}\npools: {d: {auth_query: {query: q, user: u}}}\n",
         "general: " EQUAL_BASE "}\npools: {d: {}}\n", false},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct config *a = load_text(rows[i].a);
        struct config *b = load_text(rows[i].b);
        EQ(config_equal(a, b), rows[i].equal, "%s", rows[i].what);
        config_unref(a);
        config_unref(b);
    }
}

TEST(config_is_shared_by_reference)
{
    struct config *c = load_text("general: " EQUAL_BASE "}\npools: {}\n");

    CHECK(config_ref(c) == c);
    config_unref(c);
    STR_EQ(c->general.admin_username, "a");
    config_unref(c);
}

TEST(config_remarks_on_includes)
{
    struct failure why;
    struct config *c;

    enter_scratch_directory();
    file_write("m.toml", MAIN_ONE);
    file_write("one.toml", "");
    EQ(config_load(&c, "m.toml", &why), 0);
    EQ(c->remarks.count, 1);
    STR_EQ(c->remarks.items[0], "Merge config with include file: one.toml");
    config_unref(c);
    static const char *const files[] = {"m.toml", "one.toml", "row.yaml", "row.toml"};
    leave_scratch_directory(files, COUNT_OF(files));
}
