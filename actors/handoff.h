/* handoff.h: how two processes of this program talk while one takes over from the other.
 *
 * A socket pair of packets, each a msgpack array [kind, sequence, body] with descriptors beside it;
 * the body is a map of numbers, and one text. A kind that is not known is skipped when it is even,
 * and an error when it is odd. Bulk goes through memory that is shared as a descriptor. Whose the
 * sessions are says the word on a page that both have mapped, and nothing else.
 */
#ifndef ACTORS_HANDOFF_H
#define ACTORS_HANDOFF_H

#include "actors/handoff_system.h"
#include "runtime/pack.h"

#include <stdatomic.h>
#include <sys/types.h>

enum handoff_kind {
    HANDOFF_HELLO = 1,      /* S: protocol, schema major, pid, descriptors it may have; version */
    HANDOFF_HELLO_ACK = 3,  /* P: protocol, schema, generation, pid; text: key of hashes */
    HANDOFF_LISTENERS = 5,  /* P: how many; kind of each (0 TCP, 1 Unix); their descriptors */
    HANDOFF_READY = 9,      /* S: it has started and waits */
    HANDOFF_BEGIN = 11,     /* P: round, bytes of the document; its descriptor and the page's */
    HANDOFF_FDS = 15,       /* P: first, count; descriptors of the document */
    HANDOFF_FDS_OK = 17,    /* S: how many it has by now */
    HANDOFF_END = 19,       /* P: how many descriptors there were */
    HANDOFF_PREPARED = 21,  /* S: sessions, backends */
    HANDOFF_COMMIT = 23,    /* P: look at the word */
    HANDOFF_COMMITTED = 25, /* S: sessions, without pool, clock of the first one served */
    HANDOFF_CANCEL = 32,    /* both: number of the connection; text: the secret */
    HANDOFF_ERROR = 33,     /* both; text */
    HANDOFF_LEFT = 34,      /* P: clients, server connections that it still has; text: why */
    HANDOFF_BYE = 36,       /* P: sessions, waiters, in transaction, backends, longest freeze */
};

enum {
    HANDOFF_PROTOCOL = 1,
    HANDOFF_NUMBERS = 8,
    HANDOFF_FDS_MAX = 250, /* the kernel takes 253 */
    HANDOFF_PACKET_MAX = 4096,
};
#define HANDOFF_ENVIRONMENT "PG_DOORMAN_HANDOFF_FD"

struct handoff_packet {
    enum handoff_kind kind;
    uint64_t n[HANDOFF_NUMBERS];
    struct bytes text; /* into `storage` */
    int fds[HANDOFF_FDS_MAX];
    unsigned fd_count; /* the receiver's to close */
    uint8_t storage[HANDOFF_PACKET_MAX];
};

/* Any thread; does not wait for long. 0, or -1 with the reason. */
MUST_CHECK int handoff_send(int fd, enum handoff_kind kind, const uint64_t *n, unsigned count,
                            struct bytes text, const int *fds, unsigned fd_count,
                            struct failure *why);
enum handoff_got { HANDOFF_GOT, HANDOFF_TIMEOUT, HANDOFF_GONE, HANDOFF_BAD };
/* Waits for the next packet of a kind that is known. One thread. */
enum handoff_got handoff_receive(int fd, struct handoff_packet *out, int timeout_ms,
                                 struct failure *why);
void handoff_close_fds(struct handoff_packet *packet);

/* --- the page --- */

enum commit_word {
    COMMIT_OPEN,      /* the predecessor's */
    COMMIT_PREPARED,  /* the predecessor's; the successor can take over, should it die */
    COMMIT_COMMITTED, /* the successor's, which has not touched anything yet */
    COMMIT_ABORTED,   /* the predecessor's for good */
    COMMIT_RECLAIMED, /* the same, after the successor has died untouched */
    COMMIT_ADOPTED,   /* the successor's for good */
};
struct commit_page {
    uint32_t magic;
    uint32_t version;
    _Atomic uint32_t word;
};
/* A new one: the mapping, and its descriptor. NULL with the reason. */
struct commit_page *commit_page_new(int *fd, struct failure *why);
/* The other's. */
struct commit_page *commit_page_map(int fd, struct failure *why);
void commit_page_unmap(struct commit_page *page);
static inline bool commit_go(struct commit_page *page, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong(&page->word, &from, to);
}

/* A file in memory with these bytes, for the other to map. -1 with the reason. */
int memory_file(const char *name, const void *at, size_t len, struct failure *why);

#endif
