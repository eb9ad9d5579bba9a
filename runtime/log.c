#include "runtime/log_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK_BYTES = 4096, /* PIPE_BUF: lines of several processes on one pipe stay whole */
    STOP_WRITES_MS = 700,
    STOP_JOIN_MS = 950,
    DIRECT_PATIENCE_MS = 500,
};

/* The writing thread and what it owns. Never freed: a worker may still hold the pointer, and a
 * thread that hangs in a write is left behind together with its ring. */
struct log_writer {
    struct log_ring *ring;
    enum log_form form;
    bool colour;
    bool to_syslog;
    struct log_syslog syslog;
    int wake_fd;
    pthread_t thread;
    uint32_t sleeping;   /* atomic */
    uint32_t stopping;   /* atomic */
    uint32_t ended;      /* atomic */
    uint64_t give_up_ms; /* written before stopping */
    uint64_t done;       /* atomic: ring position up to which all was written */
    size_t chunk_len;
    char chunk[CHUNK_BYTES];
    char line[LOG_LINE_MAX];
};

uint32_t log_generation = 1;

static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER; /* start and stop */
static pthread_mutex_t filter_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_filter filter = {.base = LOG_INFO};
static struct log_filter start_filter = {.base = LOG_INFO};
static struct log_writer *active; /* atomic; NULL: straight to stderr */
static struct log_writer *resting;
static int direct_patience_ms = DIRECT_PATIENCE_MS; /* atomic */

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- filter --- */

bool log_site_refresh(struct log_site *site, const char *module, enum log_level level)
{
    uint32_t generation = __atomic_load_n(&log_generation, __ATOMIC_RELAXED);

    if (UNLIKELY(__atomic_load_n(&site->generation, __ATOMIC_ACQUIRE) != generation)) {
        pthread_mutex_lock(&filter_lock);
        generation = __atomic_load_n(&log_generation, __ATOMIC_RELAXED);
        __atomic_store_n(&site->allowed, log_filter_level(&filter, module), __ATOMIC_RELAXED);
        __atomic_store_n(&site->generation, generation, __ATOMIC_RELEASE);
        pthread_mutex_unlock(&filter_lock);
    }
    return level <= __atomic_load_n(&site->allowed, __ATOMIC_RELAXED);
}

int log_set_filter(const char *spec, struct failure *why)
{
    struct log_filter *parsed = malloc(sizeof *parsed);

    if (parsed == NULL)
        return fail(why, "out of memory");
    bool as_at_start = strcasecmp(spec, "default") == 0;
    if (!as_at_start && log_filter_parse(parsed, spec, why) != 0) {
        free(parsed);
        return -1;
    }
    pthread_mutex_lock(&filter_lock);
    filter = as_at_start ? start_filter : *parsed;
    /* 0 is what a site that was never asked carries. */
    uint32_t next = log_generation + 1;
    __atomic_store_n(&log_generation, next == 0 ? 1 : next, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&filter_lock);
    free(parsed);
    return 0;
}

void log_filter_text(char *out, size_t size)
{
    pthread_mutex_lock(&filter_lock);
    log_filter_print(&filter, out, size);
    pthread_mutex_unlock(&filter_lock);
}

/* --- writing --- */

/* Waits for room before each piece, so that a pipe that nobody reads is noticed and not blocked
 * on. Its descriptor is shared with other processes, so it is not made non-blocking. False: gave
 * up; what is left of the text is lost. */
static bool write_patiently(const char *at, size_t len, bool (*go_on)(void *), void *context)
{
    while (len > 0) {
        struct pollfd wait = {.fd = STDERR_FILENO, .events = POLLOUT};
        int ready = poll(&wait, 1, 50);

        if (ready == 0 || (ready < 0 && errno == EINTR)) {
            if (!go_on(context))
                return false;
            continue;
        }
        ssize_t n = write(STDERR_FILENO, at, MIN(len, (size_t)CHUNK_BYTES));
        if (n >= 0) {
            at += n;
            len -= (size_t)n;
        } else if (errno != EINTR && errno != EAGAIN) {
            return true; /* closed: nobody wants to read it */
        } else if (!go_on(context)) {
            return false;
        }
    }
    return true;
}

static bool before_deadline(void *deadline_ms)
{
    return clock_ms(CLOCK_MONOTONIC) < *(uint64_t *)deadline_ms;
}

static void write_direct(const struct log_record *r)
{
    static _Thread_local char line[LOG_MESSAGE_MAX + 1024];
    uint64_t deadline_ms = clock_ms(CLOCK_MONOTONIC);

    deadline_ms += (uint64_t)__atomic_load_n(&direct_patience_ms, __ATOMIC_RELAXED);
    size_t len = log_format_text(line, sizeof line, r, false);
    write_patiently(line, len, before_deadline, &deadline_ms);
}

