"""Each kind of session state, set by one client and looked for by the next on the only backend."""

import pytest

import wire
from pooler import Doorman, configuration, pool
from postgres import free_port

# Everything of a session that another could find, in one row. Statements under the pooler's own
# names are shared on purpose.
FINGERPRINT = """
SELECT current_user, session_user, current_setting('role'),
  (SELECT string_agg(name || '=' || setting, ';' ORDER BY name) FROM pg_settings
   WHERE source = 'session'),
  (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'DOORMAN%'),
  (SELECT count(*) FROM pg_cursors WHERE name <> ''),
  (SELECT string_agg(c, ',') FROM pg_listening_channels() AS c),
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
  (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
  (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()),
  coalesce(current_setting('my.own', true), ''),
  current_setting('search_path'), current_setting('TimeZone'), current_setting('work_mem'),
  current_setting('default_transaction_read_only')
"""

# The nine kinds first, then other ways to leave them.
KINDS = {
    "setting": "SET work_mem = '1MB'",
    "role": "SET ROLE trust_user",
    "authorization": "SET SESSION AUTHORIZATION trust_user",
    "prepared": "PREPARE leftover AS SELECT 1",
    "cursor": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "listen": "LISTEN somewhere",
    "advisory": "SELECT pg_advisory_lock(4711)",
    "temporary": "CREATE TEMP TABLE leftover (x int)",
    "set_config": "SELECT pg_catalog.set_config('search_path', '', false)",

    "set-to": "set session work_mem to '1MB'",
    "set-time-zone": "SET TIME ZONE 'Asia/Tokyo'",
    "set-schema": "SET SCHEMA 'pg_catalog'",
    "set-names": "SET NAMES 'LATIN1'",
    "set-seed": "SET SEED TO 0.5; SET work_mem = '1MB'",
    "set-own": "SET my.own = 'x'",
    "set-quoted": "SET \"work_mem\" = '1MB'",
    "set-comment": "/* a */ SET -- b\n work_mem = '1MB'",
    "set-from-current": "BEGIN; SET LOCAL work_mem = '1MB'; SET work_mem = '2MB'; COMMIT",
    "set-committed": "BEGIN; SET work_mem = '1MB'; COMMIT",
    "set-among-others": "SELECT 1; SET work_mem = '1MB'; SELECT 2",
    "characteristics": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "update-settings": "UPDATE pg_settings SET setting = '1MB' WHERE name = 'work_mem'",
    "role-by-setting": "SET role TO trust_user",
    "role-by-function": "SELECT set_config('role', 'trust_user', false)",
    "authorization-by-setting": "SET session_authorization = 'trust_user'",
    "set-config-in-from": "SELECT * FROM set_config('work_mem', '1MB', false)",
    "set-config-in-do": "DO $$ BEGIN PERFORM set_config('work_mem', '1MB', false); END $$",
    "set-in-do": "DO $$ BEGIN SET TimeZone = 'Asia/Tokyo'; END $$",
    "reported-in-function": "SELECT change_time_zone()",
    "advisory-shared": "SELECT pg_advisory_lock_shared(1, 2)",
    "advisory-try": "SELECT pg_catalog.pg_try_advisory_lock(7)",
    "advisory-twice": "SELECT pg_advisory_lock(1), pg_advisory_lock(1); SELECT pg_advisory_unlock(1)",
    "temporary-as": "CREATE TEMPORARY TABLE leftover AS SELECT 1 AS x",
    "temporary-into": "SELECT 1 AS x INTO TEMP leftover",
    "temporary-view": "CREATE TEMP VIEW leftover AS SELECT 1 AS x",
    "temporary-sequence": "CREATE TEMP SEQUENCE leftover",
    "temporary-function": "CREATE FUNCTION pg_temp.leftover() RETURNS int LANGUAGE sql "
                          "AS 'SELECT 1'",
    "temporary-by-schema": "CREATE TABLE pg_temp.leftover (x int)",
    "failed-behind": "SET work_mem = '1MB'; DECLARE c CURSOR WITH HOLD FOR SELECT 1; SELECT 1/0",
    "reset-rolled-back": "SET work_mem = '1MB'; BEGIN; RESET ALL; ROLLBACK",
    "discard-then-set": "RESET ALL; SET work_mem = '1MB'",
    "everything": "SET work_mem = '1MB'; PREPARE p AS SELECT 1; LISTEN l; SET my.own = 'x'; "
                  "SELECT pg_advisory_lock(1); CREATE TEMP TABLE leftover (x int); SET ROLE trust_user",
}
FAILS = {"failed-behind"}


