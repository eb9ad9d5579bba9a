/* log_internal.h: the parts of the log, for log.c and its tests only.
 *
 * A worker copies the formatted message and its facts into a slot of a bounded ring; the writing
 * thread turns records into lines and gives them to the sink. Layout work is thus never done by a
 * worker.
 */
#ifndef RUNTIME_LOG_INTERNAL_H
#define RUNTIME_LOG_INTERNAL_H

#include "runtime/log.h"

enum {
    LOG_MESSAGE_MAX = 16 << 10,                /* longer messages are cut */
    LOG_LINE_MAX = LOG_MESSAGE_MAX * 6 + 1024, /* every byte escaped, and the rest of a line */
    LOG_INLINE = 192,
    LOG_SLOTS = 2048,
    LOG_HEAP_LIMIT = 4 << 20, /* for messages that do not fit a slot */
};

struct log_record {
    uint64_t at_ms;     /* since 1970 */
    const char *module; /* string literals of the call site: borrowed for good */
    const char *file;
    char *heap; /* the message when it does not fit inline; NULL otherwise */
    uint32_t len;
    uint32_t lost; /* lines dropped just before this one */
    int line;
    enum log_level level;
    char text[LOG_INLINE];
};

static inline const char *log_record_message(const struct log_record *r)
{
    return r->heap != NULL ? r->heap : r->text;
}

/* --- log_ring.c: many writers, one reader, never waits --- */
struct log_ring;
MUST_CHECK struct log_ring *log_ring_new(void);
/* Copies facts and message. False: no room, and the line was counted as lost. */
bool log_ring_put(struct log_ring *ring, const struct log_record *facts, const char *message);
/* Reader only. The record's heap then belongs to the caller. */
bool log_ring_take(struct log_ring *ring, struct log_record *out);
/* Reader only: lines lost since the last call or the last record. */
uint32_t log_ring_lost(struct log_ring *ring);
uint64_t log_ring_tail(struct log_ring *ring);
uint64_t log_ring_head(struct log_ring *ring); /* reader only */

/* --- log_filter.c: which levels pass. Pure --- */
enum { LOG_MODULE_MAX = 256, LOG_RULES_MAX = 64 };
struct log_rule {
    enum log_level level;
    char module[LOG_MODULE_MAX + 1];
};
struct log_filter {
    enum log_level base;
    size_t count;
    struct log_rule rules[LOG_RULES_MAX]; /* longest module first */
};
MUST_CHECK int log_filter_parse(struct log_filter *out, const char *spec, struct failure *why);
enum log_level log_filter_level(const struct log_filter *f, const char *module);
void log_filter_print(const struct log_filter *f, char *out, size_t size);

/* --- log_format.c: one line each, with its newline; returns the length. Pure --- */
size_t log_format_text(char *out, size_t size, const struct log_record *r, bool colour);
size_t log_format_structured(char *out, size_t size, const struct log_record *r);

/* --- log_syslog.c --- */
struct log_syslog {
    int fd;
    int pid;
    const char *const *paths; /* NULL-terminated; tried in order */
    char name[64];
};
extern const char *const log_syslog_paths[];
MUST_CHECK int log_syslog_open(struct log_syslog *s, const char *name, const char *const *paths,
                               struct failure *why);
size_t log_format_syslog(char *out, size_t size, const struct log_record *r,
                         const struct log_syslog *s);
/* Waits for room for at most `ms`; connects again when the daemon was restarted. */
void log_syslog_send(struct log_syslog *s, const char *line, size_t len, int ms);
void log_syslog_close(struct log_syslog *s);

#endif