static bool writer_goes_on(void *context)
{
    struct log_writer *w = context;

    return !__atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE) ||
           clock_ms(CLOCK_MONOTONIC) < w->give_up_ms;
}

static void writer_flush(struct log_writer *w)
{
    if (w->chunk_len > 0)
        write_patiently(w->chunk, w->chunk_len, writer_goes_on, w);
    w->chunk_len = 0;
    __atomic_store_n(&w->done, log_ring_head(w->ring), __ATOMIC_RELEASE);
}

static void writer_line(struct log_writer *w, const struct log_record *r)
{
    size_t len;

    if (w->to_syslog) {
        len = log_format_syslog(w->line, sizeof w->line, r, &w->syslog);
        log_syslog_send(&w->syslog, w->line, len, 200);
        return;
    }
    len = w->form == LOG_STRUCTURED ? log_format_structured(w->line, sizeof w->line, r)
                                    : log_format_text(w->line, sizeof w->line, r, w->colour);
    if (w->chunk_len + len > sizeof w->chunk)
        writer_flush(w);
    if (len > sizeof w->chunk) {
        write_patiently(w->line, len, writer_goes_on, w);
        return;
    }
    memcpy(w->chunk + w->chunk_len, w->line, len);
    w->chunk_len += len;
}

static void writer_report_lost(struct log_writer *w, uint32_t lost)
{
    struct log_record r = {
        .at_ms = clock_ms(CLOCK_REALTIME),
        .module = "pg_doorman::app",
        .file = __FILE__,
        .line = __LINE__,
        .level = LOG_WARN,
    };

    r.len = (uint32_t)snprintf(r.text, sizeof r.text,
                               "%u log lines were dropped: they came faster than they are read",
                               lost);
    writer_line(w, &r);
}

static bool writer_drain(struct log_writer *w)
{
    struct log_record r;
    bool any = false;

    while (writer_goes_on(w) && log_ring_take(w->ring, &r)) {
        any = true;
        if (r.lost > 0)
            writer_report_lost(w, r.lost);
        writer_line(w, &r);
        free(r.heap);
    }
    uint32_t lost = log_ring_lost(w->ring);
    if (lost > 0)
        writer_report_lost(w, lost);
    writer_flush(w);
    return any;
}

static void writer_sleep(struct log_writer *w)
{
    struct pollfd wait = {.fd = w->wake_fd, .events = POLLIN};
    uint64_t count;

    (void)poll(&wait, 1, 1000);
    if (read(w->wake_fd, &count, sizeof count) < 0) {
        /* The time ran out; look anyway. */
    }
}

static void *writer_run(void *context)
{
    struct log_writer *w = context;

    for (;;) {
        bool last = __atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE);

        if (writer_drain(w))
            continue;
        if (last)
            break;
        __atomic_store_n(&w->sleeping, 1, __ATOMIC_SEQ_CST);
        /* Once more: a line may have come before the flag was seen. */
        if (!writer_drain(w))
            writer_sleep(w);
        __atomic_store_n(&w->sleeping, 0, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&w->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void writer_wake(struct log_writer *w)
{
    uint64_t one = 1;

    if (write(w->wake_fd, &one, sizeof one) < 0) {
        /* Only when the counter is full, and then it is awake. */
    }
}

void log_write(enum log_level level, const char *module, const char *file, int line,
               const char *format, ...)
{
    /* Not on the stack: coroutine stacks are small. Nothing here suspends. */
    static _Thread_local char message[LOG_MESSAGE_MAX];
    struct log_writer *w = __atomic_load_n(&active, __ATOMIC_ACQUIRE);
    int saved = errno;
    va_list arguments;

    va_start(arguments, format);
    int n = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);

    struct log_record facts;
    facts.at_ms = clock_ms(CLOCK_REALTIME);
    facts.module = module;
    facts.file = file;
    facts.line = line;
    facts.level = level;
    facts.lost = 0;
    facts.len = n < 0 ? 0 : (uint32_t)MIN((size_t)n, sizeof message - 1);
    facts.heap = message;
    if (w == NULL) {
        write_direct(&facts);
    } else if (log_ring_put(w->ring, &facts, message) &&
               __atomic_load_n(&w->sleeping, __ATOMIC_SEQ_CST) &&
               __atomic_exchange_n(&w->sleeping, 0, __ATOMIC_RELAXED)) {
        writer_wake(w);
    }
    errno = saved;
}

/* --- start and stop --- */

static struct log_writer *writer_new(struct failure *why)
{
    struct log_writer *w = calloc(1, sizeof *w);

    if (w == NULL)
        goto failed;
    w->ring = log_ring_new();
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->ring == NULL || w->wake_fd < 0)
        goto free_writer;
    return w;

free_writer:
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    free(w->ring);
    free(w);
failed:
    fail(why, "logging cannot start: %s", strerror(errno));
    return NULL;
}

