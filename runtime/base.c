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
