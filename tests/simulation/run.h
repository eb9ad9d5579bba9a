/* run.h: one simulated run of the pooler. */
#ifndef SIMULATION_RUN_H
#define SIMULATION_RUN_H

#include "runtime/sim.h"

/* In every run, not only in some. */
extern bool upgrades_wanted;
/* Once, before the runs. */
void run_prepare(void);
/* Returns when all went well; ends the process when not. */
void run_seed(uint64_t seed, bool trace);

#endif
