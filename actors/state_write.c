/* From records to bytes. */
#include "actors/state_internal.h"

void state_write_begin(struct state_writer *s)
{
    uint8_t versions[4];

    *s = (struct state_writer){0};
    packer_init(&s->out);
    pack_raw(&s->out, "PGDH", 4);
    store_be16(versions, STATE_MAJOR);
    store_be16(versions + 2, STATE_MINOR);
    pack_raw(&s->out, versions, sizeof versions);
}

void state_write_free(struct state_writer *s)
{
    packer_free(&s->out);
}

void state_section_begin(struct state_writer *s, enum state_section kind, bool critical)
{
    uint8_t head[STATE_SECTION_HEAD] = {0};

    store_be16(head, (uint16_t)kind);
    store_be16(head + 2, critical ? STATE_CRITICAL : 0);
    s->section = s->out.len;
    s->records = 0;
    pack_raw(&s->out, head, sizeof head);
    pack_array_open(&s->out);
}

void state_section_end(struct state_writer *s)
{
    size_t body = s->section + STATE_SECTION_HEAD;

    INVARIANT(!s->out.failed);
    pack_array_close(&s->out, body, s->records);
    INVARIANT(s->out.len - body <= UINT32_MAX);
    uint8_t *head = s->out.start + s->section;
    store_be32(head + 4, (uint32_t)(s->out.len - body));
    store_be32(head + 8, state_crc32c(s->out.start + body, s->out.len - body));
}

static void put_record(struct state_writer *s, const void *record, const struct state_field *fields,
                       size_t count)
{
    size_t mark = pack_map_open(&s->out);
    uint32_t pairs = 0;

    for (size_t i = 0; i < count; i++) {
        const struct state_field *field = &fields[i];
        const uint8_t *at = (const uint8_t *)record + field->offset;

        if (field->type == STATE_FIELD_U) {
            uint64_t value = *(const uint64_t *)(const void *)at;

            if (value == 0)
                continue;
            pack_uint(&s->out, field->key);
            pack_uint(&s->out, value);
        } else {
            const struct bytes *value = (const void *)at;

            if (value->len == 0)
                continue;
            pack_uint(&s->out, field->key);
            if (field->type == STATE_FIELD_B)
                pack_bin(&s->out, value->at, value->len);
            else if (field->type == STATE_FIELD_T)
                pack_str_len(&s->out, value->at, value->len);
            else
                pack_raw(&s->out, value->at, value->len);
        }
        pairs++;
    }
    pack_map_close(&s->out, mark, pairs);
    s->records++;
}

#define X(name, NAME)                                                                \
    void state_put_##name(struct state_writer *s, const struct state_##name *record) \
    {                                                                                \
        put_record(s, record, state_##name##_fields, state_##name##_field_count);    \
    }
STATE_RECORDS(X)
