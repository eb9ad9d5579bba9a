#include "tests/unit/unit.h"

#include <stdarg.h>

/* glibc's resolver keeps its servers' addresses for the thread that asked. A helper thread that is
 * still there when a test ends has not lost them. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:__res_context_send\n";
}

static struct unit_test *tests;
static bool current_failed;

void unit_register(struct unit_test *test)
{
    struct unit_test **at = &tests;

    while (*at != NULL)
        at = &(*at)->next;
    *at = test;
}

bool unit_failed(void)
{
    return current_failed;
}

void unit_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;

    current_failed = true;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    int passed = 0;
    int failed = 0;

    for (struct unit_test *test = tests; test != NULL; test = test->next) {
        if (argc > 1 && strstr(test->name, argv[1]) == NULL)
            continue;
        current_failed = false;
        test->run();
        if (current_failed) {
            printf("FAILED %s\n", test->name);
            failed++;
        } else {
            passed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
