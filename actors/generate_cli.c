#include "actors/generate_cli.h"

#include "actors/client_link.h"
#include "config/arena.h"
#include "config/generate.h"
#include "config/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* What PostgreSQL has told. */
struct inventory {
    struct arena arena;
    const char **databases;
    size_t database_count;
    size_t database_room;
    struct generate_user *users;
    size_t user_count;
    size_t user_room;
};

/* A name or secret as text. NUL bytes cannot be in it: PostgreSQL has none. */
static char *cell_text(struct inventory *in, struct bytes cell)
{
    return arena_copy(&in->arena, cell.at == NULL ? "" : (const char *)cell.at, cell.len);
}

static int take_user(void *context, const struct bytes *cells, size_t count, struct failure *why)
{
    struct inventory *in = context;

    if (count != 2)
        return fail(why, "pg_shadow answers with %zu columns", count);
    in->users = arena_grow(&in->arena, in->users, in->user_count, &in->user_room,
                           sizeof *in->users);
    in->users[in->user_count++] = (struct generate_user){cell_text(in, cells[0]),
                                                         cell_text(in, cells[1])};
    return 0;
}

static int take_database(void *context, const struct bytes *cells, size_t count,
                         struct failure *why)
{
    struct inventory *in = context;

    if (count != 1)
        return fail(why, "pg_database answers with %zu columns", count);
    in->databases = arena_grow(&in->arena, in->databases, in->database_count, &in->database_room,
                               sizeof *in->databases);
    in->databases[in->database_count++] = cell_text(in, cells[0]);
    return 0;
}

static int ask(struct inventory *in, const struct generate_options *g, struct failure *why)
{
    const struct link_target target = {.host = g->host,
                                       .port = g->port,
                                       .user = g->user,
                                       .password = g->password,
                                       .database = g->database,
                                       .application = "pg_doorman generate",
                                       .cleartext = true,
                                       .tls = g->ssl,
                                       .peer = "server",
                                       .refusal = "db error: "};
    struct client_link *link;

    if (client_link_open(&link, &target, why) != 0)
        return -1;
    int result = client_link_query(link, "SELECT usename, passwd FROM pg_shadow ORDER BY usename",
                                   take_user, in);
    if (result == 0)
        result = client_link_query(link, "SELECT datname FROM pg_database WHERE not datistemplate",
                                   take_database, in);
    client_link_close(link);
    return result;
}

static bool is_yaml_name(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot != NULL && (strcasecmp(dot, ".yaml") == 0 || strcasecmp(dot, ".yml") == 0);
}

static int write_file(const char *path, const char *text, mode_t mode, struct failure *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    FILE *to = fd < 0 ? NULL : fdopen(fd, "w");

    if (to == NULL)
        return fail(why, "%s: %s (os error %d)", path, strerror(errno), errno);
    bool written = fputs(text, to) >= 0;
    if (fclose(to) != 0 || !written)
        return fail(why, "%s: %s (os error %d)", path, strerror(errno), errno);
    return 0;
}

static int fill(struct generate_request *r, struct inventory *in, const struct generate_options *g,
                struct failure *why)
{
    bool by_name = g->format == GENERATE_BY_NAME;

    *r = (struct generate_request){
        .yaml = by_name ? g->output == NULL || is_yaml_name(g->output) : g->format == GENERATE_YAML,
        .comments = !g->no_comments,
        .russian = g->russian,
        .server_host = g->server_host,
        .server_port = (unsigned)g->port,
        .session_mode = g->session_mode,
        .server_tls = g->ssl,
        .pool_size = g->pool_size,
    };
    if (g->reference) {
        generate_example(r);
        return 0;
    }
    if (r->server_host == NULL)
        r->server_host = g->host;
    if (ask(in, g, why) != 0)
        return -1;
    r->databases = in->databases;
    r->database_count = in->database_count;
    r->users = in->users;
    r->user_count = in->user_count;
    return 0;
}

int generate_run(const struct options *o)
{
    const struct generate_options *g = &o->generate;
    struct generate_request request;
    struct inventory in = {0};
    struct failure why;
    int result = 0;

    signal(SIGPIPE, SIG_IGN);
    if (fill(&request, &in, g, &why) == 0) {
        char *text = generate_configuration(&request);

        /* For its owner alone: secrets are in it. */
        if (g->output != NULL)
            result = write_file(g->output, text, 0600, &why);
        else if (printf("%s\n", text) < 0)
            result = fail(&why, "standard output: %s (os error %d)", strerror(errno), errno);
        explicit_bzero(text, strlen(text));
        free(text);
    } else {
        result = -1;
    }
    arena_free(&in.arena);
    if (result != 0)
        fprintf(stderr, "Error: %s\n", why.text);
    return result == 0 ? 0 : 1;
}

/* With all directories above it, as mkdir -p. */
static int make_directory(const char *path, struct failure *why)
{
    char *part = strdup(path);
    int result = 0;

    INVARIANT(part != NULL);
    for (char *at = part + 1; result == 0 && at[-1] != '\0'; at++) {
        char was = *at;

        if (was != '/' && was != '\0')
            continue;
        *at = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            result = fail(why, "%s: %s (os error %d)", part, strerror(errno), errno);
        *at = was;
        if (was == '\0')
            break;
    }
    free(part);
    return result;
}

static int write_page(const char *directory, size_t page, struct failure *why)
{
    const char *name;
    char *text = reference_page(page, &name);
    char path[4096];
    int result = 0;

    if (directory == NULL)
        printf("--- %s ---\n%s", name, text);
    else if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path)
        result = fail(why, "%s: the name is too long", directory);
    else
        result = write_file(path, text, 0666, why);
    free(text);
    return result;
}

int generate_docs_run(const struct options *o)
{
    const char *directory = o->docs_directory;
    struct failure why;
    int result = directory == NULL ? 0 : make_directory(directory, &why);

    for (size_t page = 0; result == 0 && page < REFERENCE_PAGES; page++)
        result = write_page(directory, page, &why);
    if (result != 0)
        fprintf(stderr, "Error: %s\n", why.text);
    return result == 0 ? 0 : 1;
}
