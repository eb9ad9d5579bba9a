/* messages.h: writing and reading the messages of PostgreSQL's protocol 3.0 to 3.2.
 *
 * Writers append to a `struct writer` with a sticky failure: when there is no room, or memory,
 * `failed` is set, later calls do nothing, and the end checks once. Readers are given one whole
 * body (proto/frame.h) and borrow from it. Names are those of the protocol documentation. Pure.
 */
#ifndef PROTO_MESSAGES_H
#define PROTO_MESSAGES_H

#include "proto/frame.h"

enum {
    PROTOCOL_3_0 = 3 << 16,
    PROTOCOL_3_2 = 3 << 16 | 2, /* cancel keys of any length */
    CODE_CANCEL = 80877102,
    CODE_SSL = 80877103,
    CODE_GSSENC = 80877104,
    STARTUP_LIMIT = 10000, /* MAX_STARTUP_PACKET_LENGTH of PostgreSQL */
    PASSWORD_LIMIT = 65535,
};

struct writer {
    uint8_t *at; /* malloc'ed, or the caller's fixed storage */
    size_t len;
    size_t size;
    bool fixed;
    bool failed;
    size_t open; /* offset of the message under construction + 1; 0 = none */
};
/* Grows by malloc; free with writer_free. */
void writer_init(struct writer *w);
/* Writes into the caller's storage and never allocates. */
void writer_init_fixed(struct writer *w, void *storage, size_t size);
void writer_free(struct writer *w);

void writer_begin(struct writer *w, char type);
void writer_end(struct writer *w); /* fills in the length */
void writer_u8(struct writer *w, uint8_t v);
void writer_u16(struct writer *w, uint16_t v);
void writer_u32(struct writer *w, uint32_t v);
void writer_raw(struct writer *w, const void *p, size_t len);
void writer_string(struct writer *w, const char *text);        /* with NUL */
void writer_string_bytes(struct writer *w, struct bytes text); /* with NUL */

/* --- server to client --- */
void write_authentication(struct writer *w, uint32_t code, const void *rest, size_t len);
void write_sasl_mechanisms(struct writer *w); /* AuthenticationSASL offering SCRAM-SHA-256 */
void write_parameter_status(struct writer *w, struct bytes name, struct bytes value);
void write_backend_key_data(struct writer *w, uint32_t pid, const uint8_t *key, size_t key_len);
void write_ready_for_query(struct writer *w, char status);
void write_command_complete(struct writer *w, const char *tag);
/* ErrorResponse with the fields S, V, C, M in this order and nothing else. */
void write_error(struct writer *w, const char *severity, const char *sqlstate, const char *text);
void write_notice(struct writer *w, const char *sqlstate, const char *text);
/* `version` is the whole number, 3 << 16 | minor, as PostgreSQL sends it and libpq expects it,
 * although the documentation speaks of the minor version alone. */
void write_negotiate_version(struct writer *w, uint32_t version, const struct bytes *names,
                             size_t count);
struct column_spec {
    const char *name;
    uint32_t type_oid; /* 25 text, 23 int4, 1700 numeric */
};
void write_row_description(struct writer *w, const struct column_spec *columns, size_t count);
/* DataRow: begin, one call per cell (NULL pointer: SQL NULL), end. */
void write_row_begin(struct writer *w, uint16_t cells);
void write_row_cell(struct writer *w, const char *text, size_t len);
void write_row_end(struct writer *w);

/* --- client to server --- */
struct parameter {
    struct bytes name;
    struct bytes value;
};
void write_startup(struct writer *w, uint32_t version, const struct parameter *list, size_t count);
void write_cancel(struct writer *w, uint32_t pid, const uint8_t *key, size_t key_len);
void write_query(struct writer *w, const char *sql);
void write_password(struct writer *w, const char *text); /* with NUL */
void write_sasl_initial(struct writer *w, const char *mechanism, struct bytes data);
void write_sasl_response(struct writer *w, struct bytes data);
void write_terminate(struct writer *w);
void write_ssl_request(struct writer *w);

/* --- reading --- */
/* Splits a StartupMessage body (behind the version) into pairs; borrowed. Values may be empty.
 * Returns the number of pairs, or -1 with the text PostgreSQL would send (08P01): "invalid startup
 * packet layout: expected terminator as last byte", or when there are more than max. */
MUST_CHECK int read_startup(const uint8_t *body, size_t len, struct parameter *out, size_t max,
                            struct failure *why);

/* Fields of an ErrorResponse or NoticeResponse; absent ones are {NULL, 0}. Borrowed. */
struct error_fields {
    struct bytes severity;       /* S, localised */
    struct bytes severity_fixed; /* V */
    struct bytes sqlstate;
    struct bytes message;
    struct bytes detail;
    struct bytes hint;
    struct bytes routine;
};
MUST_CHECK int read_error(const uint8_t *body, size_t len, struct error_fields *out);
MUST_CHECK int read_parameter_status(const uint8_t *body, size_t len, struct parameter *out);

/* PasswordMessage: one string that fills the body. */
MUST_CHECK int read_password(const uint8_t *body, size_t len, struct bytes *out);
/* SASLInitialResponse: the mechanism, and data that fills the rest exactly ({NULL, 0}: none). */
MUST_CHECK int read_sasl_initial(const uint8_t *body, size_t len, struct bytes *mechanism,
                                 struct bytes *data);
/* Is this mechanism in the list behind the code of AuthenticationSASL? False also when the list is
 * broken. */
bool read_sasl_offered(const uint8_t *list, size_t len, const char *mechanism);

/* Parses the `options` startup parameter: -c name=value, --name=value, backslash escapes (as
 * PostgreSQL's pg_split_opts and process_postgres_switches). `scratch` must hold len bytes and
 * backs the result. Returns the number of pairs, or -1. Dashes in names become underscores. */
MUST_CHECK int read_options(struct bytes text, char *scratch, struct parameter *out, size_t max);

#endif
