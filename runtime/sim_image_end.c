/* Linked behind the program's objects: where its variables end (runtime/sim_image.c). */
#include "runtime/sim_internal.h"

uint8_t sim_data_end[64] __attribute__((aligned(64))) = {1};
uint8_t sim_zero_end[64] __attribute__((aligned(64)));
