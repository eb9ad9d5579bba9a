#include "runtime/safe_text.h"

#include <errno.h>
#include <unistd.h>

static void add_char(struct safe_text *t, char c)
{
    if (t->len < sizeof t->at)
        t->at[t->len++] = c;
}

void safe_text_add(struct safe_text *t, const char *text)
{
    while (*text != '\0')
        add_char(t, *text++);
}

static void add_number(struct safe_text *t, uint64_t v, unsigned base)
{
    char digits[24];
    int n = 0;

    do {
        digits[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v != 0);
    while (n > 0)
        add_char(t, digits[--n]);
}

void safe_text_decimal(struct safe_text *t, uint64_t v)
{
    add_number(t, v, 10);
}

void safe_text_hex(struct safe_text *t, uint64_t v)
{
    safe_text_add(t, "0x");
    add_number(t, v, 16);
}

void safe_text_write(struct safe_text *t, int fd)
{
    size_t sent = 0;

    while (sent < t->len) {
        ssize_t n = write(fd, t->at + sent, t->len - sent);

        if (n > 0)
            sent += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    t->len = 0;
}
