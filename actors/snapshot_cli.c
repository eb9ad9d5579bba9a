#include "actors/snapshot_cli.h"

#include "actors/snapshot_link.h"
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONFIG_STATUS = 78 };

int snapshot_decode_hex(char *text, size_t len, size_t *out_len)
{
    if (len < 2 || len % 2 != 0 || text[0] != '\\' || text[1] != 'x')
        return -1;
    for (size_t i = 2; i < len; i += 2) {
        int high = hex_digit(text[i]);
        int low = hex_digit(text[i + 1]);

        if (high < 0 || low < 0)
            return -1;
        text[(i - 2) / 2] = (char)(high << 4 | low);
    }
    *out_len = (len - 2) / 2;
    return 0;
}

/* A wildcard address is where one listens, not where one connects to. */
static const char *reachable(const char *host)
{
    if (strcmp(host, "0.0.0.0") == 0 || host[0] == '\0' || strcmp(host, "*") == 0)
        return "127.0.0.1";
    if (strcmp(host, "::") == 0)
        return "::1";
    return host;
}

/* The command line first, then the configuration. Its Unix socket is preferred: what clients from
 * the network must do (TLS) does not concern it. */
static void choose_target(struct snapshot_target *target, const struct snapshot_options *o,
                          const struct config *c)
{
    const struct general_config *g = c != NULL ? &c->general : NULL;

    target->host = o->admin_host != NULL ? o->admin_host
                   : g == NULL           ? "127.0.0.1"
                   : g->unix_socket_dir != NULL && g->unix_socket_dir[0] != '\0'
                       ? g->unix_socket_dir
                       : reachable(g->host);
    target->port = o->admin_port != 0 ? o->admin_port : g != NULL ? (int)g->port : 6432;
    target->user = o->admin_user != NULL ? o->admin_user : g != NULL ? g->admin_username : "admin";
    target->password = o->admin_password != NULL ? o->admin_password
                       : g != NULL               ? g->admin_password
                                                 : NULL;
}

static bool needs_config(const struct snapshot_options *o)
{
    return o->config_file != NULL || o->admin_host == NULL || o->admin_port == 0 ||
           o->admin_user == NULL || o->admin_password == NULL;
}

/* Readable by its owner only: a snapshot tells of queries and users. */
static int save(const char *path, const char *at, size_t len, struct failure *why)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return fail(why, "%s: %s", path, strerror(errno));
    int result = write_fully(fd, at, len);
    if (!standard && close(fd) != 0)
        result = -1;
    return result == 0 ? 0 : fail(why, "%s: %s", path, strerror(errno));
}

static int take(const struct snapshot_target *target, const char *path, struct failure *why)
{
    char *text;
    size_t len;
    int result = -1;

    if (snapshot_fetch(target, &text, &len, why) != 0)
        return -1;
    if (snapshot_decode_hex(text, len, &len) != 0)
        fail(why, "the pooler's answer is not a snapshot");
    else
        result = save(path, text, len, why);
    free(text);
    if (result == 0 && strcmp(path, "-") != 0)
        printf("snapshot of %zu bytes written to %s; print it with: pg_doorman inspect %s\n", len,
               path, path);
    return result;
}

int snapshot_take(const struct options *o)
{
    const struct snapshot_options *s = &o->snapshot;
    const char *path = s->config_file != NULL ? s->config_file : o->config_file;
    struct snapshot_target target;
    struct config *config = NULL;
    struct failure why;

    if (needs_config(s) && config_load(&config, path, &why) != 0) {
        fprintf(stderr, "Config parse error: %s\n", why.text);
        return CONFIG_STATUS;
    }
    choose_target(&target, s, config);
    int result = take(&target, s->output, &why);
    if (config != NULL)
        config_unref(config);
    if (result != 0)
        fprintf(stderr, "Error: %s\n", why.text);
    return result == 0 ? 0 : 1;
}
