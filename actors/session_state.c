/* What a session's requests leave behind on its backend. The text says it when the request is sent
 * (proto/scan.h); it counts when the reply has come, in the order of the replies, since only then
 * it is known what was done and what was undone. */
#define LOG_MODULE "pg_doorman::server"
#include "actors/session.h"

static struct scan_effect scan_text(const struct frame *f, uint32_t at)
{
    if (f->have <= at)
        return (struct scan_effect){0};
    if (f->have == f->body_len) /* ends with NUL, or PostgreSQL refuses it */
        return scan_sql(f->body + at, strnlen((const char *)f->body + at, f->have - at));
    return scan_sql_start(f->body + at, f->have - at);
}

void session_state_query(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;

    if (f->type == 'Q') {
        struct scan_effect effect = scan_text(f, 0);

        if (UNLIKELY(effect.leaves & SCAN_COPIES))
            session_copy_expected(&b->ledger);
        if (!b->effective->cleanup_server_connections && b->statements == NULL)
            return;
        ledger_last(&b->ledger)->effect = effect;
        if ((effect.clears & SCAN_PREPARE) && b->statements != NULL)
            ledger_doubt(&b->ledger, false);
    } else
        ledger_last(&b->ledger)->effect.leaves = f->have < 4 ? (uint16_t)SCAN_KINDS
                                                             : scan_function(load_be32(f->body));
    if (UNLIKELY(ledger_last(&b->ledger)->effect.leaves & SCAN_SEQUENCES))
        session_sequences_read(w, s);
}

/* Under the client's own name, if any: what executes it is not traced back to its text, so nobody
 * can clear what it may leave, but the clean-up that takes the statement too. */
void session_state_parse(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;
    struct scan_effect *e = &ledger_last(&b->ledger)->effect;
    uint32_t name = (uint32_t)strnlen((const char *)f->body, f->have);

    if (f->have == 0)
        return;
    uint16_t leaves = scan_text(f, name + 1).leaves;
    b->may_copy |= (leaves & SCAN_COPIES) != 0;
    if (!b->effective->cleanup_server_connections)
        return;
    e->leaves = leaves & (uint16_t)~SCAN_COPIES;
    if (e->leaves != 0)
        e->leaves |= SCAN_LASTS;
    if (name > 0)
        e->leaves |= SCAN_PREPARE;
    if (UNLIKELY(e->leaves & SCAN_SEQUENCES))
        session_sequences_read(w, s);
}

void session_state_bind(struct worker *w, struct session *s, const struct statement *statement,
                        bool named)
{
    uint16_t leaves = statement->leaves;

    /* A portal with a name may go on later, behind who knows what. */
    if (leaves != 0 && named)
        leaves |= SCAN_LASTS;
    ledger_last(&s->backend->ledger)->effect.leaves = leaves;
    if (UNLIKELY(leaves & SCAN_SEQUENCES))
        session_sequences_read(w, s);
}

/* --- when the reply comes --- */

static void leave(struct backend *b, uint16_t kinds, uint32_t setting)
{
    b->dirt |= kinds;
    b->undone &= (uint16_t)~kinds;
    if (kinds & SCAN_SET)
        b->setting = setting != 0 && (b->setting == 0 || b->setting == setting) ? setting
                                                                                : SCAN_MANY;
}

void session_state_answered(struct backend *b, const struct ledger_entry *entry)
{
    const struct scan_effect *e = &entry->effect;
    uint16_t clears = e->clears & SCAN_KINDS;

    if (LIKELY(e->leaves == 0 && e->clears == 0))
        return;
    leave(b, e->leaves & SCAN_KINDS, e->setting);
    /* What prepared statements go by is taken with them. */
    if (e->leaves & SCAN_LASTS)
        b->lasting |= e->leaves & SCAN_KINDS & ~SCAN_PREPARE;
    if ((e->clears & SCAN_RESET_ONE) && b->setting == e->setting)
        clears |= SCAN_SET;
    b->undone |= clears & (uint16_t)~b->lasting;
    if (e->clears & SCAN_SET)
        b->undone |= UNDONE_ALL;
    if (e->clears & (SCAN_SET | SCAN_ROLE | SCAN_RESET_ONE))
        b->applied_touched = true;
}

/* Only a transaction that ends well makes it true that something was cleared. */
void session_state_failed(struct backend *b, struct ledger_entry *head)
{
    b->undone = 0;
    if (head == NULL)
        return;
    head->effect.clears = 0;
    if (head->effect.setting != 0)
        head->effect.setting = SCAN_MANY;
}

void session_state_ready(struct backend *b)
{
    if (b->status != 'I' || LIKELY(b->undone == 0))
        return;
    b->all_reset |= (b->undone & UNDONE_ALL) != 0;
    b->dirt &= (uint16_t)~b->undone;
    if (b->undone & SCAN_SET)
        b->setting = 0;
    b->undone = 0;
}

/* DISCARD ALL runs alone or not at all. As a Query it also ends the unnamed statement. */
static void on_discard_all(struct backend *b, const struct ledger_entry *head)
{
    if (head->kind != ASK_QUERY)
        return;
    b->dirt = 0;
    b->undone = 0;
    b->lasting = 0;
    b->setting = 0;
    b->all_reset = true;
}

/* The tags tell what happened where the text could not be read to its end. */
void session_state_tag(struct backend *b, struct ledger_entry *head, struct bytes tag)
{
    static const struct {
        const char *tag;
        uint16_t leaves;
        uint16_t unless_seen;
        enum { LEAVES, UNDOES, SEQUENCES, FORGETS, DISCARDS } act;
    } tags[] = {
        {"SET", SCAN_SET | SCAN_ROLE | SCAN_AUTHORIZATION, SCAN_SET, LEAVES},
        {"DECLARE CURSOR", SCAN_DECLARE, SCAN_DECLARE, LEAVES},
        {"PREPARE", SCAN_PREPARE, SCAN_PREPARE, LEAVES},
        {"LISTEN", SCAN_LISTEN, SCAN_LISTEN, LEAVES},
        {"ROLLBACK", 0, 0, UNDOES},
        {"DISCARD SEQUENCES", 0, 0, SEQUENCES},
        {"DEALLOCATE ALL", 0, 0, FORGETS},
        {"DISCARD ALL", 0, 0, DISCARDS},
    };

    /* The ordinary one, at a glance. */
    if (head == NULL || (tag.len >= 6 && memcmp(tag.at, "SELECT", 6) == 0))
        return;
    for (size_t i = 0; i < COUNT_OF(tags); i++) {
        if (!bytes_equal(tag, bytes_of(tags[i].tag)))
            continue;
        if (tags[i].act == UNDOES)
            b->undone = 0;
        /* At once, even if the transaction is rolled back. */
        if (tags[i].act == SEQUENCES || tags[i].act == DISCARDS)
            b->sequences_foreign = false;
        if (head->kind == ASK_QUERY && (tags[i].unless_seen & ~head->effect.seen)) {
            leave(b, tags[i].leaves, SCAN_MANY);
            head->effect.clears = 0;
        }
        /* It holds no prepared statement any more. */
        if (tags[i].act >= FORGETS && b->statements != NULL) {
            ledger_own_all(&b->ledger);
            statement_set_clear(b->statements);
        }
        if (tags[i].act == DISCARDS)
            on_discard_all(b, head);
        return;
    }
}
