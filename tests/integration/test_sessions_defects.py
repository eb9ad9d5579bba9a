"""Defects of PgDoorman 3.10, by their number in the session contract, and what is required instead.

Each number has a test: here, or under the name in ELSEWHERE. So have the subjects of the original's
acceptance suite.
"""

import importlib
import re
import time

import pytest

import wire
from waiting import wait_until
from wire import bind, execute, extended, flush, parse, query, sync

ELSEWHERE = {
    1: "test_garbage.test_first_packet",
    2: "test_protocol.test_startup_options",
    3: "test_protocol.test_versions_and_options_of_the_protocol",
    5: "test_garbage.test_missing_terminator_is_told",
    6: "test_garbage.test_login_that_is_never_finished_is_ended",
    7: "test_cancel.test_after_a_declined_ssl_request",
    8: "test_session_parameters."
       "test_reported_settings_are_those_of_the_client_on_any_backend",
    9: "test_session_parameters.test_startup_options_are_settings",
    11: "test_session_parameters."
        "test_refused_setting_ends_the_session_with_the_servers_words",
    12: "test_session_parameters.test_reset_all_brings_back_what_the_client_began_with",
    14: "test_session_state.test_kind_of_state_does_not_reach_the_next_client",
    15: "test_pooling.test_cleanup_is_what_the_client_made_necessary",
    16: "test_pooling.test_cleanup_is_what_the_client_made_necessary",
    17: "test_failures.test_client_gone_after_flush_does_not_commit",
    18: "test_failures.test_client_gone_after_an_error_under_flush_does_not_hang_the_backend",
    19: "test_protocol.test_flush_after_an_error_does_not_hang",
    20: "test_copy.test_rows_before_copy_in_one_query",
    21: "test_copy.test_extended_copy_in",
    22: "test_copy.test_bad_data_is_reported_at_once_and_the_rest_ignored",
    23: "test_copy.test_bad_data_is_reported_at_once_and_the_rest_ignored",
    26: "test_protocol.test_notice_arrives_before_the_statement_ends",
    27: "test_failures.test_server_process_ended_in_a_statement_tells_its_reason",
    28: "test_pooling.test_backend_that_died_idle_is_replaced_unnoticed",
    29: "test_session_limits.test_server_that_takes_nothing",
    30: "test_session_limits.test_slow_reader_is_served_as_long_as_it_reads",
    31: "test_failures.test_client_gone_in_copy_out",
    32: "test_hostile.test_promises_do_not_count",
    33: "test_session_limits.test_client_that_never_reads_does_not_hold_its_backend",
    34: "test_garbage.test_texts",
    35: "test_garbage.test_message_in_a_session",
    36: "test_protocol.test_statement_that_was_never_prepared",
    39: "test_protocol.test_deallocate_is_answered_by_the_pooler",
    40: "test_protocol.test_simple_query_behind_a_queued_batch_runs_after_it",
    41: "test_hostile.test_told_off_with_unread_output",
    42: "test_pooling.test_max_connections_is_exact",
    43: "test_cli.test_drain_lets_transactions_finish_and_tells_the_others",
    44: "test_failures.test_server_process_ended_while_the_client_is_idle_in_a_transaction",
    45: "test_cancel.test_cancelled_backend_is_kept",
    46: "test_auth.test_unknown_database_and_unknown_user_never_reach_a_backend",
    47: "test_failures.test_what_a_vanished_client_left_running_is_cancelled",
    48: "test_reload.test_moved_database_takes_connected_clients_along",
    53: "test_sessions_interleavings.test_row_11_statement_evicted_under_flush",
}
# The acceptance suite's subjects in the order of the contract's last table.
PINS = {
    "connection, alias, application-name, unix-socket":
        "test_session_parameters.test_alias_of_a_database",
    "messages, pipeline, async-protocol, copy-protocol":
        "test_protocol.test_extended_batches_are_answered_natively",
    "cancel": "test_cancel.test_running_statement_is_cancelled_and_the_session_goes_on",
    "deferred-begin-optimization": "test_pooling.test_deferred_begin_takes_no_backend",
    "flush-timeout-protocol-violation": "test_session_limits.test_server_that_takes_nothing",
    "buffer-cleanup, large-datarow-leak, restart-pressure-leak, pipeline-*":
        "test_sessions_interleavings.test_row_02_resets_while_a_large_row_streams",
    "session-mode-error-handling, session-mode-stats, php":
        "test_sessions_interleavings.test_row_15_error_under_flush",
    "rollback, reuse-server-backend":
        "test_sessions_interleavings.test_row_23_errors_savepoints_and_a_decorated_rollback",
    "stale-server-detection":
        "test_failures.test_server_process_ended_while_the_client_is_idle_in_a_transaction",
    "check-query, pooler-check-query-cache":
        "test_protocol.test_check_query_is_answered_by_the_pooler",
    "client-session-reset-cleanup, session-cursors":
        "test_pooling.test_cleanup_is_what_the_client_made_necessary",
    "query-wait-timeout":
        "test_pooling.test_waiting_for_a_backend_ends_with_an_error_and_nothing_runs_later",
    "startup-parameters, prepared-cache-startup-parameters":
        "test_session_parameters.test_search_path_at_startup_chooses_tables_and_plans",
    "deallocate, deallocate-cache-clearing":
        "test_sessions_interleavings."
        "test_row_27_same_names_with_other_texts_after_deallocate_all",
    "pgjdbc-large-object-fastpath": "test_sessions_defects.test_pin_large_objects",
    "fuzz-resilience": "test_garbage.test_fifty_attackers_at_once",
    "daemon / foreground upgrade shutdown scenarios":
        "test_cli.test_drain_in_the_middle_of_a_statement_delivers_its_reply",
}


