#include "proto/scan.h"
#include "tests/unit/unit.h"

#include <time.h>

enum {
    SET = SCAN_SET,
    PRE = SCAN_PREPARE,
    DEC = SCAN_DECLARE,
    ROLE = SCAN_ROLE,
    AUTH = SCAN_AUTHORIZATION,
    LIS = SCAN_LISTEN,
    ADV = SCAN_ADVISORY,
    TEMP = SCAN_TEMP,
    SEQ = SCAN_SEQUENCES,
    COPIES = SCAN_COPIES,
    ALL = SCAN_KINDS,
    ANY_SET = SET | ROLE | AUTH,
    LASTS = SCAN_LASTS,
    ONE = SCAN_RESET_ONE,
};

struct row {
    const char *sql;
    unsigned leaves; /* and is not cleared again by the same text */
    unsigned clears;
};

static struct scan_effect scan(const char *sql)
{
    /* Of exactly that size, so that a sanitizer sees a read too far. */
    size_t len = strlen(sql);
    uint8_t *copy = malloc(len == 0 ? 1 : len);

    memcpy(copy, sql, len);
    struct scan_effect e = scan_sql(copy, len);
    free(copy);
    return e;
}

static const struct row rows[] = {
    /* the ordinary */
    {"", 0, 0},
    {";", 0, 0},
    {" ", 0, 0},
    {"SELECT 1", 0, 0},
    {"select * from t where a = $1;", 0, 0},
    {"INSERT INTO t (a, b) VALUES (1, 'x')", 0, 0},
    {"SELECT nextval('s'), setval('s', 1)", 0, 0},
    {"SELECT a.interval, b.server FROM service", 0, 0},
    {"COPY t FROM STDIN", COPIES, 0},
    {" /* as a */ -- copy\n\vcOpY(SELECT 1) TO STDOUT", COPIES, 0},
    {"SELECT 1; COPY t FROM STDIN; SELECT 2", COPIES, 0},
    {"SELECT 'a\\'; COPY t FROM STDIN; --'", COPIES, 0},
    {"SELECT copy FROM t WHERE a = '; COPY t FROM STDIN'", 0, 0},
    {"COPY_IT", 0, 0},
    {"SELECT currval('s')", SEQ, 0},
    {"select pg_catalog.LastVal()", SEQ, 0},
    {"INSERT INTO t VALUES (1); SELECT \"lastval\" ()", SEQ, 0},
    {"SELECT set_config('a', 'b', false), lastval()", ANY_SET | SEQ, 0},
    {"PREPARE p AS SELECT lastval()", PRE | SEQ | LASTS, 0},
    {"UPDATE t SET a = 1 WHERE b = 2", 0, 0},
    {"DELETE FROM t WHERE a = 1", 0, 0},
    {"BEGIN", 0, 0},
    {"COMMIT", 0, 0},
    {"BEGIN; UPDATE t SET x = 1; COMMIT;", 0, 0},
    {"WITH x AS (SELECT 1) SELECT * FROM x", 0, 0},
    {"TRUNCATE t; VACUUM t; ANALYZE", 0, 0},
    {"EXPLAIN SELECT 1", 0, 0},
    {"SHOW work_mem", 0, 0},
    {"SAVEPOINT a", 0, 0},
    {"EXECUTE p(1)", 0, 0},
    {"FETCH 1 FROM c", 0, 0},
    {"NOTIFY x", 0, 0},
    {"ALTER ROLE x SET work_mem = '1MB'", 0, 0},
    {"ALTER TABLE t SET (fillfactor = 70)", 0, 0},
    /* settings */
    {"SET a = 1", SET, 0},
    {"set work_mem to '1MB'", SET, 0},
    {"  \n\tSeT a TO 1", SET, 0},
    {"-- comment\nSET a = 1", SET, 0},
    {"/* a /* b */ c */ SET a = 1", SET, 0},
    {"SET/**/a/**/=/**/1", SET, 0},
    {"SET SESSION a = 1", SET, 0},
    {"SET app.user = 'x'", SET, 0},
    {"SET \"a\" = 1", ANY_SET, 0},
    {"SET TIME ZONE 'UTC'", ANY_SET, 0},
    {"SET NAMES 'utf8'", ANY_SET, 0},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", SET, 0},
    {"SELECT 1; SET a = 1", SET, 0},
    {"SELECT ';'; SET a = 1; SELECT 2", SET, 0},
    {"SELECT 1;SET a=1", SET, 0},
    {"SELECT 1 /* ; */ ; -- ;\n SET a = 1", SET, 0},
    {"BEGIN; SET a = 1; ROLLBACK", SET, 0},
    /* that end with the transaction */
    {"SET LOCAL a = 1", 0, 0},
    {"set local role x", 0, 0},
    {"SET LOCAL SESSION AUTHORIZATION x", 0, 0},
    {"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", 0, 0},
    {"SET CONSTRAINTS ALL DEFERRED", 0, 0},
    {"BEGIN; SET LOCAL a = 1; SELECT 1; COMMIT", 0, 0},
    /* inside of quotes */
    {"SELECT '; SET a = 1'", 0, 0},
    {"SELECT 'it''s; SET a = 1'", 0, 0},
    {"SELECT \"; SET a = 1\" FROM t", 0, 0},
    {"SELECT \"a\"\"; SET a = 1\" FROM t", 0, 0},
    {"SELECT $$; SET a = 1$$", 0, 0},
    {"SELECT $a$ $$; $b$; SET a = 1 $a$", 0, 0},
    {"SELECT $a$ x $a$; SET a = 1", SET, 0},
    {"SELECT E'\\'; SET a = 1'", 0, 0},
    {"SELECT e'\\\\'; SET a = 1", SET, 0},
    {"SELECT 'a\\\\'; SET a = 1", SET, 0},
    {"SELECT a$x$ FROM t; SET a = 1", SET, 0},
    {"SELECT $1; SET a = 1; SELECT $1", SET, 0},
    {"SELECT like'x'; SET a = 1", SET, 0},
    {"-- SET a = 1\nSELECT 1; -- SET b", 0, 0},
    /* that depends on standard_conforming_strings: left to the tags */
    {"SELECT 'a\\'; RESET ALL", 0, 0},
    {"RESET ALL; SELECT 'x", 0, 0},
    /* reset again */
    {"RESET ALL", 0, SET},
    {"reset all;", 0, SET},
    {"RESET a", 0, ONE},
    {"RESET app.user", 0, ONE},
    {"RESET ROLE", 0, ROLE},
    {"RESET SESSION AUTHORIZATION", 0, AUTH},
    {"RESET TIME ZONE", 0, 0},
    {"SET a = 1; RESET ALL", 0, SET},
    {"RESET ALL; SET a = 1", SET, 0},
    {"SET a = 1; RESET a", SET, ONE},
    {"SET A = 1; RESET a", SET, ONE},
    {"SET a = 1; SET b = 1; RESET a", SET, 0},
    {"SET a = 1; RESET b", SET, 0},
    {"RESET a; RESET b", 0, 0},
    {"RESET a; SET a = 1", SET, 0},
    {"BEGIN; RESET ALL; ROLLBACK", 0, 0},
    {"BEGIN; RESET ALL; ABORT", 0, 0},
    {"ROLLBACK; RESET ALL", 0, SET},
    {"DISCARD ALL", 0, ALL},
    {"DISCARD PLANS", 0, 0},
    {"DISCARD SEQUENCES", 0, 0},
    /* set_config */
    {"SELECT set_config('a', 'b', false)", ANY_SET, 0},
    {"SELECT SET_CONFIG('a', 'b', $1)", ANY_SET, 0},
    {"SELECT pg_catalog.\"set_config\"('a', 'b', false)", ANY_SET, 0},
    {"SELECT set_config('a', 'b', true)", 0, 0},
    {"select set_config('a', $1, true), set_config( 'b' , 'c,(''' , TRUE ) from t", 0, 0},
    {"select set_config('a', $1, true), set_config('b', $2, false)", ANY_SET, 0},
    {"SELECT set_config('a', f(1, 2, true), 'true')", 0, 0},
    {"SELECT set_config('a', f(1, 2, true), 'false')", ANY_SET, 0},
    {"SELECT set_config('a', 'b', false /* , true */)", ANY_SET, 0},
    {"SELECT set_config('a', 'b', not true)", ANY_SET, 0},
    {"SELECT set_config(is_local => true, setting_name => 'a', new_value => 'b')", ANY_SET, 0},
    {"SELECT set_config('a', E'\\'', true)", ANY_SET, 0},
    {"SELECT set_config", ANY_SET, 0},
    {"SELECT set_config(", ANY_SET, 0},
    {"DO $$ BEGIN PERFORM set_config('a', 'b', false); END $$", ANY_SET, 0},
    {"RESET ALL; SELECT set_config('a', 'b', false)", ANY_SET, 0},
    {"SELECT current_setting('a'), configuration FROM t", 0, 0},
    {"UPDATE pg_settings SET setting = 1", ANY_SET, 0},
    {"SELECT * FROM pg_settings", 0, 0},
    /* roles */
    {"SET ROLE x", ROLE, 0},
    {"SET SESSION ROLE x", ROLE, 0},
    {"SET ROLE NONE", 0, ROLE},
    {"SET role = 'none'", ROLE, 0},
    {"SET SESSION AUTHORIZATION x", AUTH, 0},
    {"SET SESSION SESSION AUTHORIZATION x", AUTH, 0},
    {"SET session_authorization TO x", AUTH, 0},
    {"SET SESSION AUTHORIZATION DEFAULT", 0, AUTH},
    {"SET ROLE x; RESET ROLE", 0, ROLE},
    {"SET ROLE x; RESET ALL", ROLE, SET},
    /* prepared statements */
    {"PREPARE p AS SELECT 1", PRE, 0},
    {"PREPARE TRANSACTION 'x'", 0, 0},
    {"DEALLOCATE p", 0, 0},
    {"DEALLOCATE ALL", 0, PRE},
    {"DEALLOCATE PREPARE ALL", 0, PRE},
    {"PREPARE p AS SELECT 1; DEALLOCATE ALL", 0, PRE},
    {"PREPARE p AS SELECT pg_advisory_lock(1)", PRE | ADV | LASTS, 0},
    /* cursors */
    {"DECLARE c CURSOR WITH HOLD FOR SELECT 1", DEC, 0},
    {"DECLARE c CURSOR FOR SELECT 1", DEC, 0},
    {"CLOSE c", 0, 0},
    {"CLOSE ALL", 0, DEC},
    {"DECLARE c CURSOR FOR SELECT 1; CLOSE c", DEC, 0},
    {"DECLARE c CURSOR FOR SELECT 1; CLOSE ALL", 0, DEC},
    /* channels */
    {"LISTEN x", LIS, 0},
    {"UNLISTEN x", 0, 0},
    {"UNLISTEN *", 0, LIS},
    {"LISTEN x; UNLISTEN *", 0, LIS},
    /* advisory locks */
    {"SELECT pg_advisory_lock(1)", ADV, 0},
    {"select PG_ADVISORY_LOCK(1)", ADV, 0},
    {"select pg_try_advisory_lock(1)", ADV, 0},
    {"select pg_advisory_lock_shared(1, 2)", ADV, 0},
    {"select pg_try_advisory_lock_shared(1, 2)", ADV, 0},
    {"select 'a very long beginning', pg_catalog.pg_advisory_lock(id) from t", ADV, 0},
    {"WITH x AS (SELECT pg_advisory_lock(1)) SELECT 1", ADV, 0},
    {"DO 'BEGIN PERFORM pg_advisory_lock(1); END'", ADV, 0},
    {"SELECT pg_advisory_xact_lock(1)", 0, 0},
    {"SELECT pg_try_advisory_xact_lock_shared(1)", 0, 0},
    {"SELECT pg_advisory_unlock(1)", 0, 0},
    {"SELECT pg_advisory_unlock_all()", 0, ADV},
    {"select pg_advisory_unlock_all ( ) ;", 0, ADV},
    {"SELECT pg_advisory_unlock_all() FROM t", 0, 0},
    {"SELECT pg_advisory_unlock_all(), pg_advisory_lock(1)", ADV, 0},
    {"SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock_all()", ADV, 0},
    {"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0, 0},
    /* temporary tables */
    {"CREATE TEMP TABLE t (x int)", TEMP, 0},
    {"create temporary table t as select 1", TEMP, 0},
    {"CREATE LOCAL TEMP TABLE t (x int)", TEMP, 0},
    {"CREATE GLOBAL\n TEMPORARY TABLE t (x int)", TEMP, 0},
    {"CREATE OR REPLACE TEMP VIEW v AS SELECT 1", TEMP, 0},
    {"CREATE /* x */ TEMP TABLE t (x int)", TEMP, 0},
    {"CREATE -- x\n TEMP TABLE t (x int)", TEMP, 0},
    {"CREATE TABLE pg_temp.t (x int)", TEMP, 0},
    {"SELECT 1 AS x INTO TEMP t", TEMP, 0},
    {"SELECT 1 AS x INTO TEMPORARY TABLE t", TEMP, 0},
    {"CREATE TABLE t (x int)", 0, 0},
    {"SELECT temp, temperature FROM template", 0, 0},
    {"INSERT INTO sensors (temp) VALUES (1)", 0, 0},
    {"INSERT INTO temp_readings VALUES (1)", 0, 0},
    {"INSERT INTO t SELECT timestamp, company, temp FROM x", 0, 0},
    {"CREATE TEMP TABLE t (x int) ON COMMIT DROP", 0, 0},
    {"create temp table t on commit\n drop as select 1", 0, 0},
    {"CREATE TEMP TABLE t (x int) ON COMMIT DELETE ROWS", TEMP, 0},
    {"CREATE TEMP TABLE t (x int DEFAULT 'on commit drop')", TEMP, 0},
    {"CREATE TEMP TABLE t (x int); DROP TABLE u", TEMP, 0},
    {"CREATE TEMP TABLE t (x int) ON COMMIT DROP; CREATE TEMP TABLE u (x int)", TEMP, 0},
    {"CREATE TEMP TABLE t (x int); CREATE TEMP TABLE u (x int) ON COMMIT DROP", TEMP, 0},
    {"CREATE TEMP", TEMP, 0},
    {"DISCARD TEMP", 0, TEMP},
    {"DISCARD TEMPORARY", 0, TEMP},
    {"CREATE TEMP TABLE t (x int); DISCARD TEMP", TEMP, 0},
    /* a body is not run */
    {"CREATE FUNCTION f() RETURNS void BEGIN ATOMIC SELECT 1; SELECT pg_advisory_unlock_all(); END",
     0, 0},
    /* what the clean-up of drivers does */
    {"SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;", 0,
     ADV | DEC | LIS | SET},
    {"SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; "
     "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP",
     0, AUTH | SET | DEC | LIS | ADV | TEMP},
};

TEST(scan_knows_what_each_text_leaves_and_clears)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scan_effect e = scan(rows[i].sql);

        EQ(e.leaves & ~(e.clears & SCAN_KINDS), rows[i].leaves, "%s", rows[i].sql);
        EQ(e.clears, rows[i].clears, "%s", rows[i].sql);
    }
}

