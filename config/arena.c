#include "config/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENA_BLOCK_BYTES = 16 * 1024, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t room;
    _Alignas(ARENA_ALIGN) char data[];
};

static struct arena_block *arena_add_block(struct arena *arena, size_t least)
{
    size_t room = MAX(least, (size_t)ARENA_BLOCK_BYTES);
    struct arena_block *block = calloc(1, sizeof *block + room);

    INVARIANT(block != NULL);
    block->room = room;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    struct arena_block *block = arena->blocks;

    INVARIANT(size < SIZE_MAX / 2);
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (block == NULL || block->room - block->used < size)
        block = arena_add_block(arena, size);

    void *at = block->data + block->used;
    block->used += size;
    return at;
}

char *arena_copy(struct arena *arena, const char *text, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);

    if (len > 0)
        memcpy(copy, text, len);
    return copy;
}

char *arena_text(struct arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_copy(arena, text, strlen(text));
}

char *arena_format(struct arena *arena, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    INVARIANT(len >= 0);

    char *text = arena_alloc(arena, (size_t)len + 1);
    va_start(arguments, format);
    vsnprintf(text, (size_t)len + 1, format, arguments);
    va_end(arguments);
    return text;
}

void *arena_grow(struct arena *arena, void *items, size_t count, size_t *room, size_t item_size)
{
    if (count < *room)
        return items;

    size_t wider = *room == 0 ? 4 : *room * 2;
    void *copy = arena_alloc(arena, wider * item_size);
    if (count > 0)
        memcpy(copy, items, count * item_size);
    *room = wider;
    return copy;
}

void arena_free(struct arena *arena)
{
    struct arena_block *block = arena->blocks;

    arena->blocks = NULL;
    while (block != NULL) {
        struct arena_block *next = block->next;
        explicit_bzero(block->data, block->used);
        free(block);
        block = next;
    }
}
