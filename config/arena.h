/* arena.h: memory that is given back all at once.
 *
 * A configuration is some thousand small strings that live and die together. Running out of
 * memory ends the process: nothing that reads a configuration can go on without it. Not
 * thread-safe while it grows.
 */
#ifndef CONFIG_ARENA_H
#define CONFIG_ARENA_H

#include "runtime/base.h"

struct arena_block;
struct arena {
    struct arena_block *blocks;
};

void *arena_alloc(struct arena *arena, size_t size); /* zeroed, aligned for any type */
/* A copy with a terminating NUL, whatever the bytes are. */
char *arena_copy(struct arena *arena, const char *text, size_t len);
char *arena_text(struct arena *arena, const char *text); /* NULL stays NULL */
PRINTF_LIKE(2, 3) char *arena_format(struct arena *arena, const char *format, ...);
/* Doubles an array in place of realloc: returns room for at least `want` items, items kept. */
void *arena_grow(struct arena *arena, void *items, size_t count, size_t *room, size_t item_size);
/* Wipes and frees everything: configurations hold passwords. */
void arena_free(struct arena *arena);

#endif
