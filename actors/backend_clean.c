/* What a lease left behind is put right while nobody waits: the client has its answer already. */
#define LOG_MODULE "pg_doorman::server"
#include "actors/backend_internal.h"

#include "runtime/log.h"

#include <errno.h>
#include <stdio.h>

/* A message that ends with ReadyForQuery; its reply is swallowed: 0 when it succeeded. */
static int exchange(struct worker *w, struct backend *b, const char *sql)
{
    struct message_reader reader = {
        .conn = &b->conn, .deadline_us = clock_us() + b->effective->connect_timeout_ms * 1000};
    uint8_t storage[512];
    struct writer out;
    struct frame frame;
    struct parameter pair;
    int error = 0;
    int result = -1;
    bool refused = false;

    writer_init_fixed(&out, storage, sizeof storage);
    if (sql != NULL) {
        write_query(&out, sql);
    } else {
        writer_begin(&out, 'S');
        writer_end(&out);
    }
    INVARIANT(!out.failed);
    if (conn_write(w, &b->conn, out.at, out.len, reader.deadline_us) != 0)
        return -1;
    while (reader_next(w, &reader, &frame, &error) == 0) {
        if (frame.type == 'E')
            refused = true;
        if (frame.type == 'S' && read_parameter_status(frame.body, frame.body_len, &pair) == 0)
            backend_set_parameter(b, pair.name, pair.value);
        if (frame.type == 'Z' && frame.body_len == 1) {
            b->status = (char)frame.body[0];
            result = refused ? -1 : 0;
            break;
        }
    }
    reader_free(&reader);
    return result;
}

int backend_clean(struct worker *w, struct backend *b)
{
    char sql[128];

    if (b->dirt & DIRT_SYNC) {
        if (exchange(w, b, NULL) != 0)
            return -1;
        b->needs_sync = false;
        b->dirt &= (uint8_t)~DIRT_SYNC;
        if (b->status == 'I')
            b->dirt &= (uint8_t)~DIRT_ROLLBACK;
    }
    if (b->dirt & DIRT_ROLLBACK) {
        log_warn("[%s@%s] server returned in transaction, rolling back pid=%d", b->shared->user,
                 b->shared->database, b->pid);
        if (exchange(w, b, "ROLLBACK") != 0)
            return -1;
        b->dirt &= (uint8_t)~DIRT_ROLLBACK;
        b->needs_sync = false;
    }
    if (b->dirt != 0 && b->effective->cleanup_server_connections) {
        snprintf(sql, sizeof sql, "RESET ROLE;%s%s%s", b->dirt & DIRT_SET ? "RESET ALL;" : "",
                 b->dirt & DIRT_PREPARE ? "DEALLOCATE ALL;" : "",
                 b->dirt & DIRT_DECLARE ? "CLOSE ALL;" : "");
        log_info("[%s@%s] cleaning server pid=%d: set=%d prepare=%d declare=%d", b->shared->user,
                 b->shared->database, b->pid, (b->dirt & DIRT_SET) != 0,
                 (b->dirt & DIRT_PREPARE) != 0, (b->dirt & DIRT_DECLARE) != 0);
        if (exchange(w, b, sql) != 0)
            return -1;
        if ((b->dirt & DIRT_PREPARE) && b->statements != NULL)
            statement_set_clear(b->statements);
    }
    b->dirt = 0;
    return b->status == 'I' ? 0 : -1;
}

int backend_check(struct worker *w, struct backend *b)
{
    return exchange(w, b, ";");
}
