#define LOG_MODULE "pg_doorman::pool::gc"
#include "runtime/log_internal.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Puts a pipe in the place of stderr. */
struct capture {
    int saved;
    int read_fd;
};

static struct capture capture_start(void)
{
    struct capture c;
    int ends[2];

    fflush(stderr);
    if (pipe2(ends, O_CLOEXEC) != 0)
        abort();
    c.saved = dup(STDERR_FILENO);
    c.read_fd = ends[0];
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    return c;
}

static void capture_restore(struct capture *c)
{
    dup2(c->saved, STDERR_FILENO);
    close(c->saved);
}

/* All that came; stderr is restored first, so that the pipe ends. */
static char *capture_end(struct capture *c)
{
    size_t size = 4 << 20;
    size_t len = 0;
    char *text = malloc(size);
    ssize_t n;

    if (text == NULL)
        abort();
    capture_restore(c);
    while ((n = read(c->read_fd, text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(c->read_fd);
    return text;
}

static void start(enum log_form form, const char *filter)
{
    struct failure why;
    struct log_options options = {.form = form, .filter = filter};

    if (log_start(&options, &why) != 0)
        unit_fail(__FILE__, __LINE__, "log_start: %s", why.text);
}

TEST(durations_read_as_log_tools_expect)
{
    static const struct {
        uint64_t us;
        const char *want;
    } rows[] = {
        {0, "0ms"},
        {999, "0ms"},
        {123000, "123ms"},
        {999999, "999ms"},
        {5123000, "5.123s"},
        {59999000, "59.999s"},
        {60000000, "1m0s"},
        {90000000, "1m30s"},
        {270000000, "4m30s"},
        {5400000000, "1h30m"},
        {176400000000, "2d 1h"},
        {176459000000, "2d 1h"},
    };
    char text[32];

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        STR_EQ(format_duration(text, sizeof text, rows[i].us), rows[i].want);
}

static struct log_record record_of(enum log_level level, const char *message, size_t len)
{
    struct log_record r = {
        .at_ms = 1738314902417,
        .module = "pg_doorman::app",
        .file = "actors/file.c",
        .line = 120,
        .level = level,
        .len = (uint32_t)len,
    };

    memcpy(r.text, message, len);
    return r;
}

TEST(text_lines_have_the_known_layout)
{
    struct log_record r = record_of(LOG_INFO, "two\nlines", 9);
    char line[256];

    line[log_format_text(line, sizeof line, &r, false)] = '\0';
    STR_EQ(line, "2025-01-31T09:15:02.417Z  INFO actors/file.c:120: two\n\tlines\n");
    r.level = LOG_ERROR;
    line[log_format_text(line, sizeof line, &r, true)] = '\0';
    STR_EQ(line, "2025-01-31T09:15:02.417Z \033[31mERROR\033[0m actors/file.c:120: two\n\tlines\n");
}

TEST(text_lines_let_nobody_command_the_terminal)
{
    static const char message[] = "\033[2J\r\x7f\xc2\x9b\t\\\xc3\xa9\xff";
    struct log_record r = record_of(LOG_INFO, message, sizeof message - 1);
    char line[256];

    line[log_format_text(line, sizeof line, &r, false)] = '\0';
    STR_EQ(line, "2025-01-31T09:15:02.417Z  INFO actors/file.c:120: "
                 "\\u001b[2J\\u000d\\u007f\\u009b\t\\\xc3\xa9\xff\n");
}

TEST(structured_lines_escape_control_characters_only)
{
    static const char message[] = "a\"b\\c\n\r\t\x01\x7f\xc2\x85\xc3\xa9";
    struct log_record r = record_of(LOG_WARN, message, sizeof message - 1);
    char line[512];

    line[log_format_structured(line, sizeof line, &r)] = '\0';
    STR_EQ(line, "{\"timestamp\":\"2025-01-31T09:15:02.417Z\",\"level\":\"WARN\","
                 "\"file\":\"actors/file.c\",\"line\":120,\"message\":"
                 "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u007f\\u0085\xc3\xa9\"}\n");
}

TEST(filters_parse_and_print)
{
    static const struct {
        const char *spec;
        const char *want; /* the filter as shown, or the error */
    } rows[] = {
        {"debug", "debug"},
        {"WARNING", "warn"},
        {"off", "off"},
        {"", "info"},
        {"pg_doorman::pool=trace", "info,pg_doorman::pool=trace"},
        {"warn,pg_doorman::pool=debug", "warn,pg_doorman::pool=debug"},
        {" error , a=debug , abc=warn , ab=off ", "error,abc=warn,ab=off,a=debug"},
        {"a=debug,a=warn", "info,a=warn"},
        {"noisy", "Invalid log level 'noisy'. Valid: error, warn, info, debug, trace, off"},
        {"a=", "Invalid log level ''. Valid: error, warn, info, debug, trace, off"},
        {"info,warn", "Multiple base levels specified"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct failure got = {""};
        struct log_filter f;

        if (log_filter_parse(&f, rows[i].spec, &got) == 0)
            log_filter_print(&f, got.text, sizeof got.text);
        STR_EQ(got.text, rows[i].want, "%s", rows[i].spec);
    }
}

TEST(filters_refuse_long_module_names)
{
    struct failure why;
    struct log_filter f;
    char spec[300];

    memset(spec, 'm', sizeof spec);
    memcpy(spec + 256, "=off", 5);
    EQ(log_filter_parse(&f, spec, &why), 0);
    memcpy(spec + 256, "m=off", 6);
    EQ(log_filter_parse(&f, spec, &why), -1);
    EQ(strlen(why.text), strlen("Module path too long: ") + 64);
    CHECK(strncmp(why.text, "Module path too long: mmm", 25) == 0);
}

TEST(filter_longest_prefix_decides_both_ways)
{
    struct failure why;
    struct log_filter f;

    EQ(log_filter_parse(&f, "info,pg_doorman::pool=debug,pg_doorman::pool::gc=error", &why), 0);
    EQ(log_filter_level(&f, "pg_doorman::pool::gc"), LOG_ERROR);
    EQ(log_filter_level(&f, "pg_doorman::pool::retain"), LOG_DEBUG);
    EQ(log_filter_level(&f, "pg_doorman::app"), LOG_INFO);
}

TEST(lines_before_start_go_straight_to_stderr)
{
    struct capture c = capture_start();

    log_warn("early %d", 1);
    char *text = capture_end(&c);
    CHECK(strstr(text, "  WARN tests/unit/test_log.c:") != NULL ||
          strstr(text, " WARN tests/unit/test_log.c:") != NULL);
    CHECK(strstr(text, ": early 1\n") != NULL);
    free(text);
}

TEST(filter_changes_reach_call_sites_and_default_restores)
{
    struct failure why;
    struct capture c = capture_start();
    char shown[64];

    start(LOG_TEXT, "warn");
    for (int round = 0; round < 3; round++) {
        static const char *const specs[] = {"pg_doorman::pool=debug", "off", "default"};

        log_debug("debug %d", round);
        log_warn("warn %d", round);
        EQ(log_set_filter(specs[round], &why), 0);
    }
    EQ(log_set_filter("bad", &why), -1);
    log_filter_text(shown, sizeof shown);
    log_stop();
    char *text = capture_end(&c);
    STR_EQ(shown, "warn");
    CHECK(strstr(text, "debug 0") == NULL);
    CHECK(strstr(text, "warn 0") != NULL);
    CHECK(strstr(text, "debug 1") != NULL);
    CHECK(strstr(text, "warn 1") != NULL);
    CHECK(strstr(text, "debug 2") == NULL);
    CHECK(strstr(text, "warn 2") == NULL);
    free(text);
    start(LOG_TEXT, NULL);
    log_stop();
}

enum { THREADS = 4, LINES = 300 };

static void *write_lines(void *context)
{
    for (int i = 0; i < LINES; i++)
        log_info("thread %d line %d", *(int *)context, i);
    return NULL;
}

TEST(lines_of_many_threads_come_whole_and_in_order)
{
    struct capture c = capture_start();
    pthread_t threads[THREADS];
    int numbers[THREADS];

    fcntl(c.read_fd, F_SETPIPE_SZ, 1 << 20);
    start(LOG_TEXT, NULL);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        pthread_create(&threads[i], NULL, write_lines, &numbers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_flush(5000);
    log_stop();

    char *text = capture_end(&c);
    int next[THREADS] = {0};
    for (char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        int thread = -1;
        int number = -1;
        char *at = strstr(line, ": thread ");

        if (at == NULL || sscanf(at, ": thread %d line %d", &thread, &number) != 2 || thread < 0 ||
            thread >= THREADS) {
            unit_fail(__FILE__, __LINE__, "broken line: %.80s", line);
            break;
        }
        EQ(number, next[thread]);
        next[thread] = number + 1;
    }
    for (int i = 0; i < THREADS; i++)
        EQ(next[i], LINES);
    free(text);
}

TEST(long_messages_are_kept_up_to_the_limit)
{
    struct capture c = capture_start();
    static char message[LOG_MESSAGE_MAX + 100];

    memset(message, 'x', sizeof message - 1);
    start(LOG_STRUCTURED, NULL);
    log_info("%s", message);
    log_info("after");
    log_stop();
    char *text = capture_end(&c);
    char *at = strstr(text, "xxx");
    CHECK(at != NULL && strspn(at, "x") == LOG_MESSAGE_MAX - 1);
    CHECK(strstr(text, "\"message\":\"after\"}\n") != NULL);
    free(text);
}

TEST(full_ring_counts_what_it_drops)
{
    struct log_ring *ring = log_ring_new();
    struct log_record facts = {.len = 1};
    struct log_record r;

    for (int i = 0; i < LOG_SLOTS; i++)
        CHECK(log_ring_put(ring, &facts, "x"));
    CHECK(!log_ring_put(ring, &facts, "x"));
    CHECK(!log_ring_put(ring, &facts, "x"));
    CHECK(log_ring_take(ring, &r));
    EQ(r.lost, 0);
    CHECK(log_ring_put(ring, &facts, "y"));
    for (int i = 0; i < LOG_SLOTS; i++)
        CHECK(log_ring_take(ring, &r));
    EQ(r.lost, 2, "the first line after the gap");
    CHECK(!log_ring_take(ring, &r));
    EQ(log_ring_lost(ring), 0);
    free(ring);
}

TEST(full_pipe_neither_blocks_workers_nor_stop)
{
    struct capture c = capture_start();
    uint64_t begin_ms = now_ms();

    start(LOG_TEXT, NULL);
    for (int i = 0; i < 20000; i++)
        log_info("nobody reads this line, which is long enough to fill a pipe soon: %d", i);
    uint64_t written_ms = now_ms();
    log_stop();
    uint64_t stopped_ms = now_ms();
    log_info("neither does a direct line");
    uint64_t direct_ms = now_ms();

    char *text = capture_end(&c);
    CHECK(written_ms - begin_ms < 2000);
    CHECK(stopped_ms - written_ms <= 1100);
    CHECK(direct_ms - stopped_ms < 500);
    CHECK(strstr(text, ": 0\n") != NULL);
    free(text);
}

TEST(dropped_lines_are_reported_when_there_is_room)
{
    struct capture c = capture_start();

    start(LOG_TEXT, NULL);
    for (int i = 0; i < 20000; i++)
        log_info("nobody reads this line, which is long enough to fill a pipe soon: %d", i);
    /* Now somebody reads: as much as comes until the report. */
    static char text[1 << 20];
    size_t len = 0;
    uint64_t deadline_ms = now_ms() + 5000;
    while (now_ms() < deadline_ms && len + 1 < sizeof text) {
        struct pollfd wait = {.fd = c.read_fd, .events = POLLIN};

        if (poll(&wait, 1, 100) == 1)
            len += (size_t)MAX(read(c.read_fd, text + len, sizeof text - 1 - len), 0);
        text[len] = '\0';
        if (strstr(text, "log lines were dropped") != NULL)
            break;
    }
    log_stop();
    free(capture_end(&c));
    CHECK(strstr(text, "log lines were dropped") != NULL);
}

TEST(closed_stderr_does_no_harm)
{
    struct capture c = capture_start();

    close(c.read_fd);
    start(LOG_TEXT, NULL);
    log_error("into a pipe without a reader");
    log_flush(1000);
    close(STDERR_FILENO);
    log_error("into nothing");
    log_flush(1000);
    log_stop();
    capture_restore(&c);
}

TEST(syslog_lines_reach_the_socket)
{
    char path[] = "/tmp/doorman-syslog-XXXXXX";
    char socket_path[64];
    const char *paths[] = {socket_path, NULL};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct log_syslog s;
    struct failure why;
    char line[256] = "";
    char want[64];

    CHECK(mkdtemp(path) != NULL);
    snprintf(socket_path, sizeof socket_path, "%s/log", path);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    EQ(log_syslog_open(&s, "doorman", paths, &why), -1);
    CHECK(strstr(why.text, "failed to open syslog socket (/tmp/") != NULL);

    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    EQ(log_syslog_open(&s, "doorman", paths, &why), 0);
    struct log_record r = record_of(LOG_WARN, "hello", 5);
    size_t len = log_format_syslog(line, sizeof line, &r, &s);
    log_syslog_send(&s, line, len, 100);
    memset(line, 0, sizeof line);
    CHECK(recv(fd, line, sizeof line - 1, MSG_DONTWAIT) > 0);
    CHECK(strncmp(line, "<12>Jan 31 ", 11) == 0);
    snprintf(want, sizeof want, " doorman[%d]: hello", (int)getpid());
    CHECK(strstr(line, want) != NULL);

    /* The daemon comes back under the same name. */
    close(fd);
    unlink(socket_path);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    log_syslog_send(&s, "again", 5, 100);
    memset(line, 0, sizeof line);
    CHECK(recv(fd, line, sizeof line - 1, MSG_DONTWAIT) == 5);
    STR_EQ(line, "again");
    log_syslog_close(&s);
    close(fd);
    unlink(socket_path);
    rmdir(path);
}
