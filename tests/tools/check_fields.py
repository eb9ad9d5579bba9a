"""Whoever adds a field to what moves says what becomes of it in an upgrade.

Each field is written into the state (actors/upgrade_pack_*.c), made anew from other things on the
other side, or begins there as in a new one. A fault that is told here asks that question; the answer
goes into the lists below and, for the first kind, into actors/state.h, both sides, and
docs/state-schema.md. Part of check_docs.py, and of the integration tests.
"""

import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

FIELDS = {
    ("actors/session.h", "session"): {
        "written": """console conn phase mode begin_owed cancel_due cancel_wanted terminated syncing
            sync_alone sync_failed sync_struck batch_synced skip_parameters skip_to_sync copy_synced
            copy_asked copy_due copy_held copy_skips
            key_more flags secret number in in_at in_end in_scanned body_left wanted backend
            asked_us leased_us query_us lease_batches name database_at application_at address_at statements unnamed anonymous
            anonymous_evictions connected_us transactions queries errors wait_max_us""",
        "made anew": "actor shared ticket login in_held watched_us alarm trim_armed client admitted",
        # Pauses are found anew; a batch that moved is not sent again; the reply to a check query
        # is not kept; of a client from PgDoorman 3.10 that has not said anything it is forgotten
        # here that it may use TLS.
        "begins as new": """migrated replayed drained_bytes client_mark server_mark server_held_us
            client_held_us capture leaves leaves_bare rests stays""",
    },
    ("actors/backend.h", "backend"): {
        "written": """conn pool number pid key key_len address address_len created_us lifetime_us
            idle_limit_us text_base parameters ledger statements digest digest_client trouble_us
            traits visible unnamed_used unnamed_owner schema_changed stash stash_len body_left
            body_swallowed status needs_sync copy_in may_copy broken dirt undone lasting setting applied
            applied_stale applied_touched all_reset reported tracked_before cancels_sent temp_owner cancels_done
            cancel_unsure state replaced epoch idle_since_us leased_since_us uses replace_at_us
            transactions queries bytes_sent bytes_received prepared_hits prepared_misses
            application_name""",
        "made anew": "actor shared config effective pool_next pool_previous evicted extra",
        # While it replays, waits for a clean-up or logs in, it stays; who hung up is seen anew;
        # what sequences it has used counts as another's.
        "begins as new": """sequences_of sequences_foreign tls replay replay_at replay_end
            skipped replaying clean_waits hangup replacement streaming stream_len""",
    },
    ("actors/pool.h", "pool"): {
        "written": """shared staying idle idle_head idle_count idle_size waiters waiters_head waiters_tail
            waiters_size waiting parameters parameters_known epoch paused dynamic
            scaling""",
        "made anew": """actor config effective backends count replaced extra mixed_deadlines permits
            evict_age_us reserve_wait_us effective_minimum alarm_us removed
            staying_extra staying_told""",
        "begins as new": """hoping draining failures retry_us served_us connect_us warm_us returns""",
    },
    ("actors/ledger.h", "ledger_entry"): {
        "written": "kind whose owns marks effect statement missing",
        "made anew": "",
        "begins as new": "ticket",  # a Close keeps its session where it is
    },
}


def fields(path, struct):
    with open(os.path.join(ROOT, path)) as file:
        text = file.read()
    body = re.search(r"^struct %s \{\n(.*?)^\};" % struct, text, re.DOTALL | re.MULTILINE).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    found = []
    for statement in body.replace("union {", "").split(";"):
        name = re.search(r"(\w+)\s*(\[[^\]]*\])?\s*(:\s*\d+)?$", statement.strip().lstrip("}").strip())
        if name and not statement.strip().startswith("#"):
            found.append(name.group(1))
    return found


def check_answers(path, struct):
    """Does each field have its answer?"""
    there = fields(path, struct)
    answered = [name for names in FIELDS[path, struct].values() for name in names.split()]
    where = "of struct %s (%s)" % (struct, path)
    return (["what becomes of %s %s in an upgrade? tests/tools/check_fields.py has to say" % (name, where)
             for name in there if name not in answered]
            + ["%s %s is gone, and still in tests/tools/check_fields.py" % (name, where)
               for name in answered if name not in there]
            + ["%s %s is answered twice in tests/tools/check_fields.py" % (name, where)
               for name in sorted(set(answered)) if answered.count(name) > 1])


# Fields that are written or built by these functions.
THROUGH = {
    "key_more": "session_key", "in_at": "session_input buffer_of", "in_end": "session_input_len",
    "database_at": "session_database", "application_at": "session_application",
    "address_at": "session_address", "idle_head": "pool_adopt_backend",
    "idle_count": "pool_adopt_backend", "idle_size": "pool_adopt_backend",
    "waiters_head": "pool_append_waiter", "waiters_tail": "pool_append_waiter",
    "waiters_size": "pool_append_waiter", "waiting": "pool_append_waiter",
    "kind": "ledger_push", "whose": "ledger_push",
}
SIDES = {"written": ("upgrade_pack*.c", "upgrade_fields.h", "upgrade_load.c"),
         "read": ("upgrade_build*.c", "upgrade_fields.h", "upgrade_wake.c")}


def sources(side):
    found = ""
    for pattern in SIDES[side]:
        for path in glob.glob(os.path.join(ROOT, "actors", pattern)):
            with open(path) as file:
                found += re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    return found


def check_side(side):
    """A name in the list above does not write a field yet."""
    text = sources(side)
    faults = []
    for (_, struct), answers in FIELDS.items():
        for name in answers["written"].split():
            here = re.search(r"(->|\.)%s\b|\bX\(%s[,)]" % (name, name), text)
            if not here and not any(one + "(" in text for one in THROUGH.get(name, "").split()):
                faults.append("%s of struct %s is said to move, and is not %s: %s" % (
                    name, struct, side, ", ".join(SIDES[side])))
    return faults


# Bits of session.flags that are made anew, or begin as in a new one: pauses are found anew.
MADE_ANEW = """SESSION_LOGGED_IN SESSION_LOCAL SESSION_ASKED SESSION_COUNTED SESSION_DRAIN
    SESSION_SERVER_PAUSED SESSION_CLIENT_PAUSED"""


def check_bits():
    """The same question for bits of session.flags."""
    with open(os.path.join(ROOT, "actors/session.h")) as file:
        bits = re.findall(r"^    (SESSION_\w+) = \d+,", file.read(), re.MULTILINE)
    answered = re.findall(r"X\((SESSION_\w+), STATE_", sources("written")) + MADE_ANEW.split()
    return (["what becomes of %s in an upgrade? tests/tools/check_fields.py has to say" % bit
             for bit in bits if bit not in answered]
            + ["%s is gone, and still in tests/tools/check_fields.py" % bit
               for bit in answered if bit not in bits])


def check():
    """How much was looked at, and the faults."""
    faults = check_side("written") + check_side("read") + check_bits()
    for path, struct in FIELDS:
        faults += check_answers(path, struct)
    return sum(len(names.split()) for answers in FIELDS.values() for names in answers.values()), faults
