/* upgrade_building.h: what the files of upgrade_build*.c share.
 *
 * All of it on the first worker while the world stands; nothing here blocks or fails.
 */
#ifndef ACTORS_UPGRADE_BUILDING_H
#define ACTORS_UPGRADE_BUILDING_H

#include "actors/upgrade_build.h"
#include "actors/upgrade_fields.h"

struct building {
    struct worker *w;
    const struct state_document *d;
    const int *fds;
    struct upgrade_built *built;
    struct statement **statements;
    struct pool_shared **shareds; /* by pool */
    struct pool **pools;          /* those that are not configured here are `removed` */
    bool *opens_the_same;         /* by pool: its connections are what would be opened now */
    struct backend **backends;
    actor_id *sessions;
    uint64_t late_us; /* since the other process stopped */
};

/* --- values (upgrade_build_values.c) --- */

/* An absent list has no elements. */
static inline uint32_t list_of(struct unpacker *u, struct bytes packed)
{
    *u = unpacker_of(packed.at, packed.len);
    return packed.len == 0 ? 0 : unpack_array(u);
}

/* Steps over a nil, if one is next. */
bool skip_nil(struct unpacker *u);
/* The numbers of a list; those it lacks become 0, what it has beyond `count` is left out. */
void numbers_of(struct bytes packed, uint64_t *numbers, size_t count);
/* A copy with an end; the caller's to free(). */
char *text_of(struct bytes text);
/* A set of parameters, the caller's reference; NULL: none. */
struct parameter_set *build_parameters(struct bytes packed);
/* A block with a copy of them, the caller's. */
struct rbuf *buffer_of(struct bytes bytes);
/* What lay in the owner's mailbox over there lies in the mailbox here. */
void put_arrived(struct actor *owner, struct conn *c, struct bytes bytes);

/* --- statements (upgrade_build_statements.c) --- */
void build_statements(struct building *b);
/* Borrowed; NULL: number 0, or its pool is gone. */
struct statement *statement_of(const struct building *b, uint64_t number);
/* `on_server`: the server knows them under the numbers they had there. */
void build_set(struct building *b, struct statement_set *to, struct bytes packed, bool on_server);
void build_statement_names(struct building *b, struct session *s, struct bytes packed);

/* --- sessions begin (upgrade_wake.c); their homes are the workers in turn --- */
void wake_sessions(struct building *b);

/* --- one record each --- */
void build_pool(struct building *b, size_t i);
void build_backend(struct building *b, size_t i);
void build_session(struct building *b, size_t i);
/* Idle backends in the order in which they stood, and behind them what stood nowhere. */
void place_idle(struct building *b);
/* In the order of the queue, behind who waits here already. */
void place_waiters(struct building *b);

#endif
