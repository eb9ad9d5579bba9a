/* parameters.h: what a client wants its session's settings to be.
 *
 * A set is immutable and kept once per process: clients of one application share it, and whether a
 * backend has what a client wants is mostly a comparison of two pointers. It is counted; NULL is
 * the empty set.
 *
 * Tracked names are those that PostgreSQL reports whenever they change, and that drivers rely on:
 * client_encoding, DateStyle, IntervalStyle, TimeZone, standard_conforming_strings and
 * application_name. Some names are never a client's to choose here. All others are followed only
 * with `sync_server_parameters`.
 */
#ifndef ACTORS_PARAMETERS_H
#define ACTORS_PARAMETERS_H

#include "proto/messages.h"

enum { PARAMETER_NAME_MAX = 96, PARAMETERS_TRACKED = 6 };

struct parameter_set {
    struct parameter_set *next;   /* of the same hash */
    struct parameter_set *origin; /* referenced; use parameter_set_origin() */
    uint64_t hash;
    _Atomic uint32_t refs;
    _Atomic bool accepted; /* a server took these values */
    bool tracked_only;
    uint32_t len;
    uint8_t text[]; /* "name\0value\0", sorted by name */
};

enum parameter_class {
    PARAMETER_REFUSED, /* not a name, or not for clients */
    PARAMETER_TRACKED,
    PARAMETER_OTHER,
};
/* Puts the name as PostgreSQL spells it into `canonical`. */
enum parameter_class parameter_classify(struct bytes name, char canonical[PARAMETER_NAME_MAX]);
/* The tracked names, by number. */
const char *parameter_tracked(size_t i);

/* The set of these pairs, of which later ones win; canonical names; with a reference for the
 * caller. Any thread. */
struct parameter_set *parameter_set_make(const struct parameter *pairs, size_t count,
                                         struct parameter_set *origin);
/* The same with one value changed or added; set may be NULL. The reference on it stays. */
struct parameter_set *parameter_set_with(struct parameter_set *set, const char *name,
                                         struct bytes value);
struct parameter_set *parameter_set_ref(struct parameter_set *set);
void parameter_set_unref(struct parameter_set *set);
/* What the client asked for when it logged in; borrowed. */
struct parameter_set *parameter_set_origin(struct parameter_set *set);

/* {NULL, 0}: not in it. */
struct bytes parameter_set_find(const struct parameter_set *set, struct bytes name);
/* Walks through it: *at is 0 at first. False: no more. */
bool parameter_set_next(const struct parameter_set *set, uint32_t *at, struct parameter *pair);

#endif
