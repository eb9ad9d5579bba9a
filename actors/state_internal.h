/* state_internal.h: what reader and writer of the state's schema share. */
#ifndef ACTORS_STATE_INTERNAL_H
#define ACTORS_STATE_INTERNAL_H

#include "actors/state.h"

enum {
    STATE_DOCUMENT_HEAD = 8, /* magic, major, minor */
    STATE_SECTION_HEAD = 12, /* kind, flags, length, checksum */
    STATE_CRITICAL = 1,
    STATE_KEY_MUST_KNOW = 0, /* in any record: a list of keys that a reader must know */
};

enum state_field_type { STATE_FIELD_U, STATE_FIELD_B, STATE_FIELD_T, STATE_FIELD_R };
struct state_field {
    uint8_t key;
    uint8_t type;
    uint16_t offset;
};
#define X(name, NAME)                                        \
    extern const struct state_field state_##name##_fields[]; \
    extern const size_t state_##name##_field_count;
STATE_RECORDS(X)
#undef X

#endif
