/* Messages that a server sends. */
#include "proto/messages.h"

void write_authentication(struct writer *w, uint32_t code, const void *rest, size_t len)
{
    writer_begin(w, 'R');
    writer_u32(w, code);
    writer_raw(w, rest, len);
    writer_end(w);
}

void write_sasl_mechanisms(struct writer *w)
{
    static const char list[] = "SCRAM-SHA-256\0"; /* the literal's own NUL ends the list */

    write_authentication(w, 10, list, sizeof(list));
}

void write_parameter_status(struct writer *w, struct bytes name, struct bytes value)
{
    writer_begin(w, 'S');
    writer_string_bytes(w, name);
    writer_string_bytes(w, value);
    writer_end(w);
}

void write_backend_key_data(struct writer *w, uint32_t pid, const uint8_t *key, size_t key_len)
{
    writer_begin(w, 'K');
    writer_u32(w, pid);
    writer_raw(w, key, key_len);
    writer_end(w);
}

void write_ready_for_query(struct writer *w, char status)
{
    writer_begin(w, 'Z');
    writer_u8(w, (uint8_t)status);
    writer_end(w);
}

void write_command_complete(struct writer *w, const char *tag)
{
    writer_begin(w, 'C');
    writer_string(w, tag);
    writer_end(w);
}

static void write_field(struct writer *w, char name, const char *text)
{
    writer_u8(w, (uint8_t)name);
    writer_string(w, text);
}

static void write_report(struct writer *w, char type, const char *severity, const char *sqlstate,
                         const char *text)
{
    writer_begin(w, type);
    write_field(w, 'S', severity);
    write_field(w, 'V', severity);
    write_field(w, 'C', sqlstate);
    write_field(w, 'M', text);
    writer_u8(w, 0);
    writer_end(w);
}

void write_error(struct writer *w, const char *severity, const char *sqlstate, const char *text)
{
    write_report(w, 'E', severity, sqlstate, text);
}

void write_notice(struct writer *w, const char *sqlstate, const char *text)
{
    write_report(w, 'N', "NOTICE", sqlstate, text);
}

void write_negotiate_version(struct writer *w, uint32_t version, const struct bytes *names,
                             size_t count)
{
    writer_begin(w, 'v');
    writer_u32(w, version);
    writer_u32(w, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        writer_string_bytes(w, names[i]);
    writer_end(w);
}

static uint16_t type_width(uint32_t oid)
{
    switch (oid) {
    case 16: return 1;          /* bool */
    case 20: return 8;          /* int8 */
    case 23: return 4;          /* int4 */
    default: return UINT16_MAX; /* variable */
    }
}

void write_row_description(struct writer *w, const struct column_spec *columns, size_t count)
{
    if (count > UINT16_MAX) {
        w->failed = true;
        return;
    }
    writer_begin(w, 'T');
    writer_u16(w, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        writer_string(w, columns[i].name);
        writer_u32(w, 0); /* no table */
        writer_u16(w, 0); /* no column of it */
        writer_u32(w, columns[i].type_oid);
        writer_u16(w, type_width(columns[i].type_oid));
        writer_u32(w, UINT32_MAX); /* no type modifier */
        writer_u16(w, 0);          /* text */
    }
    writer_end(w);
}

void write_row_begin(struct writer *w, uint16_t cells)
{
    writer_begin(w, 'D');
    writer_u16(w, cells);
}

void write_row_cell(struct writer *w, const char *text, size_t len)
{
    if (text == NULL) {
        writer_u32(w, UINT32_MAX);
        return;
    }
    if (len > INT32_MAX) {
        w->failed = true;
        return;
    }
    writer_u32(w, (uint32_t)len);
    writer_raw(w, text, len);
}

void write_row_end(struct writer *w)
{
    writer_end(w);
}
