/* From actors to records. */
#include "actors/upgrade_packing.h"

#include "actors/version.h"

#include <stdlib.h>
#include <unistd.h>

static struct bytes totals_list(struct packing *p)
{
#define X(name) atomic_load(&app.name),
    uint64_t numbers[] = {UPGRADE_TOTALS(X)};
#undef X

    return numbers_list(p, numbers, COUNT_OF(numbers));
}

void upgrade_load_write(struct upgrade_load *load, struct state_writer *out,
                        struct state_header *header)
{
    struct packing p = {.load = load, .out = out};
    uint8_t mock_secret[SCRAM_KEY];

    /* Statements are numbered while the others are written, and read before them; descriptors and
     * counts are known at the end. So the header comes last here: readers take any order. */
    slots_grow(&p);
    state_section_begin(out, STATE_BACKENDS, true);
    for (size_t i = 0; i < load->backend_count; i++)
        put_backend(&p, i + 1, load->backends[i]);
    state_section_end(out);
    state_section_begin(out, STATE_SESSIONS, true);
    for (size_t i = 0; i < load->session_count; i++)
        put_session(&p, i + 1, load->sessions[i]);
    state_section_end(out);
    put_pools(&p);
    put_statements(&p);
    load->fd_count = p.fds;

    header->totals = totals_list(&p);
    header->version = text(DOORMAN_VERSION);
    header->pid = (uint64_t)getpid();
    header->fds = load->fd_count;
    header->sessions = load->session_count;
    header->backends = load->backend_count;
    header->pools = load->pool_count;
    header->statements = load->statement_count;
    header->next_connection = atomic_load(&app.connection_number);
    header->next_statement = statement_numbers_next();
    header->next_backend = backend_numbers_next();
    session_mock_secret_get(mock_secret);
    header->mock_secret = (struct bytes){mock_secret, sizeof mock_secret};
    state_section_begin(out, STATE_HEADER, true);
    state_put_header(out, header);
    header->mock_secret = (struct bytes){NULL, 0};
    state_section_end(out);
    scratch_free(&p.scratch);
    free(p.slots);
}
