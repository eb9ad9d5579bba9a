#include "runtime/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Set by the runtime, so that a broken invariant also dumps the flight recorder. */
void (*invariant_hook)(const char *text);

void invariant_failed(const char *expression, const char *file, int line)
{
    char text[512];
    int len = snprintf(text, sizeof text, "invariant failed: %s at %s:%d\n", expression, file,
                       line);

    if (write(STDERR_FILENO, text, (size_t)len) < 0) {
        /* Nothing left to tell anybody. */
    }
    if (invariant_hook != NULL)
        invariant_hook(text);
    abort();
}

int fail(struct failure *why, const char *format, ...)
{
    int saved = errno;
    va_list arguments;

    va_start(arguments, format);
    if (why != NULL)
        vsnprintf(why->text, sizeof why->text, format, arguments);
    va_end(arguments);
    errno = saved;
    return -1;
}

int write_fully(int fd, const void *data, size_t len)
{
    const uint8_t *at = data;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}
