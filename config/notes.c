#include "config/notes.h"

#include <stdarg.h>
#include <stdio.h>

void note(struct notes *notes, const char *format, ...)
{
    char text[768];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    struct string_list *list = notes->list;
    list->items = arena_grow(notes->arena, list->items, list->count, &notes->room,
                             sizeof *list->items);
    list->items[list->count++] = arena_text(notes->arena, text);
}