@pytest.fixture(scope="module")
def single(postgres, tmp_path_factory):
    """One backend for each mode; a superuser, so that nothing is refused."""
    postgres.run("CREATE OR REPLACE FUNCTION change_time_zone() RETURNS text LANGUAGE sql AS "
                 "$$ SELECT set_config('TimeZone', 'Asia/Tokyo', false) $$", database="app")
    root = {"username": "postgres", "password": "", "pool_size": 1}
    pools = {mode: pool(postgres, [root], unix=True, server_database="app", pool_mode=mode)
             for mode in ("transaction", "session")}
    port = free_port()
    process = Doorman(str(tmp_path_factory.mktemp("state")), port, configuration(port, pools))
    yield process.start()
    process.finish()


def client_of(pooler, mode):
    return pooler.client(mode, "postgres")


def fingerprint(client):
    messages = client.query(FINGERPRINT)
    assert not wire.errors(messages), wire.errors(messages)
    return wire.rows(messages)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_state_does_not_reach_the_next_client(single, kind):
    """Owner alive in transaction mode; owner gone, politely and not, in both."""
    sql = KINDS[kind]
    with client_of(single, "transaction") as owner, client_of(single, "transaction") as other:
        clean = fingerprint(other)
        for how in ("simple", "extended"):
            if how == "extended" and ";" in sql and not sql.startswith("DO"):
                continue  # several statements are for the simple protocol
            messages = owner.query(sql) if how == "simple" else owner.run(sql)
            assert bool(wire.errors(messages)) == (kind in FAILS)
            assert fingerprint(other) == clean, "%s, owner alive" % how
    for mode in ("transaction", "session"):
        for leave in ("terminate", "reset"):
            with client_of(single, mode) as owner:
                owner.query(sql)
                getattr(owner, leave)()
            single.wait_idle(10, mode, "postgres")
            with client_of(single, mode) as other:
                assert fingerprint(other) == clean, "%s, %s" % (mode, leave)
            single.wait_idle(10, mode, "postgres")


def test_owner_finds_its_temporary_table_again(single):
    with client_of(single, "transaction") as owner:
        owner.query("CREATE TEMP TABLE mine AS SELECT 7 AS x")
        assert owner.value("SELECT x FROM mine") == "7"


def test_notification_for_the_last_client_does_not_reach_the_next(single, postgres):
    with client_of(single, "transaction") as owner, client_of(single, "transaction") as other:
        owner.query("LISTEN somewhere")
        postgres.run("NOTIFY somewhere", database="app")
        other.query("BEGIN")
        assert wire.types(other.query("SELECT 1")).count("A") == 0
        postgres.run("NOTIFY somewhere", database="app")
        assert wire.types(other.query("COMMIT")).count("A") == 0
        assert owner.quiet(0.1)


def test_portal_and_failed_transaction_end_with_their_client(single):
    with client_of(single, "transaction") as owner:
        owner.query("BEGIN")
        owner.send(wire.parse("", "SELECT generate_series(1, 100)"), wire.bind("portal"),
                   wire.execute("portal", 3), wire.sync())
        assert wire.types(owner.until_ready()).count("D") == 3
        owner.query("SELECT 1/0")
        owner.reset()
    single.wait_idle(10, "transaction", "postgres")
    with client_of(single, "transaction") as other:
        assert wire.status(other.query("SELECT 1")) == "I"
        assert other.value("SELECT count(*) FROM pg_cursors WHERE name <> ''") == "0"