/* Signals are for the main thread; faults must still reach the crash handler. */
static int writer_spawn(struct log_writer *w, struct failure *why)
{
    sigset_t blocked;
    sigset_t before;

    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int error = pthread_create(&w->thread, NULL, writer_run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return fail(why, "logging cannot start: %s", strerror(error));
    pthread_setname_np(w->thread, "log-pg-doorman");
    return 0;
}

static bool colour_allowed(bool wanted)
{
    const char *no_color = getenv("NO_COLOR");

    return wanted && (no_color == NULL || no_color[0] == '\0') && isatty(STDERR_FILENO);
}

static int take_start_filter(const char *spec, struct failure *why)
{
    static struct log_filter parsed; /* under control */

    if (log_filter_parse(&parsed, spec != NULL ? spec : "info", why) != 0)
        return -1;
    pthread_mutex_lock(&filter_lock);
    start_filter = parsed;
    pthread_mutex_unlock(&filter_lock);
    return log_set_filter("default", why);
}

static int start_locked(const struct log_options *options, struct failure *why)
{
    struct log_writer *w = resting;

    if (active != NULL)
        return fail(why, "logging runs already");
    if (take_start_filter(options->filter, why) != 0)
        return -1;
    if (w == NULL)
        w = writer_new(why);
    if (w == NULL)
        return -1;
    resting = w;
    w->to_syslog = options->syslog_name != NULL && options->syslog_name[0] != '\0';
    if (w->to_syslog &&
        log_syslog_open(&w->syslog, options->syslog_name, log_syslog_paths, why) != 0)
        return -1;
    w->form = options->form;
    w->colour = colour_allowed(options->colour);
    w->stopping = 0;
    w->ended = 0;
    signal(SIGPIPE, SIG_IGN);
    if (writer_spawn(w, why) != 0)
        return -1;
    resting = NULL;
    __atomic_store_n(&direct_patience_ms, DIRECT_PATIENCE_MS, __ATOMIC_RELAXED);
    __atomic_store_n(&active, w, __ATOMIC_RELEASE);
    return 0;
}

int log_start(const struct log_options *options, struct failure *why)
{
    pthread_mutex_lock(&control);
    int result = start_locked(options, why);
    pthread_mutex_unlock(&control);
    return result;
}

/* A flag and not a timed join, which the thread sanitizer does not know everywhere. */
static bool join_until(struct log_writer *w, uint64_t deadline_ms)
{
    struct timespec pause = {.tv_nsec = 500000};

    while (!__atomic_load_n(&w->ended, __ATOMIC_ACQUIRE)) {
        if (clock_ms(CLOCK_MONOTONIC) >= deadline_ms)
            return false;
        nanosleep(&pause, NULL);
    }
    return pthread_join(w->thread, NULL) == 0;
}

static void stop_locked(struct log_writer *w)
{
    uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);

    __atomic_store_n(&active, NULL, __ATOMIC_RELEASE);
    w->give_up_ms = now_ms + STOP_WRITES_MS;
    __atomic_store_n(&w->stopping, 1, __ATOMIC_RELEASE);
    writer_wake(w);
    if (!join_until(w, now_ms + STOP_JOIN_MS)) {
        /* It hangs in a write. Its ring stays with it; the next start gets a new one. */
        pthread_detach(w->thread);
        __atomic_store_n(&direct_patience_ms, 0, __ATOMIC_RELAXED);
        return;
    }
    if (clock_ms(CLOCK_MONOTONIC) >= w->give_up_ms)
        __atomic_store_n(&direct_patience_ms, 0, __ATOMIC_RELAXED);
    if (w->to_syslog)
        log_syslog_close(&w->syslog);
    resting = w;
}

void log_stop(void)
{
    pthread_mutex_lock(&control);
    if (active != NULL)
        stop_locked(active);
    pthread_mutex_unlock(&control);
}

void log_flush(int ms)
{
    struct log_writer *w = __atomic_load_n(&active, __ATOMIC_ACQUIRE);
    uint64_t deadline_ms = clock_ms(CLOCK_MONOTONIC) + (uint64_t)MAX(ms, 0);
    struct timespec pause = {.tv_nsec = 500000};

    if (w == NULL)
        return;
    uint64_t target = log_ring_tail(w->ring);
    while (__atomic_load_n(&w->done, __ATOMIC_ACQUIRE) < target &&
           clock_ms(CLOCK_MONOTONIC) < deadline_ms)
        nanosleep(&pause, NULL);
}
