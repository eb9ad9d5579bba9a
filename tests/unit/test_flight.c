#include "runtime/crash.h"
#include "runtime/flight.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Fields all follow from one number, so that a torn record shows. */
static void write_records(struct flight *f, uint64_t from, uint64_t to)
{
    for (; from < to; from++)
        flight_record(f, from, from * 3, (uint8_t)from, (uint16_t)(from >> 8), (uint32_t)~from);
}

static bool whole(const struct flight_record *r)
{
    uint64_t n = r->at_us;

    return r->actor == n * 3 && r->type == (uint8_t)n && r->kind == (uint16_t)(n >> 8) &&
           r->detail == (uint32_t)~n;
}

struct visited {
    uint64_t next;
    uint64_t count;
    uint64_t broken;
};

static void check_record(void *context, const struct flight_record *r)
{
    struct visited *v = context;

    if (!whole(r) || r->at_us < v->next)
        v->broken++;
    v->next = r->at_us + 1;
    v->count++;
}

TEST(the_last_records_are_kept_in_order)
{
    static const struct {
        uint64_t written;
        uint64_t want;
    } rows[] = {
        {0, 0},
        {1, 1},
        {FLIGHT_RECORDS, FLIGHT_RECORDS},
        {FLIGHT_RECORDS + 1, FLIGHT_RECORDS},
        {FLIGHT_RECORDS * 3 + 7, FLIGHT_RECORDS},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct flight *f = flight_new(1);
        struct visited v = {0};

        write_records(f, 0, rows[i].written);
        flight_each(f, check_record, &v);
        EQ(v.count, rows[i].want, "row %zu", i);
        EQ(v.broken, 0, "row %zu", i);
        EQ(v.next, rows[i].written, "row %zu", i);
    }
}

struct race {
    struct flight *f;
    uint32_t stop; /* atomic */
};

static void *keep_writing(void *context)
{
    struct race *race = context;

    for (uint64_t n = 0; !__atomic_load_n(&race->stop, __ATOMIC_RELAXED); n += 64)
        write_records(race->f, n, n + 64);
    return NULL;
}

TEST(a_reader_never_sees_a_torn_record)
{
    struct race race = {.f = flight_new(2)};
    struct visited v = {0};
    pthread_t writer;

    pthread_create(&writer, NULL, keep_writing, &race);
    for (int i = 0; i < 300; i++) {
        v.next = 0;
        flight_each(race.f, check_record, &v);
    }
    __atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    EQ(v.broken, 0);
}

static const char *name_of(uint8_t type, uint16_t kind)
{
    return type == 2 && kind == 7 ? "session RECV" : NULL;
}

static void read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;

    while ((n = read(fd, out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    out[len] = '\0';
    close(fd);
}

TEST(dumps_are_readable)
{
    struct flight *f = flight_new(777);
    char *text = malloc(1 << 20);
    int ends[2];

    flight_record(f, 1, 0x10, 1, 3, 5);
    flight_record(f, 2, 0x20, 2, 7, 0);
    EQ(pipe(ends), 0);
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
    flight_dump(ends[1], name_of);
    close(ends[1]);
    read_all(ends[0], text, 1 << 20);
    CHECK(strstr(text, "last messages of worker 777, 2 of 2:\n"
                       "  1us 0x10 1.3 5\n"
                       "  2us 0x20 session RECV 0\n") != NULL);
    free(text);
}

static void report_flight(int fd)
{
    flight_dump(fd, NULL);
}

/* Ends a copy of this process by a signal and collects its report. */
static int crash_with(int number, char *out, size_t size)
{
    struct rlimit no_core = {0, 0};
    int ends[2];
    int status = 0;

    fflush(NULL);
    if (pipe(ends) != 0)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        crash_install();
        crash_on_report(report_flight);
        raise(number);
        _exit(0);
    }
    close(ends[1]);
    read_all(ends[0], out, size);
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(a_crash_reports_and_then_ends_by_its_signal)
{
    char *text = malloc(1 << 20);

    write_records(flight_new(555), 0, 3);
    EQ(crash_with(SIGABRT, text, 1 << 20), SIGABRT);
    CHECK(strstr(text, "pg_doorman failed with SIGABRT in thread ") != NULL);
    CHECK(strstr(text, "last messages of worker 555, 3 of 3:") != NULL);
    free(text);
}