def test_prepared_statement_of_the_protocol_ends_with_its_session(single):
    with client_of(single, "session") as owner:
        owner.send(wire.parse("mine", "SELECT 1"), wire.sync())
        owner.until_ready()
        owner.terminate()
    single.wait_idle(10, "session", "postgres")
    with client_of(single, "session") as other:
        other.send(wire.bind("", "mine"), wire.sync())
        assert wire.sqlstates(other.until_ready()) == ["26000"]


HIDDEN = {
    "setting": "PERFORM set_config('wor' || 'k_mem', '1MB', false)",
    "own-setting": "EXECUTE 'S' || 'ET my.own = 1'",
    "role": "EXECUTE 'S' || 'ET ROLE trust_user'",
    "authorization": "EXECUTE 'S' || 'ET SESSION AUTHORIZATION trust_user'",
    "prepared": "EXECUTE 'PREP' || 'ARE leftover AS SELECT 1'",
    "cursor": "EXECUTE 'DECL' || 'ARE c CURSOR WITH HOLD FOR SELECT 1'",
    "listen": "EXECUTE 'LIST' || 'EN somewhere'",
    "advisory": "EXECUTE 'SELECT pg_adv' || 'isory_lock(1)'",
    "temporary": "EXECUTE 'CREATE TE' || 'MP TABLE leftover (x int)'",
}


def test_verify_finds_what_functions_hide(postgres, tmp_path):
    """cleanup_check: verify. Each of the nine kinds, left by a function whose call says nothing."""
    connection = postgres.connect("app")
    with connection.cursor() as cursor:
        for name, body in HIDDEN.items():
            cursor.execute('CREATE OR REPLACE FUNCTION "hide_%s"() RETURNS void LANGUAGE plpgsql '
                           "AS $f$ BEGIN %s; END $f$" % (name, body))
    connection.close()
    root = {"username": "postgres", "password": "", "pool_size": 1}
    port = free_port()
    pooler = Doorman(str(tmp_path), port, configuration(port, {"app": pool(
        postgres, [root], unix=True, cleanup_check="verify")})).start()
    with pooler.client(user="postgres", TimeZone="Asia/Tokyo") as owner, \
            pooler.client(user="postgres") as other:
        clean = fingerprint(other)
        for name in HIDDEN:
            assert not wire.errors(owner.query('SELECT "hide_%s"()' % name)), name
            assert fingerprint(other) == clean, name
            assert owner.value("SHOW TimeZone") == "Asia/Tokyo"
        owner.query("CREATE TEMP TABLE mine AS SELECT 7 AS x")
        assert owner.value("SELECT x FROM mine") == "7"
    pooler.finish()


def test_server_reset_query(postgres, tmp_path):
    """server_reset_query: DISCARD ALL, in each mode and without any other clean-up."""
    connection = postgres.connect("app")
    with connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE FUNCTION hide_a_setting() RETURNS void LANGUAGE plpgsql "
                       "AS $f$ BEGIN EXECUTE 'S' || 'ET work_mem = 12345'; END $f$")
    connection.close()
    root = {"username": "postgres", "password": "", "pool_size": 1}
    modes = {"transaction": {}, "session": {"pool_mode": "session"},
             "off": {"cleanup_server_connections": False},
             "some": {"server_reset_query": "DEALLOCATE ALL; SELECT 1"},
             "bad": {"server_reset_query": "SELECT no_such_thing"}}
    port = free_port()
    pooler = Doorman(str(tmp_path), port, configuration(port, {name: pool(
        postgres, [root], unix=True, server_database="app",
        **{"pool_mode": "transaction", "server_reset_query": "DISCARD ALL", **options})
        for name, options in modes.items()})).start()
    for name in modes:
        with pooler.client(user="postgres", database=name, TimeZone="Asia/Tokyo") as client:
            client.send(wire.parse("kept", "SELECT 42"), wire.sync())
            assert not wire.errors(client.until_ready())
            pid = client.value("SELECT pg_backend_pid()")
            client.query("CREATE TEMP TABLE of_mine AS SELECT 1")
            client.query("SET statement_timeout = '7s'; SELECT 1")
            # The client's own wishes and statements outlast it.
            assert client.value("SHOW TimeZone") == "Asia/Tokyo", name
            client.send(wire.bind("", "kept"), wire.execute(), wire.sync())
            assert wire.rows(client.until_ready()) == [["42"]], name
            assert not wire.errors(client.query("SELECT hide_a_setting()"))
        with pooler.client(user="postgres", database=name) as other:
            found = [other.value("SHOW work_mem"), other.value("SHOW statement_timeout"),
                     other.value("SELECT count(*) FROM pg_class WHERE relname = 'of_mine' "
                                 "AND relnamespace = pg_my_temp_schema()")]
            same = other.value("SELECT pg_backend_pid()") == pid
        if name == "some":  # which the pooler adds to, as far as it knows
            assert found == ["12345kB", "0", "0"], name
        else:
            assert found == ["4MB", "0", "0"], name
        assert same == (name != "bad"), name
    pooler.finish()


