/* coro_switch.h: the switch itself: assembly for x86-64 and aarch64, ucontext elsewhere (or with
 * -DDOORMAN_UCONTEXT, to bring up a new platform). */
#ifndef RUNTIME_CORO_SWITCH_H
#define RUNTIME_CORO_SWITCH_H

#include "runtime/base.h"

/* Stores where the caller stands in *save_sp and continues at load_sp. */
void coro_swap(void **save_sp, void *load_sp);
/* A fresh stack on which the first swap calls run(argument), which must not return. */
void *coro_prepare(uint8_t *floor, size_t size, void (*run)(void *), void *argument);

#endif
