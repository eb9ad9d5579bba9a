/* upgrade_packing.h: what the files of upgrade_pack*.c share.
 *
 * All of it while the world stands; nothing here blocks or fails.
 */
#ifndef ACTORS_UPGRADE_PACKING_H
#define ACTORS_UPGRADE_PACKING_H

#include "actors/upgrade_fields.h"
#include "actors/upgrade_load.h"

/* What is packed for one record and borrowed by it until the record is written. */
struct scratch {
    struct packer lists[12];
    unsigned used;
    uint8_t *bytes[4];
    unsigned bytes_used;
};

struct packing {
    struct upgrade_load *load;
    struct state_writer *out;
    struct scratch scratch;
    struct statement_slot *slots; /* which statement has which record */
    size_t slot_count;            /* power of two */
    size_t fds;
};

/* --- values (upgrade_pack_values.c) --- */
struct packer *scratch_list(struct scratch *s);
uint8_t *scratch_bytes(struct scratch *s, size_t len);
/* Ends what was borrowed; scratch_free() gives back the memory as well. */
void scratch_clear(struct scratch *s);
void scratch_free(struct scratch *s);
struct bytes packed(const struct packer *p);
struct bytes text(const char *at);
struct bytes numbers_list(struct packing *p, const uint64_t *numbers, uint32_t count);
/* The number of its descriptor in the document. */
uint64_t add_fd(struct packing *p, const struct conn *c);
/* What is not sent yet, all slices in one piece. */
struct bytes output_of(struct packing *p, const struct conn *c);
/* `before`, and what lies in the owner's mailbox behind it. (An end or an error that lies there the
 * socket will tell again.) */
struct bytes with_arrived(struct packing *p, struct bytes before, const struct actor *owner,
                          const struct conn *c);
/* What the client began with (nil: the same), what it wants now, and whether a server took that. */
struct bytes set_of_parameters(struct packing *p, struct parameter_set *set);
/* The record of the actor with that identity; 0: it does not move. */
uint64_t record_of(const struct packing *p, actor_id id);

/* --- statements (upgrade_pack_statements.c) --- */
void slots_grow(struct packing *p);
/* Gives it one, if it has none yet; 0 for NULL. */
uint64_t statement_number(struct packing *p, struct statement *s);
struct bytes set_of(struct packing *p, const struct statement_set *set);
struct bytes names_of(struct packing *p, const struct statement_map *map);
/* Last: all that were given a number. */
void put_statements(struct packing *p);

/* --- one record each; pools all at once --- */
void put_backend(struct packing *p, size_t id, struct backend *b);
void put_session(struct packing *p, size_t id, struct session *s);
void put_pools(struct packing *p);

#endif
