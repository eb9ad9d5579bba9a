/* SNAPSHOT: the document as a row, or in a file. */
#define LOG_MODULE "pg_doorman::admin"
#include "actors/admin.h"

#include "actors/snapshot.h"
#include "runtime/log.h"
#include "runtime/offload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OID_BYTEA = 17 };

static void put_document(struct admin_run *run, const struct packer *document)
{
    static const struct column_spec column = {"snapshot", OID_BYTEA};
    static const char digits[] = "0123456789abcdef";
    size_t len = 2 + document->len * 2;
    char *text = malloc(len);

    INVARIANT(text != NULL);
    text[0] = '\\';
    text[1] = 'x';
    for (size_t i = 0; i < document->len; i++) {
        text[2 + i * 2] = digits[document->start[i] >> 4];
        text[3 + i * 2] = digits[document->start[i] & 15];
    }
    write_row_description(&run->out, &column, 1);
    write_row_begin(&run->out, 1);
    write_row_cell(&run->out, text, len);
    write_row_end(&run->out);
    write_command_complete(&run->out, "SNAPSHOT");
    free(text);
}

struct saving {
    const char *path;
    const struct packer *document;
    int error;
};

/* On a helper thread. Readable by its owner only, also when the file was there before. */
static void save(void *argument)
{
    struct saving *saving = argument;
    int fd = open(saving->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                  0600);

    if (fd < 0) {
        saving->error = errno;
        return;
    }
    if (fchmod(fd, 0600) != 0 ||
        write_fully(fd, saving->document->start, saving->document->len) != 0)
        saving->error = errno;
    if (close(fd) != 0 && saving->error == 0)
        saving->error = errno;
}

static void save_document(struct admin_run *run, const struct packer *document, const char *path)
{
    struct saving saving = {.path = path, .document = document};

    if (offload_run(run->worker, save, &saving) != 0)
        saving.error = ECANCELED;
    if (saving.error != 0) {
        admin_error(run, "58030", "could not write \"%s\": %s", path, strerror(saving.error));
        return;
    }
    log_info("SNAPSHOT of %zu bytes written to %s by %s", document->len, path, run->who);
    table_list(&run->out, "snapshot", &path, 1);
    write_command_complete(&run->out, "SNAPSHOT");
}

enum admin_result admin_snapshot(struct admin_run *run, const struct admin_statement *s)
{
    bool to_file = s->count == 3 && admin_word_is(s, 1, "to");
    const char *path = admin_word(s, 2);
    struct packer document;

    if (s->count != 1 && !to_file) {
        admin_error(run, "42601", "SNAPSHOT takes nothing, or TO '<path>'");
        return ADMIN_DONE;
    }
    if (to_file && path[0] != '/') {
        admin_error(run, "42602", "the path of a snapshot must be absolute: \"%s\"", path);
        return ADMIN_DONE;
    }
    packer_init(&document);
    snapshot_build(run->worker, &document);
    if (document.failed)
        admin_error(run, "53200", "the snapshot is too large");
    else if (to_file)
        save_document(run, &document, path);
    else
        put_document(run, &document);
    packer_free(&document);
    return ADMIN_DONE;
}
