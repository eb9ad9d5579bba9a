/* log.h: lines for operators. Never blocks a worker: a line is formatted into a bounded ring, and
 * one thread writes the ring to stderr or syslog. When the ring is full, lines are counted and
 * dropped, and the count is logged as soon as there is room.
 *
 * Before log_start() and after log_stop(), and in tests, lines go straight to stderr. Any thread.
 *
 * Each .c file names its module before it includes this header (operators filter by these names):
 *     #define LOG_MODULE "pg_doorman::pool"
 */
#ifndef RUNTIME_LOG_H
#define RUNTIME_LOG_H

#include "runtime/base.h"

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum log_form { LOG_TEXT, LOG_STRUCTURED };

struct log_options {
    enum log_form form;
    bool colour;             /* wanted; still only on a terminal and without NO_COLOR */
    const char *syslog_name; /* NULL: stderr. Borrowed for the call only. */
    const char *filter;      /* start level, as SET log_level takes it; NULL: "info" */
};

/* Starts the writing thread. -1 with a reason when syslog cannot be reached. */
MUST_CHECK int log_start(const struct log_options *options, struct failure *why);
/* Writes what is left (for at most a second) and ends the thread. */
void log_stop(void);
/* Waits until everything logged so far was written, for at most `ms` milliseconds. */
void log_flush(int ms);

/* Changes the levels: "base,module=level,...", or "default" for the start level. The longest
 * matching prefix of the module name decides, in both directions. -1 with the text that
 * `SET log_level` answers (spec: cli-and-operations, levels at run time). */
MUST_CHECK int log_set_filter(const char *spec, struct failure *why);
/* The filter as SHOW LOG_LEVEL prints it: base level, then overrides, longest module first. */
void log_filter_text(char *out, size_t size);

/* Where a call site keeps its decision; refreshed when the filter's generation changes. */
struct log_site {
    uint32_t generation;
    enum log_level allowed;
};
bool log_site_refresh(struct log_site *site, const char *module, enum log_level level);
extern uint32_t log_generation; /* read without order: a stale decision lasts one line */

PRINTF_LIKE(5, 6)
void log_write(enum log_level level, const char *module, const char *file, int line,
               const char *format, ...);

#define log_at(level, ...)                                                 \
    do {                                                                   \
        static struct log_site site_;                                      \
        if (log_site_refresh(&site_, LOG_MODULE, level))                   \
            log_write(level, LOG_MODULE, __FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_trace(...) log_at(LOG_TRACE, __VA_ARGS__)

/* "0ms", "123ms", "5.123s", "1m30s", "1h30m", "2d 1h": the form log tools expect. Returns out. */
char *format_duration(char *out, size_t size, uint64_t microseconds);

#endif
