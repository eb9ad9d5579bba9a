/* safe_text.h: text for signal handlers: a fixed buffer and write(), nothing else. */
#ifndef RUNTIME_SAFE_TEXT_H
#define RUNTIME_SAFE_TEXT_H

#include "runtime/base.h"

struct safe_text {
    size_t len;
    char at[256];
};

/* What does not fit is cut off. */
void safe_text_add(struct safe_text *t, const char *text);
void safe_text_decimal(struct safe_text *t, uint64_t v);
void safe_text_hex(struct safe_text *t, uint64_t v); /* with 0x */
/* Writes all of it, as far as fd takes it, and empties the buffer. */
void safe_text_write(struct safe_text *t, int fd);

#endif
