/* crash.h: the last words of a process that fails.
 *
 * For main(): crash_install() as the very first step, then crash_on_report() with what dumps the
 * flight recorders. For every thread that runs coroutines: crash_thread_begin() at its start, so
 * that the report has a stack of its own even when a coroutine ran out of one. The first fault
 * wins: other threads that fault meanwhile wait. After the report the default action of the signal
 * makes the core file. Builds with the address or thread sanitizer leave memory faults to it.
 */
#ifndef RUNTIME_CRASH_H
#define RUNTIME_CRASH_H

#include "runtime/base.h"

/* SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL. Reports go to stderr. Also for this thread. */
void crash_install(void);
void crash_thread_begin(void);
void crash_thread_end(void); /* optional; before the thread ends */

/* Called once by the failing thread after the backtrace; async-signal-safe only. It has a few
 * seconds, then the process is ended without it. */
typedef void crash_reporter(int fd);
void crash_on_report(crash_reporter *reporter);

#endif
