/* upgrade_fields.h: fields of actors that have the same name and meaning in their records
 * (actors/state.h), for both directions: upgrade_pack_*.c and upgrade_build_*.c.
 */
#ifndef ACTORS_UPGRADE_FIELDS_H
#define ACTORS_UPGRADE_FIELDS_H

/* clang-format off */
#define UPGRADE_SESSION_NUMBERS(X) \
    X(number)                      \
    X(mode)                        \
    X(begin_owed)                  \
    X(anonymous_evictions)         \
    X(connected_us)                \
    X(leased_us)                   \
    X(body_left)                   \
    X(lease_batches)

/* X(bit of `flags`, bit of the record's flags) */
#define UPGRADE_SESSION_FLAGS(X)                \
    X(SESSION_REMAP, STATE_REMAP)               \
    X(SESSION_FATAL_SEEN, STATE_FATAL_SEEN)     \
    X(SESSION_COPY_IN, STATE_COPY_IN)           \
    X(SESSION_SKIP_TO_SYNC, STATE_SKIP_TO_SYNC) \
    X(SESSION_FLUSHED, STATE_FLUSHED)           \
    X(SESSION_DISCARD, STATE_DISCARD)           \
    X(SESSION_ASYNC, STATE_ASYNC)               \
    X(SESSION_BAD_BACKEND, STATE_BAD_BACKEND)   \
    X(SESSION_BATCH, STATE_BATCH)

/* X(member, bit of the record's flags) */
#define UPGRADE_SESSION_BITS(X)               \
    X(terminated, STATE_TERMINATED)           \
    X(syncing, STATE_SYNCING)                 \
    X(sync_alone, STATE_SYNC_ALONE)           \
    X(sync_failed, STATE_SYNC_FAILED)         \
    X(sync_struck, STATE_SYNC_STRUCK)         \
    X(batch_synced, STATE_BATCH_SYNCED)       \
    X(copy_synced, STATE_COPY_SYNCED)         \
    X(copy_asked, STATE_COPY_ASKED)           \
    X(copy_due, STATE_COPY_DUE)               \
    X(copy_held, STATE_COPY_HELD)             \
    X(copy_skips, STATE_COPY_SKIPS)           \
    X(cancel_due, STATE_CANCEL_DUE)           \
    X(skip_to_sync, STATE_SKIPS_TO_SYNC)      \
    X(skip_parameters, STATE_SKIP_PARAMETERS)

/* Counters, in the order of the schema's lists. */
#define UPGRADE_SESSION_COUNTERS(X) \
    X(transactions)                 \
    X(queries)                      \
    X(errors)                       \
    X(wait_max_us)

#define UPGRADE_BACKEND_NUMBERS(X) \
    X(number)                      \
    X(created_us)                  \
    X(lifetime_us)                 \
    X(idle_limit_us)               \
    X(idle_since_us)               \
    X(leased_since_us)             \
    X(replace_at_us)               \
    X(uses)                        \
    X(body_left)                   \
    X(dirt)                        \
    X(undone)                      \
    X(lasting)                     \
    X(setting)                     \
    X(trouble_us)                  \
    X(traits)

#define UPGRADE_BACKEND_BITS(X)                      \
    X(broken, STATE_BACKEND_BROKEN)                  \
    X(copy_in, STATE_BACKEND_COPY_IN)                \
    X(may_copy, STATE_BACKEND_MAY_COPY)              \
    X(needs_sync, STATE_BACKEND_NEEDS_SYNC)          \
    X(body_swallowed, STATE_BACKEND_SWALLOWED)       \
    X(applied_stale, STATE_BACKEND_APPLIED_STALE)    \
    X(applied_touched, STATE_BACKEND_APPLIED_TOUCHED) \
    X(all_reset, STATE_BACKEND_ALL_RESET)            \
    X(reported, STATE_BACKEND_REPORTED)              \
    X(cancel_unsure, STATE_BACKEND_CANCEL_UNSURE)    \
    X(replaced, STATE_BACKEND_REPLACED)              \
    X(visible, STATE_BACKEND_VISIBLE)                \
    X(unnamed_used, STATE_BACKEND_UNNAMED_USED)      \
    X(schema_changed, STATE_BACKEND_SCHEMA_CHANGED)

#define UPGRADE_BACKEND_COUNTERS(X) \
    X(transactions)                 \
    X(queries)                      \
    X(bytes_sent)                   \
    X(bytes_received)               \
    X(prepared_hits)                \
    X(prepared_misses)

#define UPGRADE_POOL_COUNTERS(X) \
    X(transactions)              \
    X(queries)                   \
    X(bytes_received)            \
    X(bytes_sent)                \
    X(transaction_us)            \
    X(query_us)                  \
    X(wait_us)                   \
    X(waits)                     \
    X(errors)

#define UPGRADE_TOTALS(X) \
    X(connections_total)  \
    X(connections_plain)  \
    X(connections_tls)    \
    X(connections_cancel) \
    X(connections_error)  \
    X(check_backend)      \
    X(check_cache)
/* clang-format on */

/* From the record to the actor. */
#define UPGRADE_ACTOR_NUMBER(name)   to->name = (typeof(to->name))record->name;
#define UPGRADE_ACTOR_BIT(name, bit) to->name = (record->flags & (bit)) != 0;

#endif
