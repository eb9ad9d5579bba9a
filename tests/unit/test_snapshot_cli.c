#include "actors/snapshot_cli.h"
#include "actors/snapshot_link.h"
#include "auth/secret.h"
#include "proto/messages.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum server_mood { SERVES, REFUSES, SENDS_GARBAGE, SENDS_NO_ROW, HANGS_UP };

/* A pooler with one client and a fixed course of events. */
struct server {
    char directory[32];
    char path[64];
    int listener;
    enum server_mood mood;
    bool password_right;
    bool query_right;
    pthread_t thread;
};

static void send_and_free(int fd, struct writer *w)
{
    CHECK(!w->failed);
    CHECK(send(fd, w->at, w->len, MSG_NOSIGNAL) == (ssize_t)w->len);
    writer_free(w);
}

/* One message of the client: header_len 4 for the start packet, else 5. */
static size_t receive(int fd, uint8_t *at, size_t size, size_t header_len)
{
    if (recv(fd, at, header_len, MSG_WAITALL) != (ssize_t)header_len)
        return 0;
    size_t body_len = load_be32(at + header_len - 4) - 4;
    if (body_len > size || recv(fd, at, body_len, MSG_WAITALL) != (ssize_t)body_len)
        return 0;
    return body_len;
}

static void send_snapshot(int fd)
{
    static const struct column_spec column = {"snapshot", 17};
    struct writer w;

    writer_init(&w);
    write_row_description(&w, &column, 1);
    write_row_begin(&w, 1);
    write_row_cell(&w, "\\x81a16101", 10);
    write_row_end(&w);
    write_command_complete(&w, "SNAPSHOT");
    write_ready_for_query(&w, 'I');
    send_and_free(fd, &w);
}

static void serve_queries(struct server *s, int fd)
{
    uint8_t body[256];
    struct writer w;

    writer_init(&w);
    write_authentication(&w, 0, NULL, 0);
    write_parameter_status(&w, bytes_of("a"), bytes_of("b"));
    write_ready_for_query(&w, 'I');
    send_and_free(fd, &w);
    s->query_right = receive(fd, body, sizeof body, 5) == 9 && memcmp(body, "SNAPSHOT", 9) == 0;
    if (s->mood == SERVES) {
        send_snapshot(fd);
    } else if (s->mood == SENDS_NO_ROW) {
        writer_init(&w);
        write_ready_for_query(&w, 'I');
        send_and_free(fd, &w);
    }
}

static void *serve(void *context)
{
    struct server *s = context;
    int fd = accept(s->listener, NULL, NULL);
    uint8_t body[256];
    char stored[MD5_TEXT + 1];
    char want[MD5_TEXT + 1];
    struct writer w;

    CHECK(receive(fd, body, sizeof body, 4) > 0);
    writer_init(&w);
    if (s->mood == SENDS_GARBAGE)
        writer_raw(&w, "HTTP/1.1 400 Bad Request\r\n", 26);
    else if (s->mood == REFUSES)
        write_error(&w, "FATAL", "28P01", "no such luck");
    else
        write_authentication(&w, 5, "salt", 4);
    send_and_free(fd, &w);
    if (s->mood != SENDS_GARBAGE && s->mood != REFUSES) {
        md5_stored(stored, "secret", "boss");
        md5_response(want, stored, (const uint8_t *)"salt");
        s->password_right = receive(fd, body, sizeof body, 5) == sizeof want &&
                            memcmp(body, want, sizeof want) == 0;
        serve_queries(s, fd);
    }
    close(fd);
    return NULL;
}

static void server_start(struct server *s, enum server_mood mood)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *s = (struct server){.directory = "/tmp/doorman-snap-XXXXXX", .mood = mood};
    CHECK(mkdtemp(s->directory) != NULL);
    snprintf(s->path, sizeof s->path, "%s/.s.PGSQL.6432", s->directory);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", s->path);
    s->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    EQ(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    EQ(listen(s->listener, 1), 0);
    pthread_create(&s->thread, NULL, serve, s);
}

static void server_end(struct server *s)
{
    pthread_join(s->thread, NULL);
    close(s->listener);
    unlink(s->path);
    rmdir(s->directory);
}

TEST(hex_documents_decode_in_place)
{
    static const struct {
        const char *text;
        int result;
        const char *bytes;
        size_t len;
    } rows[] = {
        {"\\x", 0, "", 0},      {"\\x00ff4A", 0, "\x00\xff\x4a", 3},
        {"\\x0", -1, NULL, 0},  {"00", -1, NULL, 0},
        {"\\x0g", -1, NULL, 0}, {"", -1, NULL, 0},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[32];
        size_t len = 99;

        snprintf(text, sizeof text, "%s", rows[i].text);
        EQ(snapshot_decode_hex(text, strlen(text), &len), rows[i].result, "row %zu", i);
        if (rows[i].result == 0)
            CHECK(len == rows[i].len && memcmp(text, rows[i].bytes, len) == 0, "row %zu", i);
    }
}

TEST(a_snapshot_is_fetched_and_saved)
{
    struct server s;
    struct options o = {.command = COMMAND_SNAPSHOT};
    char file[64];
    char bytes[16];

    server_start(&s, SERVES);
    snprintf(file, sizeof file, "%s/out", s.directory);
    o.snapshot = (struct snapshot_options){
        .output = file,
        .admin_host = s.directory,
        .admin_port = 6432,
        .admin_user = "boss",
        .admin_password = "secret",
    };
    EQ(snapshot_take(&o), 0);
    CHECK(s.password_right);
    CHECK(s.query_right);
    int fd = open(file, O_RDONLY);
    CHECK(read(fd, bytes, sizeof bytes) == 4 && memcmp(bytes, "\x81\xa1\x61\x01", 4) == 0);
    close(fd);
    unlink(file);
    server_end(&s);
}

TEST(failures_name_their_reason)
{
    static const struct {
        enum server_mood mood;
        const char *want;
    } rows[] = {
        {REFUSES, "the pooler answers: FATAL: no such luck (28P01)"},
        {SENDS_GARBAGE, "what answers there does not speak PostgreSQL's protocol"},
        {SENDS_NO_ROW, "the pooler's answer is empty"},
        {HANGS_UP, "the pooler closed the connection"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct server s;
        struct failure why = {""};
        char *text = NULL;
        size_t len;

        server_start(&s, rows[i].mood);
        struct snapshot_target target = {s.directory, 6432, "boss", "secret"};
        EQ(snapshot_fetch(&target, &text, &len, &why), -1);
        STR_EQ(why.text, rows[i].want);
        server_end(&s);
    }
}
