/* passing.h: numbers that another thread writes while they are read.
 *
 * Counters belong to whoever holds the thing they count, and no reader is worth slowing that one
 * down: SHOW and the snapshot read aligned words as they pass. Pointers are never followed this
 * way, unless what they point to outlives the look.
 */
#ifndef ACTORS_PASSING_H
#define ACTORS_PASSING_H

#include "runtime/sanitizer.h"

#define PASSING(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* Between these ThreadSanitizer does not mind. No wait in between. */
#ifdef WITH_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#define PASSING_BEGIN() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
#define PASSING_END()   AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
#else
#define PASSING_BEGIN() ((void)0)
#define PASSING_END()   ((void)0)
#endif

#endif
