/* Messages that a client sends. */
#include "proto/messages.h"

void write_startup(struct writer *w, uint32_t version, const struct parameter *list, size_t count)
{
    writer_begin(w, 0);
    writer_u32(w, version);
    for (size_t i = 0; i < count; i++) {
        /* An empty name is the terminator: what follows would be lost. */
        if (list[i].name.len == 0)
            w->failed = true;
        writer_string_bytes(w, list[i].name);
        writer_string_bytes(w, list[i].value);
    }
    writer_u8(w, 0);
    writer_end(w);
}

void write_cancel(struct writer *w, uint32_t pid, const uint8_t *key, size_t key_len)
{
    writer_begin(w, 0);
    writer_u32(w, CODE_CANCEL);
    writer_u32(w, pid);
    writer_raw(w, key, key_len);
    writer_end(w);
}

static void write_text_message(struct writer *w, char type, const char *text)
{
    writer_begin(w, type);
    writer_string(w, text);
    writer_end(w);
}

void write_query(struct writer *w, const char *sql)
{
    write_text_message(w, 'Q', sql);
}

void write_password(struct writer *w, const char *text)
{
    write_text_message(w, 'p', text);
}

void write_sasl_initial(struct writer *w, const char *mechanism, struct bytes data)
{
    if (data.len > INT32_MAX) {
        w->failed = true;
        return;
    }
    writer_begin(w, 'p');
    writer_string(w, mechanism);
    writer_u32(w, data.at == NULL ? UINT32_MAX : (uint32_t)data.len); /* -1: no data at all */
    writer_raw(w, data.at, data.len);
    writer_end(w);
}

void write_sasl_response(struct writer *w, struct bytes data)
{
    writer_begin(w, 'p');
    writer_raw(w, data.at, data.len);
    writer_end(w);
}

void write_terminate(struct writer *w)
{
    writer_begin(w, 'X');
    writer_end(w);
}

void write_ssl_request(struct writer *w)
{
    writer_begin(w, 0);
    writer_u32(w, CODE_SSL);
    writer_end(w);
}
