/* upgrade_course.h: one upgrade, from the request to the end, on the thread of its own that
 * actors/upgrade.c runs. Everything here may block, but nothing waits for longer than its limit.
 */
#ifndef ACTORS_UPGRADE_COURSE_H
#define ACTORS_UPGRADE_COURSE_H

#include "actors/upgrade_internal.h"

enum { UPGRADE_LISTENERS = 2 };

struct upgrade {
    struct upgrade_child child;
    struct listener **listeners; /* for TCP, and for the Unix socket; NULL: none */
    uint64_t generation;         /* the successor's */
    uint64_t started_us;
    struct upgrade_plan plan;
    uint64_t ready_until_us; /* for the new process to get ready */
    uint64_t deadline_us;    /* for what remains, once the rest has moved */
    uint64_t guard_until_us; /* the listeners are kept until then; 0: they are closed */
    uint64_t round;
    struct upgrade_status told; /* what the successor knows of who is left */
    bool legacy;                /* the successor is PgDoorman 3.10 */
    bool aside;                 /* and the Unix socket has made way for its own */
    char reason[512];           /* for which it has failed */
    bool lost;                  /* with the clients that had moved */
    bool alone;                 /* and it has gone */
};

static inline int left_ms(uint64_t until_us)
{
    uint64_t now_us = clock_us();

    return now_us >= until_us ? 0 : (int)((until_us - now_us) / 1000) + 1;
}

/* --- upgrade_begin.c: from the request to a successor that is ready --- */
MUST_CHECK int upgrade_prepare(struct upgrade *u, struct failure *why);
/* upgrade.c: the process that would have to be killed if this one ended now; 0: none. */
void upgrade_expect(pid_t child);

/* --- upgrade_rest.c: from the commit to the end --- */
/* Where transactions end here: everybody is told. */
void upgrade_drain(const struct upgrade *u);
void upgrade_drain_no_more(void);
/* Who is still here is told so. Nobody is waited for for long. */
void upgrade_cut_off(void);
/* Round after round, for whoever could not move before, until nobody is left or the time is over.
 * False: the successor has gone. */
bool upgrade_move_the_rest(struct upgrade *u);

#endif
