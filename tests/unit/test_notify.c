#include "runtime/notify.h"
#include "tests/unit/unit.h"

#include <sys/socket.h>
#include <sys/un.h>
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
        EQ(notify_status("draining", &why), 0, "%s", why.text);
        expect(fd, "STATUS=draining");
        close(fd);
    }
    unlink(names[0]);
    rmdir(directory);
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
