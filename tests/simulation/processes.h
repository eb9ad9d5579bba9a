/* processes.h: hot upgrades in the simulation: processes that begin, die and stand still. */
#ifndef SIMULATION_PROCESSES_H
#define SIMULATION_PROCESSES_H

#include "actors/handoff.h"
#include "actors/state.h"
#include "runtime/sim.h"

enum { PROGRAMS = 2 };

/* What a seed wants of its upgrades. */
struct upheaval {
    bool any;
    unsigned at_us;    /* of the first */
    unsigned again_pm; /* per mille: of upgrades, to be followed by another */
    unsigned fault_pm; /* per mille: of upgrades, in which something goes wrong */
};
extern struct upheaval upheaval;

/* Draws the plan. successor() is a new process from its start on, on a thread of its own, with
 * this listener. */
void processes_begin(void (*successor)(int listener));
/* The present process serves: it can be upgraded from now on. */
void processes_serves(void);
/* One lives, which is in charge, and no upgrade is under way; it is present from then on. Or none
 * lives. */
bool processes_settled(void);
bool processes_none(void);
/* A process in which the operator may do something is present from then on. False: there is none
 * at this moment. */
bool processes_operate(void);
/* For sim_options: what goes wrong does so here. */
void processes_point(const char *name);
/* At this moment it may be late: it stood still just now. */
bool processes_late(void);
/* Upgrades that were begun. */
unsigned processes_upgrades(void);
/* What the sender of that packet means by the commit word; COMMIT_OPEN before there is one. */
uint32_t processes_word(void);

/* --- check_handoff.c --- */
/* The predecessor stands still and has written this. */
void handoff_observe(const struct state_document *d);
/* The successor stands still and has taken it over. */
void handoff_compare(void);
/* --- check_round_trip.c --- */
/* The same moment; the document is changed. */
void handoff_round_trip(struct state_document *before);

#endif
