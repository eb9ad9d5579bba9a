/* notes.h: remarks collected while a configuration is read, to be logged later. */
#ifndef CONFIG_NOTES_H
#define CONFIG_NOTES_H

#include "config/arena.h"
#include "config/config.h"

struct notes {
    struct arena *arena;
    struct string_list *list;
    size_t room;
};

PRINTF_LIKE(2, 3) void note(struct notes *notes, const char *format, ...);

#endif
