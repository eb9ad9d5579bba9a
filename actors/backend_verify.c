/* What functions and DO blocks leave behind is in no statement's text. Who does not want to trust
 * them has settings reset and PostgreSQL asked for all else at the end of each lease, while nobody
 * waits. */
#define LOG_MODULE "pg_doorman::server"
#include "actors/backend_internal.h"

#include <stdlib.h>

/* Everything by its full name: the search_path may be anybody's. */
#define EQUAL           " OPERATOR(pg_catalog.=) "
#define PLUS            " OPERATOR(pg_catalog.+) "
#define IF_ANY(from, n) "(CASE WHEN EXISTS (SELECT FROM " from ") THEN " #n " ELSE 0 END)"

static void put_text(struct writer *out, const char *text)
{
    writer_raw(out, text, strlen(text));
}

static void put_literal(struct writer *out, const char *text)
{
    writer_u8(out, '\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            writer_u8(out, '\'');
        writer_u8(out, (uint8_t)*text);
    }
    writer_u8(out, '\'');
}

int backend_verify(struct worker *w, struct backend *b, uint16_t *found)
{
    struct exchange x = {0};
    struct writer out;

    _Static_assert(SCAN_PREPARE == 2 && SCAN_DECLARE == 4 && SCAN_ROLE == 8 &&
                       SCAN_AUTHORIZATION == 16 && SCAN_LISTEN == 32 && SCAN_ADVISORY == 64 &&
                       SCAN_TEMP == 128,
                   "the numbers below");
    writer_init(&out);
    put_text(&out, "RESET ALL;SELECT ");
    /* Shared statements are there on purpose. */
    put_text(&out, b->statements == NULL ? IF_ANY("pg_catalog.pg_prepared_statements", 2)
                                         : IF_ANY("pg_catalog.pg_prepared_statements WHERE NOT "
                                                  "pg_catalog.left(name, 8)" EQUAL "'DOORMAN_'",
                                                  2));
    put_text(&out, PLUS IF_ANY("pg_catalog.pg_cursors WHERE is_holdable", 4));
    put_text(&out, PLUS "(CASE WHEN pg_catalog.current_setting('role')" EQUAL
                        "'none' THEN 0 ELSE 8 END)" PLUS "(CASE WHEN session_user" EQUAL);
    put_literal(&out, b->effective->server_user);
    put_text(&out, " THEN 0 ELSE 16 END)" PLUS IF_ANY("pg_catalog.pg_listening_channels()", 32));
    put_text(&out, PLUS IF_ANY("pg_catalog.pg_locks WHERE locktype" EQUAL "'advisory' AND pid" EQUAL
                               "pg_catalog.pg_backend_pid()",
                               64));
    put_text(&out, PLUS IF_ANY("pg_catalog.pg_class WHERE relnamespace" EQUAL
                               "pg_catalog.pg_my_temp_schema() UNION ALL SELECT FROM "
                               "pg_catalog.pg_proc WHERE pronamespace" EQUAL
                               "pg_catalog.pg_my_temp_schema()",
                               128));
    writer_u8(&out, 0);
    INVARIANT(!out.failed);
    x.sql = (const char *)out.at;
    int result = backend_exchange(w, b, &x);
    writer_free(&out);
    *found = (uint16_t)strtoul(x.cell, NULL, 10) & DIRT_STATE;
    return result;
}
