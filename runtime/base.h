/* base.h: the few words that every file of this project speaks.
 *
 * Knows nothing of actors, PostgreSQL or I/O. Pure modules (proto, auth, config) may include it.
 */
#ifndef RUNTIME_BASE_H
#define RUNTIME_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK            __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a)     __attribute__((format(printf, f, a)))
#define COLD                  __attribute__((cold, noinline))
#define NO_RETURN             __attribute__((noreturn))
#define UNUSED                __attribute__((unused))
#define LIKELY(x)             __builtin_expect(!!(x), 1)
#define UNLIKELY(x)           __builtin_expect(!!(x), 0)
#define COUNT_OF(a)           (sizeof(a) / sizeof((a)[0]))
#define CACHE_LINE            64
#define CONTAINER_OF(p, t, m) ((t *)(void *)((char *)(p)-offsetof(t, m)))

/* Each use has names of its own, so that uses nest without shadowing. */
#define PASTE_(a, b) a##b
#define PASTE(a, b)  PASTE_(a, b)
#define PICK_(a, b, op, x, y)  \
    ({                         \
        __typeof__(a) x = (a); \
        __typeof__(b) y = (b); \
        x op y ? x : y;        \
    })
#define PICK_AS(a, b, op, n) PICK_(a, b, op, PASTE(pick_a_, n), PASTE(pick_b_, n))
#define MIN(a, b)            PICK_AS(a, b, <, __COUNTER__)
#define MAX(a, b)            PICK_AS(a, b, >, __COUNTER__)

/* Two grades of assertion. INVARIANT is cheap and always on: a broken one ends the process with a
 * report, since going on would hand one client's bytes to another. DEBUG_CHECK walks structures
 * and exists in debug, sanitizer and simulation builds only. */
NO_RETURN COLD void invariant_failed(const char *expression, const char *file, int line);
#define INVARIANT(x)                                  \
    do {                                              \
        if (UNLIKELY(!(x)))                           \
            invariant_failed(#x, __FILE__, __LINE__); \
    } while (0)
#ifdef DOORMAN_DEBUG
#define DEBUG_CHECK(x) INVARIANT(x)
#else
#define DEBUG_CHECK(x) ((void)sizeof(x))
#endif

/* Why something failed, for people. Filled by whoever returns -1; the caller may prefix it. */
struct failure {
    char text[512];
};
/* Writes the reason; keeps errno. Always returns -1, so that `return fail(why, ...)` reads well. */
PRINTF_LIKE(2, 3) int fail(struct failure *why, const char *format, ...);

/* A run of bytes that belongs to somebody else. */
struct bytes {
    const uint8_t *at;
    size_t len;
};
static inline struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}
static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline uint16_t load_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t load_be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline void store_be16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void store_be32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}

/* 0..15, or -1. */
static inline int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}
/* All of it, to a descriptor that blocks. -1: errno tells why. */
MUST_CHECK int write_fully(int fd, const void *data, size_t len);

#endif
