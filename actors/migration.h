/* migration.h: one client on its way from or to PgDoorman 3.10, in that program's own format
 * (version 2). Upgrades between processes of this program know another one, actors/state.h.
 *
 * 3.10 hands over a client that rests between two transactions: its names, cancel key, settings,
 * prepared statements, and with what servers are logged in to. Its socket travels beside that. Over
 * the wire a client is a frame: uint32 length, the state that is described here, uint32 length, the
 * state of its TLS (empty: none); the socket is attached to the first byte. All numbers are
 * big-endian.
 *
 * Pure: no actors, no I/O. What was read borrows all bytes from the state.
 */
#ifndef ACTORS_MIGRATION_H
#define ACTORS_MIGRATION_H

#include "proto/messages.h"

enum {
    MIGRATION_MAGIC = 0x50474d47, /* "PGMG" */
    MIGRATION_VERSION = 2,
    MIGRATION_ENTRIES = 100000,     /* statements of a client, at most */
    MIGRATION_TEXT_BYTES = 10 << 20 /* their texts, at most */
};

/* What servers are logged in to with. */
enum migration_auth {
    MIGRATION_AUTH_NONE = 0, /* as configured */
    MIGRATION_AUTH_MD5 = 1,  /* "md5" and 32 digits */
    MIGRATION_AUTH_KEY = 2,  /* SCRAM ClientKey */
    MIGRATION_AUTH_PENDING = 3,
};

struct migration_client {
    uint64_t id;     /* the low half is the cancel key's process number */
    uint32_t secret; /* the cancel key's, as the number it is on the wire */
    bool transaction_mode;
    struct bytes database;
    struct bytes user;
    uint16_t port;        /* of its peer; Unix sockets: 0 */
    struct bytes address; /* and the text of its IP; Unix sockets: 127.0.0.1 */
    uint16_t parameter_count;
    struct bytes parameters; /* packed: migration_put_parameter(), migration_next_parameter() */
    bool prepared;           /* its statements are the pooler's to keep */
    bool async;              /* it has used Flush */
    uint32_t entry_count;
    struct bytes entries; /* packed: migration_put_entry(), migration_next_entry() */
    bool tls;             /* it says so; what counts is whether there is a state of TLS */
    enum migration_auth auth;
    struct bytes auth_value;
};

/* A prepared statement. All named ones stand before all anonymous ones, and of these the one that
 * was used last is first. */
struct migration_entry {
    bool anonymous;
    struct bytes name;      /* of a named one */
    uint64_t anonymous_key; /* of an anonymous one: the sender's hash once more */
    uint64_t hash;          /* the sender's own, meaningless elsewhere */
    struct bytes query;     /* without NUL */
    uint16_t type_count;
    struct bytes types; /* as many OIDs, of 4 bytes */
};

/* --- reading --- */

enum migration_result {
    MIGRATION_READ,
    MIGRATION_REFUSED, /* this client cannot be taken: damaged, or beyond the limits */
    MIGRATION_FOREIGN, /* another format, or another version of it */
};
/* Checks all of the state, so that walking through what it has cannot fail. `why` unless READ. What
 * follows behind the fields that are known is ignored. */
MUST_CHECK enum migration_result migration_read(struct bytes state, struct migration_client *out,
                                                struct failure *why);
/* From the first to the last: the cursor begins as cursor_of() the packed bytes. False: no more. */
bool migration_next_parameter(struct cursor *at, struct parameter *out);
bool migration_next_entry(struct cursor *at, struct migration_entry *out);

/* --- writing: appends to `out`, whose failure is checked by the caller --- */

/* False, and nothing is written: too long for the format (65,535 bytes). */
MUST_CHECK bool migration_put_parameter(struct writer *out, const struct parameter *parameter);
/* `hash` and `anonymous_key` are written as they are. */
MUST_CHECK bool migration_put_entry(struct writer *out, const struct migration_entry *entry);
/* The whole state, with the parameters and entries that were packed. 0, or -1 with the reason: a
 * name that is too long for the format, or more than a receiver takes. */
MUST_CHECK int migration_write(const struct migration_client *client, struct writer *out,
                               struct failure *why);

#endif