def test_every_number_has_its_test():
    here = {int(found.group(1)) for found in
            (re.match(r"test_s_(\d+)_", name) for name in globals()) if found}
    assert here | set(ELSEWHERE) == set(range(1, 54)) and not here & set(ELSEWHERE)
    for name in [*ELSEWHERE.values(), *PINS.values()]:
        module, function = name.split(".")
        assert callable(getattr(importlib.import_module(module), function, None)), name


def test_s_04_empty_values_and_foreign_bytes(doorman):
    pooler = doorman()
    with pooler.client(application_name="", TimeZone="Asia/Tokyo") as client:
        assert client.parameters["application_name"] == ""
        assert client.value("SHOW TimeZone") == "Asia/Tokyo"
    with pooler.client(application_name="naïve") as client:
        row, = [row for row in pooler.admin("SHOW CLIENTS") if row["database"] == "app"]
        assert row["application_name"] == "naïve"


def test_s_10_list_values_stay_lists(doorman):
    pooler = doorman(pool_size=1, general={"sync_server_parameters": True})
    with pooler.client(search_path="pg_catalog, public", DateStyle="SQL, DMY") as client:
        assert client.value("SELECT array_length(current_schemas(false), 1)") == "2"
        assert client.value("SHOW DateStyle") == "SQL, DMY"


def test_s_13_reply_does_not_depend_on_the_clean_up(doorman, postgres):
    """The server process ends at about the time when it is cleaned."""
    pooler = doorman(pool_size=1)
    for _ in range(5):
        with pooler.client() as client:
            pid = client.backend_pid()
            client.send(query("SET work_mem = '1MB'"))
            assert wire.types(client.until_ready()) == "CZ"
            postgres.run("SELECT pg_terminate_backend(%d)" % pid)
            wait_until(lambda: not postgres.backends("pid = %d" % pid), 5, "the process to end")
            assert client.value("SHOW work_mem") == "4MB"


@pytest.mark.parametrize("value, refused", [("true", True), ("database", True), ("off", False),
                                            ("0", False), ("false", False)])
def test_s_24_replication_is_refused(doorman, value, refused):
    client = doorman().wire()
    try:
        client.login(replication=value)
        assert not refused and client.value("SELECT 1") == "1"
    except wire.LoginFailed as failure:
        assert refused and failure.error["C"] == "0A000"
    finally:
        client.close()


def test_s_25_asynchronous_messages_reach_a_silent_client(doorman, postgres):
    """Notification, notice of the server and a changed setting; the session goes on."""
    pooler = doorman(pool_size=1, pool_mode="session")
    with pooler.client() as client:
        client.query("LISTEN somewhere")
        time.sleep(0.15)  # 3.10 watches the server after a tenth of a second of silence
        postgres.run("SELECT pg_notify('somewhere', 'payload')", database="app")
        m = client.receive()
        assert m.type == "A" and m.body[4:] == b"somewhere\0payload\0"
        connection = postgres.connect()
        try:
            for statement, zone in (("SET timezone = 'Asia/Tokyo'", "Asia/Tokyo"),
                                    ("RESET timezone", "UTC")):
                with connection.cursor() as cursor:
                    cursor.execute("ALTER SYSTEM " + statement)
                    cursor.execute("SELECT pg_reload_conf()")
                wait_until(lambda: client.value("SHOW TimeZone") == zone, 5, "the new setting")
                assert client.parameters["TimeZone"] == zone
        finally:
            connection.close()
        postgres.run("SELECT pg_notify('somewhere', 'again')", database="app")
        assert client.receive().type == "A"


def test_s_37_check_query_waits_for_a_backend_as_others_do(doorman):
    pooler = doorman(pool_size=1, general={"query_wait_timeout": "300ms"})
    with pooler.client() as holder, pooler.client() as client:
        holder.query("BEGIN; SELECT 1")
        error, = wire.errors(client.query(";"))
        assert error["C"] == "53300" and "timeout" in error["M"].lower()


