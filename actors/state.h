/* state.h: what one process hands to its successor, as plain records and as bytes.
 *
 * A document is a header, "PGDH" with the versions of the schema, and sections. A section holds
 * records of one kind, msgpack maps with numbers as keys; docs/state-schema.md lists them. A key
 * that is absent has its default, 0 or empty; one that is unknown is skipped, and so is a section
 * that is not marked as critical. A record may list keys, under 0, that must be known all the same.
 * So processes of different versions understand each other.
 *
 * Pure: no actors, no I/O. Records that were read borrow all their bytes from the document.
 */
#ifndef ACTORS_STATE_H
#define ACTORS_STATE_H

#include "runtime/pack.h"

enum { STATE_MAJOR = 1, STATE_MINOR = 13 };

enum state_section {
    STATE_HEADER = 1,
    STATE_STATEMENTS = 4,
    STATE_POOLS = 5,
    STATE_BACKENDS = 6,
    STATE_SESSIONS = 7,
};

/* Fields of all records in one table each: X(key, type, name); U a number, B bytes, T text, R a
 * value that is packed already. Keys are never used again for something else. Numbers above 63
 * are this program's own; those below follow the first plan of the schema. Whoever adds one raises
 * STATE_MINOR and does what docs/state-schema.md, "A new version", says. */
/* clang-format off */
#define STATE_HEADER_FIELDS(X)  \
    X(3, T, version)            \
    X(4, U, pid)                \
    X(5, U, generation)         \
    X(6, U, frozen_us)          \
    X(10, U, fds)               \
    X(11, U, sessions)          \
    X(12, U, backends)          \
    X(13, U, pools)             \
    X(14, U, statements)        \
    X(64, U, round)             \
    X(65, U, next_connection)   \
    X(66, U, next_statement)    \
    X(67, R, totals)            \
    X(68, U, next_backend)      \
    X(69, B, mock_secret)

#define STATE_STATEMENT_FIELDS(X) \
    X(1, U, id)                   \
    X(6, U, number)               \
    X(9, U, used)                 \
    X(64, B, tail) /* query and parameter types as in Parse: text (2) and types (3) in one */ \
    X(65, U, pool)                \
    X(66, U, digest)              \
    X(67, U, retired)             \
    X(68, U, kinds)               \
    X(69, U, hits)                \
    X(70, U, misses)

#define STATE_POOL_FIELDS(X)   \
    X(1, U, id)                \
    X(2, T, database)          \
    X(3, T, user)              \
    X(4, U, dynamic)           \
    X(5, B, fingerprint)       \
    X(6, U, epoch)             \
    X(7, U, paused)            \
    X(8, B, parameters)        \
    X(9, R, material)          \
    X(11, R, idle)             \
    X(12, R, waiters)          \
    X(15, U, failures)         \
    X(17, R, counters)         \
    X(64, U, creations)        \
    X(65, U, parameters_known) \
    X(66, U, schema_epoch)     \
    X(67, U, staying)          \
    X(68, B, secret)           \
    X(69, B, overlay)          \
    X(70, R, times)            \
    X(71, U, drains)

#define STATE_BACKEND_FIELDS(X) \
    X(1, U, id)                 \
    X(2, U, pool)               \
    X(3, U, fd)                 \
    X(4, U, pid)                \
    X(5, B, key)                \
    X(10, B, parameters)        \
    X(11, U, status)            \
    X(12, U, created_us)        \
    X(13, U, lifetime_us)       \
    X(14, U, idle_limit_us)     \
    X(15, U, idle_since_us)     \
    X(16, U, uses)              \
    X(17, U, epoch)             \
    X(18, R, statements)        \
    X(20, U, flags)             \
    X(21, B, input)             \
    X(22, B, output)            \
    X(26, U, session)           \
    X(28, R, counters)          \
    X(29, T, application_name)  \
    X(64, B, address)           \
    X(65, U, number)            \
    X(66, B, stash)             \
    X(67, U, body_left)         \
    X(68, R, ledger)            \
    X(69, U, dirt)              \
    X(70, U, undone)            \
    X(71, U, lasting)           \
    X(72, U, setting)           \
    X(73, U, temp_owner)        \
    X(74, U, leased_since_us)   \
    X(76, R, applied)           \
    X(77, R, tracked_before)    \
    X(78, U, cancels)           \
    X(79, U, replace_at_us)     \
    X(80, R, text_settings)     \
    X(81, U, trouble_us)        \
    X(82, U, traits)            \
    X(83, U, unnamed_owner)

#define STATE_SESSION_FIELDS(X)  \
    X(1, U, id)                  \
    X(2, U, number)              \
    X(3, B, secret)              \
    X(4, U, fd)                  \
    X(5, U, transport)           \
    X(8, U, phase)               \
    X(9, U, pool)                \
    X(10, T, database)           \
    X(11, T, user)               \
    X(12, R, wanted)             \
    X(13, U, mode)               \
    X(16, R, statements)         \
    X(18, U, unnamed)            \
    X(19, B, input)              \
    X(20, B, output)             \
    X(21, U, begin_owed)         \
    X(26, U, backend)            \
    X(27, R, wait)               \
    X(28, U, connected_us)       \
    X(29, U, query_us)           \
    X(30, U, leased_us)          \
    X(32, U, flags)              \
    X(33, U, body_left)          \
    X(38, R, counters)           \
    X(64, T, application_name)   \
    X(65, T, address)            \
    X(66, U, scanned)            \
    X(67, U, cancel_wanted)      \
    X(68, U, lease_batches)      \
    X(69, B, peer)               \
    X(70, R, anonymous)          \
    X(71, U, anonymous_evictions) \
    X(72, R, console)
