#include "runtime/notify.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int listen_on(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, name, len);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    len += offsetof(struct sockaddr_un, sun_path) + (name[0] == '/');
    EQ(bind(fd, (struct sockaddr *)&address, (socklen_t)len), 0, "%s", name);
    return fd;
}

/* Of this process, at a name of its own. */
static int listen_alone(void)
{
    char name[64];

    snprintf(name, sizeof name, "@doorman-notify-alone-%d", (int)getpid());
    setenv("NOTIFY_SOCKET", name, 1);
    return listen_on(name);
}

static void expect(int fd, const char *want)
{
    char text[256];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    STR_EQ(text, want);
}

TEST(nothing_happens_without_the_variable)
{
    struct failure why;

    unsetenv("NOTIFY_SOCKET");
    CHECK(!notify_wanted());
    EQ(notify_ready(&why), 0);
    EQ(notify_reloading("an upgrade is under way", &why), 0);
    EQ(notify_serving("serving", &why), 0);
    EQ(notify_barrier(1000, &why), 0);
    setenv("NOTIFY_SOCKET", "", 1);
    CHECK(!notify_wanted());
    EQ(notify_ready(&why), 0);
}

TEST(datagrams_reach_a_path_and_an_abstract_name)
{
    char directory[] = "/tmp/doorman-notify-XXXXXX";
    char names[2][64];
    struct failure why = {""};

    CHECK(mkdtemp(directory) != NULL);
    snprintf(names[0], sizeof names[0], "%s/notify", directory);
    snprintf(names[1], sizeof names[1], "@doorman-notify-%d", (int)getpid());
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        int fd = listen_on(names[i]);

        setenv("NOTIFY_SOCKET", names[i], 1);
        CHECK(notify_wanted());
        EQ(notify_ready(&why), 0, "%s", why.text);
        expect(fd, "READY=1");
        EQ(notify_main_pid(4711, &why), 0, "%s", why.text);
        expect(fd, "MAINPID=4711");
        EQ(notify_serving("serving", &why), 0, "%s", why.text);
        expect(fd, "READY=1\nSTATUS=serving");
        close(fd);
    }
    unlink(names[0]);
    rmdir(directory);
}

TEST(status_is_one_line_of_utf8)
{
    static const struct {
        const char *what;
        const char *text;
        const char *want;
    } rows[] = {
        {"no assignment can be smuggled in", "line 3: bad\nMAINPID=1\n", "line 3: bad MAINPID=1"},
        {"controls", "a\tb\x1b[1mc\x7f!", "a b [1mc !"},
        {"characters of two to four bytes", "\xd0\xbf \xe2\x82\xac \xf0\x9f\x98\x80",
         "\xd0\xbf \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"lone, cut and overlong bytes", "\x80 \xc3 \xc0\xaf \xe0\x80\x80 \xe2\x82",
         "? ? ?? ??? ??"},
        {"surrogates and what is beyond", "\xed\xa0\x80 \xf4\x90\x80\x80 \xf5", "??? ???? ?"},
        {"nothing", "", ""},
    };
    struct failure why = {""};
    int fd = listen_alone();

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char want[128];

        snprintf(want, sizeof want, "READY=1\nSTATUS=%s", rows[i].want);
        EQ(notify_serving(rows[i].text, &why), 0, "%s: %s", rows[i].what, why.text);
        expect(fd, want);
    }
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

TEST(long_status_ends_between_two_characters)
{
    struct failure why = {""};
    char text[2000] = "";
    char got[2000];
    int fd = listen_alone();

    for (size_t i = 0; i + 3 < sizeof text; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 4);
    EQ(notify_serving(text, &why), 0, "%s", why.text);
    ssize_t len = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
    const char *prefix = "READY=1\nSTATUS=";
    CHECK(len > 400 && len < 600);
    size_t cut = ((size_t)len - strlen(prefix)) % 3;
    EQ(cut, 0);
    CHECK(memcmp(got, prefix, strlen(prefix)) == 0);
    CHECK(memcmp(got + len - 3, "\xe2\x82\xac", 3) == 0);
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

TEST(reloading_has_the_time_in_its_datagram)
{
    struct failure why = {""};
    struct timespec before;
    struct timespec after;
    char got[256];
    unsigned long long told_us = 0;
    int end = 0;
    int fd = listen_alone();

    clock_gettime(CLOCK_MONOTONIC, &before);
    EQ(notify_reloading("an upgrade\nis under way", &why), 0, "%s", why.text);
    clock_gettime(CLOCK_MONOTONIC, &after);
    ssize_t len = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
    got[len > 0 ? len : 0] = '\0';
    int found = sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%llu%n", &told_us, &end);
    EQ(found, 1, "%s", got);
    STR_EQ(got + end, "\nSTATUS=an upgrade is under way");
    CHECK(told_us + 1 >= (unsigned long long)before.tv_sec * 1000000);
    CHECK(told_us <= (unsigned long long)(after.tv_sec + 1) * 1000000);
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

/* What the manager does with the descriptor that comes with it. */
static void *read_barrier(void *argument)
{
    int *outcome = argument;
    char text[32];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {text, sizeof text};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(*outcome, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int fd = -1;

    if (n == 9 && memcmp(text, "BARRIER=1", 9) == 0 && header != NULL)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    *outcome = fd >= 0 ? close(fd) : -1;
    return NULL;
}

TEST(barrier_ends_when_its_descriptor_is_closed)
{
    struct failure why = {""};
    pthread_t manager;
    int fd = listen_alone();
    int outcome = fd;

    EQ(pthread_create(&manager, NULL, read_barrier, &outcome), 0);
    EQ(notify_barrier(60000, &why), 0, "%s", why.text);
    pthread_join(manager, NULL);
    EQ(outcome, 0);
    /* Nobody reads this one. */
    EQ(notify_barrier(20, &why), -1);
    STR_EQ(why.text, "it does not read what it is told");
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

TEST(failures_have_a_reason)
{
    struct failure why;
    char name[200];

    setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
    EQ(notify_ready(&why), -1);
    STR_EQ(why.text, "No such file or directory");
    setenv("NOTIFY_SOCKET", "relative", 1);
    EQ(notify_ready(&why), -1);
    memset(name, 'x', sizeof name);
    name[0] = '/';
    name[sizeof name - 1] = '\0';
    setenv("NOTIFY_SOCKET", name, 1);
    EQ(notify_ready(&why), -1);
    unsetenv("NOTIFY_SOCKET");
}