def test_s_38_local_answers_keep_the_owed_transaction(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query(";")
        assert wire.status(client.query("begin;")) == "T"
        assert wire.status(client.query(";")) == "T"
        assert wire.status(client.query("DEALLOCATE ALL")) == "T"
        assert wire.status(client.query("SELECT 1")) == "T"
        messages = client.query("BEGIN")  # a second one: the server's own warning
        assert wire.essence(messages) == "CZ" and "N" in wire.types(messages)
        assert wire.status(client.query("COMMIT")) == "I"


@pytest.mark.slow
def test_s_49_frame_beyond_256_mebibytes_streams(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(query("SELECT repeat('x', 280000000)"))
        client.until("T")
        assert client.take(1) == b"D"
        left = int.from_bytes(client.take(4), "big") - 4
        assert left > 256 << 20
        while left > 0:
            left -= len(client.take(min(left, 1 << 20)))
        assert wire.types(client.until_ready()) == "CZ"


def test_s_50_end_of_a_silent_client_is_answered_with_nothing(doorman):
    with doorman().client() as client:
        client.half_close()
        assert client.wait_closed() == []


def test_s_51_pipelined_batches_stay_on_one_backend(doorman):
    """One lease for what is here already: as many backends as one, in order."""
    pooler = doorman(pool_size=10)
    with pooler.client() as client:
        client.send(*[extended("SELECT pg_backend_pid()") + sync() for _ in range(20)])
        pids = {wire.rows(client.until_ready())[0][0] for _ in range(20)}
        assert len(pids) == 1
        row, = [row for row in pooler.admin("SHOW STATS") if row["database"] == "app"]
        assert int(row["total_xact_count"]) == 20


def test_s_52_flushes_are_counted_at_their_sync(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(parse("", "SELECT 1"), flush())
        client.until("1")
        for _ in range(3):
            client.send(bind(), execute(), flush())
            client.until("C")
        client.send(sync())
        client.until_ready()
        row, = [row for row in pooler.admin("SHOW STATS") if row["database"] == "app"]
        assert int(row["total_xact_count"]) == 1


# ---- the suite's pins that have no other place

INV_WRITE, INV_READ = 0x20000, 0x40000


def call(client, oid, *values):
    client.send(wire.function_call(oid, list(values)))
    messages = client.until_ready()
    assert not wire.errors(messages), wire.errors(messages)
    assert wire.types(messages) == "VZ"
    return messages[0].body[4:]


def test_pin_large_objects(doorman):
    """As pgjdbc does it: 2 MiB and 17 bytes by FunctionCall, on one backend."""
    pooler = doorman(pool_size=1, general={"message_size_to_be_stream": "64KB"})
    payload = bytes(range(256)) * 8192 + b"x" * 17

    def int4(value):
        return value.to_bytes(4, "big", signed=True)

    with pooler.client() as client:
        functions = dict(client.rows("SELECT proname, oid FROM pg_proc WHERE proname IN ("
                                     "'lo_creat', 'lo_open', 'lowrite', 'loread', 'lo_close', "
                                     "'lo_lseek', 'lo_unlink')"))
        lo = {name: int(oid) for name, oid in functions.items()}
        client.query("BEGIN")
        oid = call(client, lo["lo_creat"], int4(INV_READ | INV_WRITE))
        fd = call(client, lo["lo_open"], oid, int4(INV_READ | INV_WRITE))
        for at in range(0, len(payload), 1 << 20):
            call(client, lo["lowrite"], fd, payload[at:at + (1 << 20)])
        call(client, lo["lo_lseek"], fd, int4(0), int4(0))
        assert call(client, lo["loread"], fd, int4(len(payload) + 10)) == payload
        call(client, lo["lo_close"], fd)
        client.query("COMMIT")
        with pooler.client() as other:
            assert other.value("SELECT 1") == "1"
        call(client, lo["lo_unlink"], oid)  # in autocommit
        pooler.wait_idle()
        client.query("BEGIN")
        client.query("SELECT 1/0")
        client.send(wire.function_call(lo["lo_unlink"], [oid]))
        messages = client.until_ready()
        assert wire.sqlstates(messages) == ["25P02"] and wire.status(messages) == "E"


def test_pin_next_client_sees_its_own_rows_after_any_hang_up(doorman):
    """buffer-cleanup: eight rows of a megabyte, in and out of a transaction, three in a row."""
    pooler = doorman(pool_size=1)
    for begin in ("", "BEGIN; "):
        for leave in ("close", "reset", "terminate"):
            with pooler.client() as client:
                client.send(query(begin + "SELECT repeat('x', 1000000) FROM generate_series(1, 8)"))
                client.take(500000)
                getattr(client, leave)()
            with pooler.client() as client:
                assert client.rows("SELECT 'own row'") == [["own row"]]


def test_pin_server_survives_a_client_that_gave_up(doorman, postgres):
    """The same process serves on a moment later."""
    pooler = doorman(pool_size=1)
    for begin in ("", "BEGIN; "):
        with pooler.client() as client:
            pid = client.backend_pid()
            client.send(query(begin + "SELECT pg_sleep(0.2); SELECT generate_series(1, 10000)"))
            wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
            client.reset()
        with pooler.client() as client:
            assert client.backend_pid() == pid
