/* One run of auth_query's query, with the user's name as its parameter. */
#include "actors/auth_query_result.h"
#include "actors/backend_internal.h"

#include <errno.h>
#include <stdio.h>

enum { LOOKUP_LIMIT_US = 5000000 };

/* Parse, Bind, Describe, Execute, Sync, all without names. The parameter's type is for PostgreSQL
 * to tell; it and all results are text. */
static void write_lookup(struct writer *out, const char *query, const char *user)
{
    size_t len = strlen(user);

    writer_begin(out, 'P');
    writer_string(out, "");
    writer_string(out, query);
    writer_u16(out, 0);
    writer_end(out);
    writer_begin(out, 'B');
    writer_string(out, "");
    writer_string(out, "");
    writer_u16(out, 0);
    writer_u16(out, 1);
    writer_u32(out, (uint32_t)len);
    writer_raw(out, user, len);
    writer_u16(out, 0);
    writer_end(out);
    writer_begin(out, 'D');
    writer_u8(out, 'P');
    writer_string(out, "");
    writer_end(out);
    writer_begin(out, 'E');
    writer_string(out, "");
    writer_u32(out, 0);
    writer_end(out);
    writer_begin(out, 'S');
    writer_end(out);
}

static void note_error(struct lookup_result *r, const struct frame *frame)
{
    struct error_fields fields;

    if (read_error(frame->body, frame->body_len, &fields) != 0) {
        fail(&r->problem, "the server reports an error that does not parse");
        return;
    }
    fail(&r->problem, "%.*s: %.*s", (int)fields.sqlstate.len, (const char *)fields.sqlstate.at,
         (int)fields.message.len, (const char *)fields.message.at);
}

/* What is wrong with one message is known at the end; the rest has to be read all the same. */
static void take_message(struct lookup_result *r, const char *user, const struct frame *frame)
{
    if (r->problem.text[0] != '\0')
        return;
    if (frame->type == 'E')
        note_error(r, frame);
    if (frame->type == 'T')
        (void)!lookup_result_columns(r, user, frame->body, frame->body_len);
    if (frame->type == 'D')
        (void)!lookup_result_row(r, frame->body, frame->body_len);
    if (frame->type == 'G' || frame->type == 'H' || frame->type == 'W')
        fail(&r->problem, "the query is a COPY");
}

int backend_lookup(struct worker *w, struct backend *b, const char *query, const char *user,
                   struct lookup_result *result)
{
    struct message_reader reader = {.conn = &b->conn, .deadline_us = clock_us() + LOOKUP_LIMIT_US};
    struct frame frame;
    struct writer out;
    int error = 0;

    lookup_result_begin(result);
    writer_init(&out);
    write_lookup(&out, query, user);
    INVARIANT(!out.failed);
    error = (int)-conn_write(w, &b->conn, out.at, out.len, reader.deadline_us);
    writer_free(&out);
    while (error == 0 && reader_next(w, &reader, &frame, &error) == 0) {
        if (frame.type == 'Z')
            break;
        take_message(result, user, &frame);
        if (frame.type == 'G')
            error = EPROTO; /* it waits for data: only closing helps */
    }
    reader_free(&reader);
    if (error == 0)
        return 0;
    if (result->problem.text[0] == '\0')
        fail(&result->problem, "%s",
             error == ETIMEDOUT ? "the query took longer than 5 s" : "the connection was lost");
    return -1;
}
