#include "actors/daemonize.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char pid_path[128];
static char directory[64];

static void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/doorman-daemon-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
    snprintf(pid_path, sizeof pid_path, "%s/pid", directory);
}

static void remove_directory(void)
{
    unlink(pid_path);
    rmdir(directory);
}

static void read_text(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

    out[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

/* Ends for real with _exit: the daemon is a copy of this test program. */
typedef void daemon_body(struct daemon *d);

/* Runs a caller of daemon_fork() and collects its exit status and what came over stderr until all
 * holders of it let go. */
static int run_caller(daemon_body *body, char *out, size_t size)
{
    int ends[2];
    int status;
    size_t len = 0;
    ssize_t n;

    fflush(NULL);
    if (pipe(ends) != 0)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        struct daemon d;
        struct failure why;

        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (daemon_fork(&d, &why) != 0)
            _exit(99);
        body(&d);
        _exit(98);
    }
    close(ends[1]);
    while ((n = read(ends[0], out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    out[len] = '\0';
    close(ends[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void ready_or_exit(struct daemon *d)
{
    struct failure why;

    if (daemon_ready(d, pid_path, &why) == 0)
        return;
    fprintf(stderr, "Error daemonize: %s\n", why.text);
    _exit(DAEMON_FAILED_STATUS);
}

static void serve(struct daemon *d)
{
    ready_or_exit(d);
    for (;;)
        pause();
}

TEST(caller_returns_when_the_daemon_serves)
{
    char text[512];
    struct stat s;

    make_directory();
    EQ(run_caller(serve, text, sizeof text), 0, "%s", text);
    read_text(pid_path, text, sizeof text);
    pid_t pid = (pid_t)strtol(text, NULL, 10);
    CHECK(pid > 1 && kill(pid, 0) == 0, "'%s'", text);
    CHECK(strchr(text, '\n') != NULL && strchr(text, '\n')[1] == '\0');
    EQ(stat(pid_path, &s), 0);
    EQ(s.st_mode & 0777, 0640);
    CHECK(getsid(pid) != getsid(0), "its own session");
    CHECK(getsid(pid) != pid, "not the leader");
    for (int fd = 0; fd <= 2; fd++) {
        char link[64];
        char target[64] = "";

        snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, fd);
        CHECK(readlink(link, target, sizeof target - 1) > 0);
        STR_EQ(target, "/dev/null");
    }
    if (pid > 1)
        kill(pid, SIGKILL);
    remove_directory();
}

static void fail_config(struct daemon *d)
{
    (void)d;
    fprintf(stderr, "cannot listen\n");
    fflush(stderr);
    _exit(78);
}

static void end_early(struct daemon *d)
{
    (void)d;
    _exit(0);
}

static void be_killed(struct daemon *d)
{
    (void)d;
    raise(SIGKILL);
}

TEST(caller_reports_a_daemon_that_fails)
{
    static const struct {
        daemon_body *body;
        const char *path;
        int status;
        const char *text;
    } rows[] = {
        {fail_config, "", 78, "cannot listen\n"},
        {end_early, "", 71, "Error daemonize: the daemon ended before it was ready\n"},
        {be_killed, "", 71,
         "Error daemonize: the daemon was killed by signal 9 before it was ready\n"},
        {serve, "/nonexistent/pid", 71, "Error daemonize: unable to open pid file, errno 2\n"},
        {serve, "/dev/full", 71, "Error daemonize: "},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[512];

        snprintf(pid_path, sizeof pid_path, "%s", rows[i].path);
        EQ(run_caller(rows[i].body, text, sizeof text), rows[i].status, "row %zu", i);
        CHECK(strncmp(text, rows[i].text, strlen(rows[i].text)) == 0, "row %zu: %s", i, text);
    }
}

TEST(pid_file_is_removed_by_its_owner_only)
{
    struct failure why;
    char text[64];

    make_directory();
    CHECK(!pid_file_remove_own(pid_path), "none there");
    int fd = open(pid_path, O_WRONLY | O_CREAT, 0600);
    CHECK(write(fd, "999999999999\n", 13) == 13);
    close(fd);
    CHECK(!pid_file_remove_own(pid_path), "a successor's");

    fd = pid_file_write(pid_path, &why);
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    char want[32];
    snprintf(want, sizeof want, "%d\n", (int)getpid());
    read_text(pid_path, text, sizeof text);
    STR_EQ(text, want);
    CHECK(pid_file_remove_own(pid_path));
    CHECK(access(pid_path, F_OK) != 0);
    remove_directory();
}

TEST(foreground_writes_no_pid_file)
{
    struct daemon d = {.ready_fd = -1, .pid_fd = -1};
    struct failure why;

    make_directory();
    EQ(daemon_ready(&d, pid_path, &why), 0);
    CHECK(access(pid_path, F_OK) != 0);
    daemon_end(&d);
    remove_directory();
}
