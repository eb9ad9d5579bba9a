/* Linked in front of the program's objects: where its variables begin (runtime/sim_image.c). */
#include "runtime/sim_internal.h"

uint8_t sim_data_begin[64] __attribute__((aligned(64))) = {1};
uint8_t sim_zero_begin[64] __attribute__((aligned(64)));
