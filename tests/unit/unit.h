/* unit.h: the smallest test harness that serves. A test is a sentence about behaviour:
 *
 *     TEST(frame_peek_judges_lengths) { EQ(frame_peek(...), FRAME_WHOLE, "%s", row->what); }
 *
 * Each tests/unit/test_<subject>.c is linked into one program of its own. No arguments: run all;
 * one argument: run those whose name contains it. Prints one line per failure and, at the end,
 * "N passed, N failed". Exit status 1 when something failed.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include "runtime/base.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct unit_test {
    const char *name;
    void (*run)(void);
    struct unit_test *next;
};
void unit_register(struct unit_test *test);
/* Whether the test that runs has failed so far: the exit status of a test's child process. */
bool unit_failed(void);
PRINTF_LIKE(3, 4) void unit_fail(const char *file, int line, const char *format, ...);

#define TEST(id)                                                 \
    static void test_##id(void);                                 \
    static struct unit_test unit_##id = {#id, test_##id, NULL};  \
    __attribute__((constructor)) static void register_##id(void) \
    {                                                            \
        unit_register(&unit_##id);                               \
    }                                                            \
    static void test_##id(void)

/* The optional arguments are a format that names the row of a table-driven test. */
#define CHECK(x, ...)                                                       \
    do {                                                                    \
        if (!(x))                                                           \
            unit_fail(__FILE__, __LINE__, "not true: " #x " " __VA_ARGS__); \
    } while (0)
#define EQ(a, b, ...)                                                                    \
    do {                                                                                 \
        int64_t eq_a_ = (int64_t)(a);                                                    \
        int64_t eq_b_ = (int64_t)(b);                                                    \
        if (eq_a_ != eq_b_) {                                                            \
            fprintf(stderr, "%s = %" PRId64 ", wanted %" PRId64 "\n", #a, eq_a_, eq_b_); \
            unit_fail(__FILE__, __LINE__, #a " == " #b " " __VA_ARGS__);                 \
        }                                                                                \
    } while (0)
#define STR_EQ(a, b, ...)                                                  \
    do {                                                                   \
        const char *str_a_ = (a);                                          \
        const char *str_b_ = (b);                                          \
        if (strcmp(str_a_, str_b_) != 0) {                                 \
            fprintf(stderr, "got    '%s'\nwanted '%s'\n", str_a_, str_b_); \
            unit_fail(__FILE__, __LINE__, #a " " __VA_ARGS__);             \
        }                                                                  \
    } while (0)

#endif
