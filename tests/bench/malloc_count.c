/* malloc_count.c: counts heap calls of a program it is preloaded into.
 *
 * Built as a shared object for LD_PRELOAD. The counters live in the file that
 * MALLOC_COUNT_FILE names, mapped and shared: a reader looks at it whenever it likes, and the
 * program under test is neither stopped nor signalled. Beside the totals stands a table of
 * calling places (the return address of each call), so that a count that should be zero also
 * says where it comes from.
 *
 * Layout of the file, in 64-bit words: calls to malloc, calloc, realloc, the aligned family and
 * free; calls whose place found no slot; two spare; then SITES pairs of address and count.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SITES 2048u
#define PROBE 32u
#define API   __attribute__((visibility("default")))

struct site {
    uint64_t address;
    uint64_t calls;
};

struct counters {
    uint64_t mallocs;
    uint64_t callocs;
    uint64_t reallocs;
    uint64_t aligned;
    uint64_t frees;
    uint64_t unplaced;
    uint64_t spare[2];
    struct site sites[SITES];
};

/* glibc's own entries, so that no look-up (which itself allocates) is needed. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *p);

static struct counters early; /* for calls before the file is mapped */
static struct counters *counters = &early;

static void add(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void add_site(void *place)
{
    uint64_t address = (uint64_t)(uintptr_t)place;
    uint32_t slot = (uint32_t)((address * 0x9e3779b97f4a7c15u) >> 40);

    for (uint32_t i = 0; i < PROBE; i++) {
        struct site *s = &counters->sites[(slot + i) % SITES];
        uint64_t seen = __atomic_load_n(&s->address, __ATOMIC_RELAXED);
        if (seen == 0 && __atomic_compare_exchange_n(&s->address, &seen, address, 0,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            seen = address;
        if (seen == address) {
            add(&s->calls);
            return;
        }
    }
    add(&counters->unplaced);
}

__attribute__((constructor)) static void map_counters(void)
{
    const char *path = getenv("MALLOC_COUNT_FILE");
    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    if (ftruncate(fd, sizeof(struct counters)) == 0) {
        void *p = mmap(NULL, sizeof(struct counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p != MAP_FAILED)
            counters = p;
    }
    close(fd);
}

API void *malloc(size_t size)
{
    add(&counters->mallocs);
    add_site(__builtin_return_address(0));
    return __libc_malloc(size);
}

API void *calloc(size_t n, size_t size)
{
    add(&counters->callocs);
    add_site(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

API void *realloc(void *p, size_t size)
{
    add(&counters->reallocs);
    add_site(__builtin_return_address(0));
    return __libc_realloc(p, size);
}

API void *memalign(size_t align, size_t size)
{
    add(&counters->aligned);
    add_site(__builtin_return_address(0));
    return __libc_memalign(align, size);
}

API void *aligned_alloc(size_t align, size_t size)
{
    add(&counters->aligned);
    add_site(__builtin_return_address(0));
    return __libc_memalign(align, size);
}

API int posix_memalign(void **out, size_t align, size_t size)
{
    add(&counters->aligned);
    add_site(__builtin_return_address(0));
    void *p = __libc_memalign(align, size);
    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}

API void free(void *p)
{
    if (p != NULL)
        add(&counters->frees);
    __libc_free(p);
}
