/* Any bytes as the packet that opens a connection: a prefix is at most less certain than the
 * whole; an accepted StartupMessage is written back as the same bytes; options survive being
 * quoted and read again. */
#include "proto/messages.h"

#include <stdlib.h>

enum { PAIRS = 64 };

static void quote(struct writer *w, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        writer_u8(w, '\\');
        writer_u8(w, text.at[i]);
    }
}

static void check_options(struct bytes text)
{
    char *scratch = malloc(text.len + 1);
    struct parameter pairs[PAIRS];
    struct parameter again[PAIRS];
    struct writer w;
    int count = scratch == NULL ? -1 : read_options(text, scratch, pairs, PAIRS);

    writer_init(&w);
    for (int i = 0; i < count; i++) {
        const char *name = (const char *)pairs[i].name.at;

        INVARIANT(name >= scratch && name + pairs[i].name.len <= scratch + text.len);
        INVARIANT(pairs[i].name.len > 0);
        INVARIANT(memchr(name, '-', pairs[i].name.len) == NULL);
        writer_raw(&w, "-c ", 3);
        quote(&w, pairs[i].name);
        writer_u8(&w, '=');
        quote(&w, pairs[i].value);
        writer_u8(&w, ' ');
    }
    if (count >= 0) {
        char *second = malloc(w.len + 1);

        INVARIANT(second != NULL && !w.failed);
        INVARIANT(read_options((struct bytes){w.at, w.len}, second, again, PAIRS) == count);
        for (int i = 0; i < count; i++)
            INVARIANT(bytes_equal(pairs[i].name, again[i].name) &&
                      bytes_equal(pairs[i].value, again[i].value));
        free(second);
    }
    writer_free(&w);
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct parameter pairs[PAIRS];
    struct failure why;
    struct frame f;
    struct frame prefix;
    uint32_t code;
    uint32_t ignored;
    enum frame_result whole = packet_peek(&f, &code, data, len, STARTUP_LIMIT);

    for (size_t cut = 0; cut < len; cut++) {
        enum frame_result part = packet_peek(&prefix, &ignored, data, cut, STARTUP_LIMIT);

        INVARIANT(part == FRAME_PARTIAL || part == whole);
    }
    check_options((struct bytes){data, len});
    if (whole != FRAME_WHOLE)
        return 0;
    INVARIANT(f.body + f.body_len <= data + len);

    int count = read_startup(f.body, f.body_len, pairs, PAIRS, &why);
    if (count < 0)
        return 0;

    struct writer w;
    writer_init(&w);
    write_startup(&w, code, pairs, (size_t)count);
    INVARIANT(!w.failed && w.len == 8 + f.body_len && memcmp(w.at, data, w.len) == 0);
    writer_free(&w);
    return 0;
}
