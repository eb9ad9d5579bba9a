/* Two processes in one: the program's static variables exist once for each of them, and those of
 * one are in place. What they point to is on the heap, which both share without knowing.
 *
 * The linker puts the variables of the program's objects between those of two files, and those of
 * the simulation outside. Read-only and thread-local ones need no copy: the former are equal, and
 * of the latter only scratch and the present worker exist, which is nobody between two steps. */
#include "runtime/sim_internal.h"

#include "runtime/worker.h"

#include <stdlib.h>

#if defined(__clang__)
#define NO_SANITIZER __attribute__((no_sanitize("address", "thread", "undefined"), noinline))
#else
#define NO_SANITIZER __attribute__((no_sanitize("address", "thread", "undefined"), noinline))
#endif

struct image {
    uint64_t *data;
    uint64_t *zero;
};

static struct image images[SIM_PROCESSES];
static struct image fresh; /* as a process begins */
static unsigned present;

/* Word by word, gaps between variables as well, which the address sanitizer guards. */
NO_SANITIZER static void copy(void *to, const void *from, size_t bytes)
{
    uint64_t *out = to;
    const uint64_t *in = from;

    for (size_t i = 0; i < bytes / sizeof *in; i++) {
        out[i] = in[i];
        if (i % 64 == 0)
            __asm__ volatile("" ::: "memory");
    }
    __asm__ volatile("" ::: "memory");
}

static size_t data_bytes(void)
{
    return (size_t)((uintptr_t)sim_data_end - (uintptr_t)sim_data_begin);
}

static size_t zero_bytes(void)
{
    return (size_t)((uintptr_t)sim_zero_end - (uintptr_t)sim_zero_begin);
}

static void image_make(struct image *image)
{
    image->data = malloc(data_bytes());
    image->zero = malloc(zero_bytes());
    INVARIANT(image->data != NULL && image->zero != NULL);
}

static void image_save(struct image *image)
{
    copy(image->data, sim_data_begin, data_bytes());
    copy(image->zero, sim_zero_begin, zero_bytes());
}

static void image_load(const struct image *image)
{
    copy(sim_data_begin, image->data, data_bytes());
    copy(sim_zero_begin, image->zero, zero_bytes());
}

static bool lies_within(const void *at)
{
    uintptr_t place = (uintptr_t)at;

    return (place > (uintptr_t)sim_data_begin && place < (uintptr_t)sim_data_end) ||
           (place > (uintptr_t)sim_zero_begin && place < (uintptr_t)sim_zero_end);
}

void sim_images_begin(void)
{
    /* The program's and the simulation's. */
    if (!lies_within(&world_simulated) || !lies_within(&actor_batch) || lies_within(&sim_options) ||
        lies_within(&sim_world))
        sim_fail("the linker has put variables elsewhere");
    for (unsigned i = 0; i < SIM_PROCESSES; i++)
        image_make(&images[i]);
    image_make(&fresh);
    image_save(&fresh);
}

void sim_enter(unsigned process)
{
    sim_process = process;
    if (present == process)
        return;
    image_save(&images[present]);
    image_load(&images[process]);
    present = process;
}

void sim_image_renew(unsigned process)
{
    INVARIANT(process != present);
    copy(images[process].data, fresh.data, data_bytes());
    copy(images[process].zero, fresh.zero, zero_bytes());
}