/* Wherever the sixteen-byte steps begin and end. */
TEST(scan_finds_words_at_every_offset)
{
    static const struct row words[] = {
        {"pg_advisory_lock(1)", ADV, 0}, {"set_config(1)", ANY_SET, 0}, {"pg_temp.x", TEMP, 0},
        {"currval('s')", SEQ, 0},        {"lastval()", SEQ, 0},         {";LISTEN x", LIS, 0},
    };
    char sql[128];

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        for (int before = 0; before < 50; before++) {
            for (int after = 0; after < 20; after++) {
                snprintf(sql, sizeof sql, "SELECT %.*s %s %.*s", before,
                         "1111111111111111111111111111111111111111111111111111111111", words[i].sql,
                         after, "22222222222222222222222222");
                EQ(scan(sql).leaves, words[i].leaves, "%s", sql);
            }
        }
    }
}

TEST(scan_tells_settings_apart_by_name)
{
    EQ(scan("SET a = 1").setting, scan("RESET A").setting, "case");
    EQ(scan("SET a.b = 1").setting, scan("reset a . B").setting, "dots");
    CHECK(scan("SET a = 1").setting != scan("SET b = 1").setting);
    CHECK(scan("SET a.b = 1").setting != scan("SET ab = 1").setting);
    EQ(scan("SET a = 1; SET b = 1").setting, SCAN_MANY);
    EQ(scan("SELECT 1").setting, 0);
}

