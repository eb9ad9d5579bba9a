/* What a client that holds no backend is answered without one: a lone BEGIN, which is sent together
 * with what follows it, and the health check of the configuration, whose reply is known. */
#define LOG_MODULE "pg_doorman::client"
#include "actors/session.h"

#include "runtime/log.h"

#include <stdlib.h>

enum { CHECK_REPLY_MAX = 64 << 10 };

static bool text_is(const struct frame *f, const char *word)
{
    size_t len = strlen(word);
    size_t have = f->body_len - 1; /* the NUL is checked by the caller */

    if (have > len && f->body[have - 1] == ';')
        have--;
    return have == len && strncasecmp((const char *)f->body, word, len) == 0;
}

void session_answer(struct worker *w, struct session *s, const char *tag, char status)
{
    uint8_t storage[64];
    struct writer out;

    writer_init_fixed(&out, storage, sizeof storage);
    write_command_complete(&out, tag);
    write_ready_for_query(&out, status);
    INVARIANT(!out.failed);
    conn_put_copy(w, &s->conn, out.at, out.len);
}

/* --- BEGIN --- */

static bool answer_begin(struct worker *w, struct session *s, const struct frame *f)
{
    if (!s->begin_owed) {
        if (!text_is(f, "begin"))
            return false;
        s->begin_owed = true;
        session_answer(w, s, "BEGIN", 'T');
        return true;
    }
    /* Nothing happened in between: nothing needs to happen at all. */
    if (text_is(f, "commit") || text_is(f, "end"))
        session_answer(w, s, "COMMIT", 'I');
    else if (text_is(f, "rollback"))
        session_answer(w, s, "ROLLBACK", 'I');
    else
        return false;
    s->begin_owed = false;
    return true;
}

void session_send_begin(struct worker *w, struct session *s)
{
    static const uint8_t begin[] = {'Q', 0, 0, 0, 11, 'b', 'e', 'g', 'i', 'n', ';', 0};
    struct backend *b = s->backend;

    s->begin_owed = false;
    ledger_push(&b->ledger, ASK_QUERY, FOR_POOLER);
    b->needs_sync = true;
    conn_put_copy(w, &b->conn, begin, sizeof begin);
}

/* --- the health check --- */

/* True: it is the check query; *reply is what is known, malloc'ed, or NULL. */
static bool is_check(struct session *s, const struct frame *f, uint8_t **reply, size_t *len)
{
    struct pool_shared *shared = s->shared;
    bool same;

    if (atomic_load_explicit(&shared->check_len, memory_order_relaxed) != f->body_len)
        return false;
    *reply = NULL;
    pthread_mutex_lock(&shared->lock);
    same = shared->check_query != NULL && strlen(shared->check_query) + 1 == f->body_len &&
           memcmp(shared->check_query, f->body, f->body_len) == 0;
    if (same && shared->check_reply != NULL) {
        *len = shared->check_reply_len;
        *reply = malloc(*len);
        INVARIANT(*reply != NULL);
        memcpy(*reply, shared->check_reply, *len);
    }
    pthread_mutex_unlock(&shared->lock);
    return same;
}

static bool answer_check(struct worker *w, struct session *s, const struct frame *f)
{
    uint8_t *reply;
    size_t len = 0;

    if (s->begin_owed || !is_check(s, f, &reply, &len))
        return false;
    if (reply != NULL) {
        conn_put_copy(w, &s->conn, reply, len);
        free(reply);
        atomic_fetch_add_explicit(&app.check_cache, 1, memory_order_relaxed);
        return true;
    }
    atomic_fetch_add_explicit(&app.check_backend, 1, memory_order_relaxed);
    s->capture = calloc(1, sizeof *s->capture);
    INVARIANT(s->capture != NULL);
    packer_init(s->capture);
    return false;
}

void session_capture(struct session *s, const uint8_t *at, size_t len)
{
    if (s->capture->len + len > CHECK_REPLY_MAX)
        session_capture_end(s, false);
    else
        pack_raw(s->capture, at, len);
}

/* One answer, and nothing that is about something else. */
static bool is_answer(const struct packer *capture)
{
    const uint8_t *at = capture->start;
    size_t left = capture->len;
    struct frame f;

    while (left > 0 && frame_peek(&f, at, left, CHECK_REPLY_MAX) == FRAME_WHOLE &&
           strchr("TDCIZ", f.type) != NULL) {
        at += FRAME_HEADER + f.body_len;
        left -= FRAME_HEADER + f.body_len;
        if (f.type == 'Z')
            return left == 0;
    }
    return false;
}

void session_capture_end(struct session *s, bool good)
{
    struct packer *capture = s->capture;
    struct pool_shared *shared = s->shared;

    if (capture == NULL)
        return;
    s->capture = NULL;
    if (good && !capture->failed && is_answer(capture)) {
        pthread_mutex_lock(&shared->lock);
        if (shared->check_reply == NULL) {
            shared->check_reply = capture->start;
            shared->check_reply_len = capture->len;
            *capture = (struct packer){0};
        }
        pthread_mutex_unlock(&shared->lock);
    }
    packer_free(capture);
    free(capture);
}

bool session_answer_locally(struct worker *w, struct session *s, const struct frame *f)
{
    if (f->type != 'Q' || f->have != f->body_len || f->body_len == 0 ||
        f->body[f->body_len - 1] != '\0')
        return false;
    if (!answer_begin(w, s, f) && !answer_check(w, s, f))
        return session_deallocate(w, s, f) == DEALLOCATED;
    s->query_us = w->now_us;
    session_consume(w, s, FRAME_HEADER + f->body_len);
    return true;
}