SEQUENCES = "CREATE SEQUENCE moved; CREATE TABLE numbered (n serial, x int)"
MOVES = ("SELECT nextval('moved')", "SELECT setval('moved', 41)", "INSERT INTO numbered (x) VALUES (1)")
READS = ("SELECT lastval()", "SELECT currval('moved')", "SELECT currval('numbered_n_seq')")


def reads_nothing_yet(postgres, directory, modes, **general):
    """A pooler of which nobody has read a sequence yet, with one backend for each mode."""
    postgres.run("DROP TABLE IF EXISTS numbered; DROP SEQUENCE IF EXISTS moved; " + SEQUENCES,
                 database="app")
    root = {"username": "postgres", "password": "", "pool_size": 1}
    pools = {name: pool(postgres, [root], unix=True, server_database="app",
                        **{"pool_mode": "transaction", **options})
             for name, options in modes.items()}
    port = free_port()
    directory.mkdir()
    process = Doorman(str(directory), port, configuration(port, pools, **general))
    yield process.start()
    process.finish()


@pytest.fixture
def sequences(postgres, tmp_path):
    yield from reads_nothing_yet(postgres, tmp_path / "sequences", {
        "transaction": {}, "session": {"pool_mode": "session"},
        "off": {"cleanup_server_connections": False}})


@pytest.fixture
def unshared(postgres, tmp_path):
    """Statements go to the server as the client calls them."""
    yield from reads_nothing_yet(postgres, tmp_path / "unshared", {"unshared": {}},
                                 prepared_statements=False)


def move(client):
    for sql in MOVES:
        assert not wire.errors(client.query(sql))


def read_prepared(client, sql):
    client.send(wire.parse("reader", sql), wire.sync())
    assert not wire.errors(client.until_ready())
    client.send(wire.bind("", "reader"), wire.execute(), wire.sync())
    messages = client.until_ready()
    client.send(wire.close("S", "reader"), wire.sync())
    assert not wire.errors(client.until_ready())
    return messages


def read_second(client, sql):
    assert not wire.errors(client.query("BEGIN"))
    messages = client.query(sql)
    assert wire.status(client.query("ROLLBACK")) == "I"
    return messages


READERS = {"simple": lambda client, sql: client.query(sql),
           "extended": lambda client, sql: client.run(sql),
           "prepared": read_prepared, "in-transaction": read_second}


@pytest.mark.parametrize("sql", READS)
@pytest.mark.parametrize("how", READERS)
def test_sequences_of_others_are_not_defined(sequences, unshared, how, sql):
    """Again and again: the first reader of a pool is met in another way than those behind it."""
    for mode, pooler in (("transaction", sequences), ("unshared", unshared)):
        if (mode, how) == ("unshared", "prepared"):
            continue  # such a name lives as long as its lease
        with client_of(pooler, mode) as owner, client_of(pooler, mode) as other:
            for _ in range(3):
                move(owner)
                messages = READERS[how](other, sql)
                assert wire.sqlstates(messages) == ["55000"], (mode, messages)
                assert "is not yet defined in this session" in str(wire.errors(messages))
                assert other.value("SELECT 1") == "1"
    for mode in ("transaction", "session"):
        for leave in ("terminate", "reset"):
            with client_of(sequences, mode) as owner:
                move(owner)
                getattr(owner, leave)()
            sequences.wait_idle(10, mode, "postgres")
            with client_of(sequences, mode) as other:
                if mode == "session":
                    other.query("SELECT 1")
                assert wire.sqlstates(READERS[how](other, sql)) == ["55000"], (mode, leave)
                other.terminate()
            sequences.wait_idle(10, mode, "postgres")