TEST(scan_tells_what_it_understood)
{
    EQ(scan("SET LOCAL a = 1").seen, SCAN_SET);
    EQ(scan("SET ROLE x").seen & SCAN_SET, SCAN_SET);
    EQ(scan("SELECT 'a\\'; SET a = 1; --'").seen, 0, "doubt");
    EQ(scan("SELECT 1").seen, 0);
}

TEST(scan_of_a_beginning_clears_nothing)
{
    struct scan_effect e = scan_sql_start((const uint8_t *)"LISTEN x; RESET ALL; SELECT '", 29);

    EQ(e.leaves, LIS | COPIES);
    EQ(e.clears, 0);
    EQ(e.seen, 0);
}

TEST(scan_of_functions_by_number)
{
    EQ(scan_function(2880), ADV, "pg_advisory_lock");
    EQ(scan_function(2888), ADV, "pg_try_advisory_lock");
    EQ(scan_function(2884), 0, "pg_advisory_unlock");
    EQ(scan_function(2078), ANY_SET, "set_config");
    EQ(scan_function(1575), SEQ, "currval");
    EQ(scan_function(2559), SEQ, "lastval");
    EQ(scan_function(1574), 0, "nextval");
    EQ(scan_function(952), 0, "lo_open");
}

/* `unit` again and again, then `tail`: a megabyte. Returns seconds of CPU. */
static double scan_repeated(const char *unit, const char *tail)
{
    enum { LEN = 1 << 20 };
    size_t len = strlen(unit);
    uint8_t *text = malloc(LEN + 64);
    size_t at = 0;
    struct timespec from;
    struct timespec to;

    for (; at + len <= LEN; at += len)
        memcpy(text + at, unit, len);
    memcpy(text + at, tail, strlen(tail));
    at += strlen(tail);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    scan_sql(text, at);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    free(text);
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

/* Words that ask for a look ahead, a megabyte of each. The first three took 40 s of CPU, as long as
 * each was looked at to the end of the text. */
TEST(scan_takes_no_more_than_its_length_asks_for)
{
    static const char *const texts[][2] = {
        {"set_config(", ""},
        {"set_config('a',(", ""},
        {"set_config('a',", ""},
        {"set_config('a', 'b', (", "true)"},
        {"create temp ", ""},
        {"create temp x ", "on commit drop"},
        {"x temp ", ""},
        {"select x, temp from t ", "-- x"},
        {"pg_settings ", ""},
        {"set_config ", ""},
        {"into temp drop ", ""},
        {"set_config('", ""},
        {"$$ $$ set_config(", ")"},
        {"currval(", ""},
        {"/*", "*/"},
        {"$a$ ", "set_config('a', 'b', true)"},
        {"set_config('a',", "true)"},
    };

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        double seconds = scan_repeated(texts[i][0], texts[i][1]);

        CHECK(seconds < 5, "%s: %.1f s", texts[i][0], seconds);
    }
    /* What is well-formed is believed, however much of it there is. */
    static const char first[] = "SELECT 1", again[] = ", set_config('a', 'b', true)";
    char *many = calloc(1, sizeof first + 1000 * sizeof again);
    memcpy(many, first, sizeof first - 1);
    for (size_t i = 0; i < 1000; i++)
        memcpy(many + sizeof first - 1 + i * (sizeof again - 1), again, sizeof again - 1);
    EQ(scan(many).leaves, 0);
    free(many);
}

