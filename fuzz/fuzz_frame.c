/* Any bytes as a stream of messages: a prefix is at most less certain than the whole, results lie
 * inside the input, and what a reader accepts is written back as the same bytes. */
#include "proto/messages.h"

static void check_inside(struct bytes part, const struct frame *f)
{
    INVARIANT(part.at == NULL ||
              (part.at >= f->body && part.at + part.len <= f->body + f->body_len));
}

static void check_same(struct writer *w, const uint8_t *p, size_t len)
{
    INVARIANT(!w->failed && w->len == len && memcmp(w->at, p, len) == 0);
    writer_free(w);
}

static void check_readers(const struct frame *f, const uint8_t *message)
{
    size_t len = FRAME_HEADER + f->body_len;
    struct parameter p;
    struct bytes mechanism;
    struct bytes data;
    struct error_fields e;
    struct writer w;

    writer_init(&w);
    if (read_parameter_status(f->body, f->body_len, &p) == 0) {
        check_inside(p.name, f);
        check_inside(p.value, f);
        if (f->type == 'S') {
            write_parameter_status(&w, p.name, p.value);
            check_same(&w, message, len);
        }
    }
    if (read_sasl_initial(f->body, f->body_len, &mechanism, &data) == 0) {
        check_inside(mechanism, f);
        check_inside(data, f);
        if (f->type == 'p') {
            write_sasl_initial(&w, (const char *)mechanism.at, data);
            check_same(&w, message, len);
        }
    }
    if (read_password(f->body, f->body_len, &data) == 0 && f->type == 'p') {
        write_password(&w, (const char *)data.at);
        check_same(&w, message, len);
    }
    if (read_error(f->body, f->body_len, &e) == 0) {
        check_inside(e.message, f);
        check_inside(e.routine, f);
    }
    if (read_sasl_offered(f->body, f->body_len, "SCRAM-SHA-256"))
        INVARIANT(f->body_len >= sizeof("SCRAM-SHA-256"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct frame f;
    struct frame prefix;
    enum frame_result whole = frame_peek(&f, data, len, 1 << 16);

    for (size_t cut = 0; cut < len; cut++) {
        enum frame_result part = frame_peek(&prefix, data, cut, 1 << 16);

        INVARIANT(part == FRAME_PARTIAL || part == whole);
        INVARIANT(prefix.have <= cut);
    }
    if (whole != FRAME_WHOLE)
        return 0;
    INVARIANT(f.body + f.body_len <= data + len);
    if (f.type != 0) {
        struct writer w;

        writer_init(&w);
        writer_begin(&w, (char)f.type);
        writer_raw(&w, f.body, f.body_len);
        writer_end(&w);
        check_same(&w, data, FRAME_HEADER + f.body_len);
    }
    check_readers(&f, data);
    return 0;
}
