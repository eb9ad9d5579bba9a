/* From actors to records: server connections. */
#include "actors/upgrade_packing.h"

static struct bytes ledger_of(struct packing *p, const struct ledger *l)
{
    struct packer *list = scratch_list(&p->scratch);

    if (ledger_empty(l))
        return (struct bytes){NULL, 0};
    pack_array(list, ledger_count(l));
    for (uint32_t at = l->head; at != l->tail; at++) {
        const struct ledger_entry *e = &l->ring[at & (l->size - 1)];

        pack_array(list, 10);
        pack_uint(list, e->kind);
        pack_uint(list, e->whose);
        pack_uint(list, statement_number(p, e->statement));
        pack_bin(list, e->missing, e->missing == NULL ? 0 : strlen(e->missing));
        pack_uint(list, e->effect.leaves);
        pack_uint(list, e->effect.clears);
        pack_uint(list, e->effect.seen);
        pack_uint(list, e->effect.setting);
        pack_uint(list, e->owns);
        pack_uint(list, e->marks);
    }
    return packed(list);
}

static struct bytes backend_counters(struct packing *p, const struct backend *b)
{
#define X(name) b->name,
    uint64_t numbers[] = {UPGRADE_BACKEND_COUNTERS(X)};
#undef X

    return numbers_list(p, numbers, COUNT_OF(numbers));
}

static struct bytes tracked_before(struct packing *p, const struct backend *b)
{
    uint64_t numbers[PARAMETERS_TRACKED];

    if (!b->reported)
        return (struct bytes){NULL, 0};
    for (size_t i = 0; i < PARAMETERS_TRACKED; i++)
        numbers[i] = b->tracked_before[i];
    return numbers_list(p, numbers, PARAMETERS_TRACKED);
}

/* Hashes with the key of the process, which both have. */
static struct bytes text_settings(struct packing *p, const struct backend *b)
{
    uint64_t numbers[3 + TEXT_SETTINGS] = {b->digest[0], b->digest[1], b->digest_client};

    for (size_t i = 0; i < TEXT_SETTINGS; i++)
        numbers[3 + i] = b->text_base[i];
    return numbers_list(p, numbers, COUNT_OF(numbers));
}

static uint64_t backend_flags(const struct backend *b)
{
#define X(name, bit) | (b->name ? (bit) : 0)
    return (b->statements != NULL ? STATE_BACKEND_REMAPS : 0) UPGRADE_BACKEND_BITS(X);
#undef X
}

void put_backend(struct packing *p, size_t id, struct backend *b)
{
    const struct actor *owner = atomic_load_explicit(&b->conn.owner, memory_order_relaxed);
    bool leased = b->state == BACKEND_LEASED;
    struct state_backend record = {
        .id = id,
        .pool = record_of(p, b->pool),
        .fd = add_fd(p, &b->conn),
        .pid = (uint32_t)b->pid,
        .key = {b->key, b->key_len},
        .parameters = {b->parameters.start, b->parameters.len},
        .status = (uint8_t)b->status,
        .epoch = b->epoch,
        .statements = set_of(p, b->statements),
        .flags = backend_flags(b),
        .input = with_arrived(p, (struct bytes){NULL, 0}, owner, &b->conn),
        .output = output_of(p, &b->conn),
        .session = leased ? p->load->record_of[owner->index] : 0,
        .counters = backend_counters(p, b),
        .application_name = text(b->application_name),
        .address = {(const uint8_t *)&b->address, b->address_len},
        .ledger = ledger_of(p, &b->ledger),
        .temp_owner = record_of(p, b->temp_owner),
        .unnamed_owner = record_of(p, b->unnamed_owner),
        .applied = set_of_parameters(p, b->applied),
        .tracked_before = tracked_before(p, b),
        .cancels = b->cancels_sent,
        .text_settings = text_settings(p, b),
    };

#define X(name) record.name = b->name;
    UPGRADE_BACKEND_NUMBERS(X)
#undef X
    if (b->stash != NULL)
        record.stash = (struct bytes){b->stash->data, b->stash_len};
    state_put_backend(p->out, &record);
    scratch_clear(&p->scratch);
}
