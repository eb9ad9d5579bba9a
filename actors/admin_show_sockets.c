/* SHOW SOCKETS: the process's descriptors, joined with the kernel's tables by inode. Reading those
 * may take a while, so it is a helper thread's work. */
#include "actors/admin.h"

#include "runtime/offload.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TCP_STATES = 14, UNIX_STATES = 5, LINE_MAX_BYTES = 1024 };
enum { TYPE_STREAM = 1, TYPE_DATAGRAM = 2, TYPE_SEQUENCED = 5 };

struct inode {
    uint64_t number;
    bool found;
};

/* Counts of TCP by the kernel's state number, from 1. */
struct sockets_row {
    uint64_t tcp[TCP_STATES];
    uint64_t tcp6[TCP_STATES];
    uint64_t local[UNIX_STATES];
    uint64_t datagram;
    uint64_t sequenced;
    uint64_t unknown;
};

struct sockets {
    struct sockets_row row;
    struct inode *inodes;
    size_t count;
    size_t room;
};

static int by_inode(const void *a, const void *b)
{
    const struct inode *x = a;
    const struct inode *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static void inode_add(struct sockets *s, uint64_t number)
{
    if (s->count == s->room) {
        s->room = MAX(s->room * 2, (size_t)256);
        s->inodes = realloc(s->inodes, s->room * sizeof *s->inodes);
        INVARIANT(s->inodes != NULL);
    }
    s->inodes[s->count++] = (struct inode){number, false};
}

static void read_descriptors(struct sockets *s)
{
    static const char prefix[] = "socket:[";
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    char target[64];

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);

        if (len <= 0)
            continue;
        target[len] = '\0';
        if (strncmp(target, prefix, sizeof prefix - 1) == 0)
            inode_add(s, strtoull(target + sizeof prefix - 1, NULL, 10));
    }
    closedir(dir);
    if (s->count > 0)
        qsort(s->inodes, s->count, sizeof *s->inodes, by_inode);
}

static struct inode *inode_find(const struct sockets *s, uint64_t number)
{
    struct inode key = {number, false};

    return s->count == 0 ? NULL : bsearch(&key, s->inodes, s->count, sizeof key, by_inode);
}

/* The n-th word of a line, from 0, as a number; false when there are not so many. */
static bool field(const char *line, unsigned n, int base, uint64_t *out)
{
    for (; n > 0; n--) {
        line += strspn(line, " ");
        line += strcspn(line, " \n");
    }
    line += strspn(line, " ");
    if (*line == '\0' || *line == '\n')
        return false;
    *out = strtoull(line, NULL, base);
    return true;
}

static void count_tcp(struct sockets *s, uint64_t *states, const char *line)
{
    uint64_t state;
    uint64_t number;

    if (!field(line, 3, 16, &state) || !field(line, 9, 10, &number))
        return;
    struct inode *inode = inode_find(s, number);
    if (inode == NULL || inode->found || state >= TCP_STATES)
        return;
    inode->found = true;
    states[state]++;
}

static void count_tcp4(struct sockets *s, const char *line)
{
    count_tcp(s, s->row.tcp, line);
}

static void count_tcp6(struct sockets *s, const char *line)
{
    count_tcp(s, s->row.tcp6, line);
}

static void count_local(struct sockets *s, const char *line)
{
    uint64_t type;
    uint64_t state;
    uint64_t number;

    if (!field(line, 4, 16, &type) || !field(line, 5, 16, &state) || !field(line, 6, 10, &number))
        return;
    struct inode *inode = inode_find(s, number);
    if (inode == NULL || inode->found)
        return;
    inode->found = true;
    switch (type) {
    case TYPE_STREAM: s->row.local[state < UNIX_STATES ? state : 0]++; break;
    case TYPE_DATAGRAM: s->row.datagram++; break;
    case TYPE_SEQUENCED: s->row.sequenced++; break;
    default: s->row.unknown++; break;
    }
}

/* A table that is not there, as without IPv6, is skipped. */
static void read_table(struct sockets *s, const char *path,
                       void (*count)(struct sockets *s, const char *line))
{
    FILE *in = fopen(path, "re");
    char line[LINE_MAX_BYTES];

    if (in == NULL)
        return;
    if (fgets(line, sizeof line, in) != NULL) { /* the header */
        while (fgets(line, sizeof line, in) != NULL)
            count(s, line);
    }
    fclose(in);
}

static void read_sockets(void *argument)
{
    struct sockets *s = argument;

    read_descriptors(s);
    read_table(s, "/proc/self/net/tcp", count_tcp4);
    read_table(s, "/proc/self/net/tcp6", count_tcp6);
    read_table(s, "/proc/self/net/unix", count_local);
    for (size_t i = 0; i < s->count; i++)
        s->row.unknown += !s->inodes[i].found;
    free(s->inodes);
}

#define TCP(name, state)   COLUMN_AS("tcp_" name, sockets_row, CELL_NUMBER, tcp[state])
#define TCP6(name, state)  COLUMN_AS("tcp6_" name, sockets_row, CELL_NUMBER, tcp6[state])
#define LOCAL(name, state) COLUMN_AS("unix_" name, sockets_row, CELL_NUMBER, local[state])
static const struct column sockets_columns[] = {
    TCP("established", 1),
    TCP("syn_sent", 2),
    TCP("syn_recv", 3),
    TCP("fin_wait1", 4),
    TCP("fin_wait2", 5),
    TCP("time_wait", 6),
    TCP("close", 7),
    TCP("close_wait", 8),
    TCP("last_ack", 9),
    TCP("listen", 10),
    TCP("closing", 11),
    TCP("new_syn_recv", 12),
    TCP("bound_inactive", 13),
    TCP6("established", 1),
    TCP6("syn_sent", 2),
    TCP6("syn_recv", 3),
    TCP6("fin_wait1", 4),
    TCP6("fin_wait2", 5),
    TCP6("time_wait", 6),
    TCP6("close", 7),
    TCP6("close_wait", 8),
    TCP6("last_ack", 9),
    TCP6("listen", 10),
    TCP6("closing", 11),
    /* Named so since ever, though these are of IPv6: readers count positions. */
    COLUMN_AS("tcp_new_syn_recv", sockets_row, CELL_NUMBER, tcp6[12]),
    COLUMN_AS("tcp_bound_inactive", sockets_row, CELL_NUMBER, tcp6[13]),
    LOCAL("free", 0),
    LOCAL("unconnected", 1),
    LOCAL("connecting", 2),
    LOCAL("connected", 3),
    LOCAL("disconnecting", 4),
    COLUMN_AS("unix_dgram", sockets_row, CELL_NUMBER, datagram),
    COLUMN_AS("unix_seq_packet", sockets_row, CELL_NUMBER, sequenced),
    COLUMN_AS("unknown", sockets_row, CELL_NUMBER, unknown),
};

void show_sockets(struct admin_run *run)
{
    struct table t = TABLE(&run->out, sockets_columns);
    struct sockets s = {0};

    /* Without helpers the process is about to end: zeros will do. */
    (void)!offload_run(run->worker, read_sockets, &s);
    table_head(&t);
    table_row(&t, &s.row);
}