/* clang-format on */

/* All kinds of records. */
#define STATE_RECORDS(X)    \
    X(header, HEADER)       \
    X(statement, STATEMENT) \
    X(pool, POOL)           \
    X(backend, BACKEND)     \
    X(session, SESSION)

#define STATE_MEMBER_U                uint64_t
#define STATE_MEMBER_B                struct bytes
#define STATE_MEMBER_T                struct bytes
#define STATE_MEMBER_R                struct bytes
#define STATE_MEMBER(key, type, name) STATE_MEMBER_##type name;
#define X(name, NAME)                       \
    struct state_##name {                   \
        STATE_##NAME##_FIELDS(STATE_MEMBER) \
    };
STATE_RECORDS(X)
#undef X
#undef STATE_MEMBER

/* Phases of a session, as the schema numbers them. */
enum state_phase {
    STATE_PHASE_START = 0,
    STATE_PHASE_IDLE = 2,
    STATE_PHASE_WAITING = 4,
    STATE_PHASE_ACTIVE = 5,
    STATE_PHASE_ADMIN = 7,
};
/* Flags of a session. */
enum state_session_flag {
    STATE_SKIP_TO_SYNC = 1,
    STATE_COPY_IN = 2,
    STATE_REMAP = 64,
    STATE_FATAL_SEEN = 128,
    STATE_FLUSHED = 256,
    STATE_DISCARD = 512,
    STATE_ASYNC = 1024,
    STATE_BAD_BACKEND = 2048,
    STATE_BATCH = 4096,
    STATE_TERMINATED = 8192,
    STATE_SYNCING = 16384,
    STATE_SYNC_ALONE = 32768,
    STATE_SYNC_FAILED = 65536,
    STATE_BATCH_SYNCED = 131072,
    STATE_SKIP_PARAMETERS = 262144,
    STATE_SKIPS_TO_SYNC = 524288,
    STATE_CANCEL_DUE = 1048576,
    STATE_COPY_SYNCED = 2097152,
    STATE_SYNC_STRUCK = 4194304,
    STATE_COPY_ASKED = 8388608,
    STATE_COPY_DUE = 16777216,
    STATE_COPY_HELD = 33554432,
    STATE_COPY_SKIPS = 67108864,
};
/* Flags of a backend. */
enum state_backend_flag {
    STATE_BACKEND_BROKEN = 16,
    STATE_BACKEND_COPY_IN = 64,
    STATE_BACKEND_NEEDS_SYNC = 2048,
    STATE_BACKEND_SWALLOWED = 4096,
    STATE_BACKEND_REMAPS = 8192,
    STATE_BACKEND_APPLIED_STALE = 16384,
    STATE_BACKEND_APPLIED_TOUCHED = 32768,
    STATE_BACKEND_ALL_RESET = 65536,
    STATE_BACKEND_REPORTED = 131072,
    STATE_BACKEND_CANCEL_UNSURE = 262144,
    STATE_BACKEND_REPLACED = 524288,
    STATE_BACKEND_VISIBLE = 1048576,
    STATE_BACKEND_UNNAMED_USED = 2097152,
    STATE_BACKEND_SCHEMA_CHANGED = 4194304,
    STATE_BACKEND_MAY_COPY = 16777216,
};

/* --- writing --- */
struct state_writer {
    struct packer out; /* growing; out.start is the document */
    size_t section;    /* where the open one begins */
    uint32_t records;
};
void state_write_begin(struct state_writer *s);
void state_write_free(struct state_writer *s);
/* Sections do not nest. `critical`: a reader that does not know it must refuse the document. */
void state_section_begin(struct state_writer *s, enum state_section kind, bool critical);
void state_section_end(struct state_writer *s);
/* state_put_session() and so on. */
#define X(name, NAME) \
    void state_put_##name(struct state_writer *s, const struct state_##name *record);
STATE_RECORDS(X)
#undef X

/* --- reading --- */
struct state_document {
    struct state_header header;
    struct state_statement *statements;
    size_t statement_count;
    struct state_pool *pools;
    size_t pool_count;
    struct state_backend *backends;
    size_t backend_count;
    struct state_session *sessions;
    size_t session_count;
    uint16_t minor;
    bool headed;
};
/* Parses and checks: versions, checksums, counts, references between records, descriptors (each
 * used once, numbered from 1). 0, or -1 with the reason. state_read_free() either way. */
MUST_CHECK int state_read(struct state_document *d, const uint8_t *at, size_t len,
                          struct failure *why);
void state_read_free(struct state_document *d);
/* CRC-32C (Castagnoli), as the sections carry it. */
uint32_t state_crc32c(const uint8_t *at, size_t len);

#endif