def test_sequences_read_late_in_a_transaction_are_its_own(sequences):
    with client_of(sequences, "transaction") as owner, \
            client_of(sequences, "transaction") as other:
        for turn in range(3):
            move(other)
            owner.query("BEGIN")
            number = owner.value("INSERT INTO numbered (x) VALUES (1) RETURNING n")
            assert owner.value("SELECT lastval()") == number
            assert wire.rows(owner.run("SELECT currval('numbered_n_seq')"))[0][0] == number
            owner.query("COMMIT")
            if turn == 0:
                continue  # nobody in this pool had read yet
            move(other)
            owner.query("BEGIN")
            owner.query("SELECT 1")
            assert wire.sqlstates(owner.query("SELECT lastval()")) == ["55000"]
            owner.query("ROLLBACK")


def test_sequence_moved_and_read_in_one_batch(sequences):
    """Nothing that the client itself did in front of the reader is taken from it."""
    insert = "INSERT INTO numbered (x) VALUES (1)"
    with client_of(sequences, "transaction") as owner, \
            client_of(sequences, "transaction") as other:
        for _ in range(2):
            move(other)
            messages = owner.query(insert + "; SELECT lastval() > 0")
            assert not wire.errors(messages) and wire.rows(messages)[-1][0] == "t"
            move(other)
            owner.send(wire.parse("", insert), wire.bind(), wire.execute(),
                       wire.parse("", "SELECT lastval() > 0"), wire.bind(), wire.execute(),
                       wire.sync())
            messages = owner.until_ready()
            assert not wire.errors(messages) and wire.rows(messages)[-1][0] == "t"
            assert wire.types(messages).count("2") == 2


def test_sequence_reader_behind_an_unnamed_statement(unshared):
    """What clears them in front of the reader leaves the client's unnamed statement alone."""
    with client_of(unshared, "unshared") as owner, client_of(unshared, "unshared") as other:
        move(other)
        owner.send(wire.parse("", "SELECT 'mine'"), wire.parse("reader", READS[0]), wire.bind(),
                   wire.execute(), wire.bind("", "reader"), wire.execute(), wire.sync())
        messages = owner.until_ready()
        assert wire.essence(messages) == "112DC2EZ" and wire.rows(messages) == [["mine"]]
        assert wire.sqlstates(messages) == ["55000"]
        assert owner.value("SELECT count(*) FROM pg_prepared_statements") == "0"


def test_only_client_keeps_its_sequences(sequences):
    """Nobody else had the backend: nothing is taken, as without a pooler."""
    with client_of(sequences, "transaction") as owner:
        for _ in range(2):
            number = owner.value("INSERT INTO numbered (x) VALUES (1) RETURNING n")
            assert owner.value("SELECT lastval()") == number


def test_sequences_without_cleanup_are_left_alone(sequences):
    with client_of(sequences, "off") as owner, client_of(sequences, "off") as other:
        number = owner.value("SELECT nextval('moved')")
        assert other.value("SELECT lastval()") == number


def test_discard_by_the_client_is_all_that_is_needed(sequences):
    with client_of(sequences, "transaction") as owner, \
            client_of(sequences, "transaction") as other:
        for sql in ("DISCARD SEQUENCES", "DISCARD ALL"):
            move(owner)
            other.query(sql)
            number = other.value("INSERT INTO numbered (x) VALUES (1) RETURNING n")
            assert other.value("SELECT lastval()") == number