/* Prints what a scan costs; asserts nothing about time. With SCAN_BENCH in the environment. */
TEST(scan_is_quick)
{
    static const char *const texts[] = {
        "SELECT 1",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;",
        "UPDATE pgbench_accounts SET abalance = abalance + -123 WHERE aid = 1234567;",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES "
        "(12, 1, 1234567, -123, CURRENT_TIMESTAMP);",
        "SELECT u.id, u.name, u.email, u.created_at, o.id, o.total, o.currency, o.created_at FROM "
        "users u JOIN orders o ON o.user_id = u.id LEFT JOIN payments p ON p.order_id = o.id WHERE "
        "u.tenant_id = $1 AND o.created_at > $2 AND o.state IN ('open', 'paid') ORDER BY "
        "o.created_at DESC LIMIT 50 OFFSET $3",
        "BEGIN; UPDATE t SET a = 1 WHERE b = 'x'; COMMIT",
        "SET statement_timeout = 1000",
    };
    enum { ROUNDS = 2000000 };

    if (getenv("SCAN_BENCH") == NULL)
        return;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        size_t len = strlen(texts[i]);
        struct timespec from;
        struct timespec to;
        uint32_t sum = 0;

        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int n = 0; n < ROUNDS; n++) {
            sum += scan_sql((const uint8_t *)texts[i], len).leaves;
            __asm__ volatile("" : "+r"(sum)::"memory");
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
        printf("%6.1f ns  %3zu bytes  %.60s\n", ns / ROUNDS, len, texts[i]);
    }
}
