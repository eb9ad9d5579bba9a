/* statement_internal.h: what the files about statements share, and what their tests look at. */
#ifndef ACTORS_STATEMENT_INTERNAL_H
#define ACTORS_STATEMENT_INTERNAL_H

#include "actors/statement.h"

/* SipHash with one round per word and three at the end. */
uint64_t statement_siphash(const uint64_t key[2], struct bytes text);
/* The same with the key of this process, which is drawn on first use. Both the texts and the names
 * come from clients: whoever could predict this could turn any of the tables into a list. */
uint64_t statement_hash(struct bytes text);
/* Bits of the hash that survive. All of them; tests make equal hashes by clearing some, before
 * there is a second thread. */
extern uint64_t statement_hash_bits;

/* Walk the whole structure and end the process when it contradicts itself. */
void statement_registry_check(void);
void statement_set_check(const struct statement_set *set);
void statement_map_check(const struct statement_map *map);

#endif
