/* sanitizer.h: what AddressSanitizer and ThreadSanitizer must be told about stacks. */
#ifndef RUNTIME_SANITIZER_H
#define RUNTIME_SANITIZER_H

#include "runtime/base.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define SANITIZER_STACK_FACTOR 4
/* A suspended coroutine's stack may hold the only pointer to something. */
#define lsan_register_root(p, n)              __lsan_register_root_region(p, n)
#define asan_poison(p, n)                     __asan_poison_memory_region(p, n)
#define asan_unpoison(p, n)                   __asan_unpoison_memory_region(p, n)
#define asan_start_switch(save, floor, size)  __sanitizer_start_switch_fiber(save, floor, size)
#define asan_finish_switch(save, floor, size) __sanitizer_finish_switch_fiber(save, floor, size)
#else
#define lsan_register_root(p, n)              ((void)(p), (void)(n))
#define asan_poison(p, n)                     ((void)(p), (void)(n))
#define asan_unpoison(p, n)                   ((void)(p), (void)(n))
#define asan_start_switch(save, floor, size)  ((void)(save), (void)(floor), (void)(size))
#define asan_finish_switch(save, floor, size) ((void)(save), (void)(floor), (void)(size))
#endif

#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#ifndef SANITIZER_STACK_FACTOR
#define SANITIZER_STACK_FACTOR 4
#endif
#define tsan_create_fiber()  __tsan_create_fiber(0)
#define tsan_current_fiber() __tsan_get_current_fiber()
#define tsan_switch_to(f)    __tsan_switch_to_fiber(f, 0)
#else
#define tsan_create_fiber()  NULL
#define tsan_current_fiber() NULL
#define tsan_switch_to(f)    ((void)(f))
#endif
/* Not even entry and exit are noted: a function that never returns, on a stack that is used again
 * and again, would fill the fiber's shadow stack. */
#if defined(__clang__)
#define NO_TSAN __attribute__((no_sanitize("thread"), disable_sanitizer_instrumentation))
#else
#define NO_TSAN __attribute__((no_sanitize_thread))
#endif

#ifndef SANITIZER_STACK_FACTOR
#define SANITIZER_STACK_FACTOR 1
#endif

#endif
