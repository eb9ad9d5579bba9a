"""Who gets in: passwords and verifiers on both sides, HBA, and the texts of refusals."""

import hashlib
import os
import stat
import tempfile

import psycopg2
import pytest

import wire
from pooler import ADMIN, TRUST, configuration, pool, trust_user
from postgres import PASSWORDS

MD5_HBA = "host all all 127.0.0.1/32 md5\nlocal all all md5\n"
SCRAM_HBA = "host all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n"


@pytest.fixture
def every_secret(postgres, doorman):
    """A pooler that knows each kind of user, by the verifier PostgreSQL stores."""
    def start(hba=MD5_HBA, **general):
        users = [{"username": name, "password": postgres.verifier(name), "pool_size": 4}
                 for name in ("scram_user", "md5_user")]
        users.append({"username": "front_user", "password": md5_of("front_user", "front secret"),
                      "pool_size": 4,
                      "server_username": "plain_user",
                      "server_password": PASSWORDS["plain_user"]})
        return doorman(pools={"app": pool(postgres, users),
                              "sessions": pool(postgres, users, server_database="app",
                                               pool_mode="session")},
                       general={"pg_hba": hba, **general})
    return start


def md5_of(user, password):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


@pytest.mark.parametrize("database", ["app", "sessions"])
@pytest.mark.parametrize("user, password, backend_user", [
    ("scram_user", PASSWORDS["scram_user"], "scram_user"),
    ("md5_user", PASSWORDS["md5_user"], "md5_user"),
    ("front_user", "front secret", "plain_user"),
], ids=["scram", "md5", "server_password"])
def test_login_reaches_postgresql_with_the_right_role(every_secret, user, password, backend_user,
                                                      database):
    connection = every_secret().connect(user, database, password)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_database(), %s::int + 1", (41,))
        assert cursor.fetchone() == (backend_user, "app", 42)
    connection.close()


def test_scram_secret_is_served_under_a_scram_rule_and_md5_secret_is_not(every_secret):
    pooler = every_secret(SCRAM_HBA)
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    with pytest.raises(psycopg2.OperationalError, match="not permitted by HBA configuration"):
        pooler.connect("md5_user", "app", PASSWORDS["md5_user"])


def test_scram_secret_needs_a_scram_exchange_and_md5_secret_an_md5_exchange(every_secret):
    pooler = every_secret()
    for user, code in (("scram_user", 10), ("md5_user", 5), ("front_user", 5)):
        with pooler.wire() as client:
            client.send(wire.startup(user, "app"))
            m = client.receive()
            assert m.type == "R" and int.from_bytes(m.body[:4], "big") == code


def test_scram_with_flag_y_is_accepted(every_secret):
    with every_secret().wire() as client:
        client.send(wire.startup("scram_user", "app"))
        client.receive()
        scram = wire.Scram(PASSWORDS["scram_user"], flag="y")
        client.send(scram.first())
        client.send(scram.final(client.receive().body[4:]))
        final = client.receive()
        scram.check(final.body[4:])
        assert wire.essence(client.until_ready()).startswith("R")


@pytest.mark.parametrize("user, text", [
    ("scram_user", "Authentication failed. Invalid credentials or authentication protocol error."),
    ("md5_user", "Authentication failed. Please check your username and password."),
], ids=["scram", "md5"])
def test_wrong_password_is_refused_with_28P01(every_secret, user, text):
    pooler = every_secret()
    with pooler.wire() as client:
        with pytest.raises(wire.LoginFailed) as refusal:
            client.login(user, "app", "wrong")
        error = refusal.value.error
        assert (error["S"], error["C"], error["M"]) == ("FATAL", "28P01", text)
        assert set(error) == {"S", "V", "C", "M"}
        assert wire.types(client.wait_closed()) == ""


@pytest.mark.parametrize("what, reply", [
    ("mechanism not offered", wire.Scram("x").first("SCRAM-SHA-512")),
    ("channel binding", wire.Scram("x", flag="p=tls-unique").first()),
    ("no SASL data", wire.message("p", b"SCRAM-SHA-256\0" + b"\xff\xff\xff\xff")),
], ids=["mechanism", "binding", "empty"])
def test_broken_scram_start_is_refused_with_its_text(every_secret, what, reply):
    with every_secret().wire() as client:
        client.send(wire.startup("scram_user", "app"))
        client.receive()
        client.send(reply)
        error, = wire.errors(client.wait_closed())
        assert (error["C"], error["M"]) == (
            "28P01", "Authentication protocol error. "
            "Your client may not support SCRAM authentication properly."), what


def test_broken_scram_final_is_refused_with_its_text(every_secret):
    with every_secret().wire() as client:
        client.send(wire.startup("scram_user", "app"))
        client.receive()
        client.send(wire.Scram("x").first())
        assert client.receive().type == "R"
        client.send(wire.message("p", b"this is no client-final"))
        error, = wire.errors(client.wait_closed())
        assert (error["C"], error["M"]) == (
            "28P01",
            "Authentication protocol error. Your client sent an invalid SCRAM final message.")


@pytest.mark.parametrize("user", ["scram_user", "md5_user"])
def test_secret_that_is_changed_amid_the_exchange_counts(postgres, doorman, user):
    def pools(secret):
        return {"app": pool(postgres, [{"username": user, "password": secret, "pool_size": 1}])}

    before = postgres.verifier(user)
    if user == "scram_user":
        head, iterations, keys = before.split("$")
        after = "$".join((head, iterations, ":".join(reversed(keys.split(":")))))
    else:
        after = md5_of(user, "another")
    pooler = doorman(pools=pools(before), general={"pg_hba": MD5_HBA})
    with pooler.wire() as client:
        login = wire.Login(user, PASSWORDS[user])
        client.send(wire.startup(user, "app"))
        answer = login.answer(client.receive())
        if user == "scram_user":
            client.send(answer)
            answer = login.answer(client.receive())
        pooler.write_config(configuration(pooler.port, pools(after), pg_hba=MD5_HBA))
        pooler.admin("RELOAD")
        client.send(answer)
        assert [e["C"] for e in wire.errors(client.wait_closed())] == ["28P01"]


def test_trust_rule_asks_for_no_password(doorman):
    with doorman().wire() as client:
        client.send(wire.startup("trust_user", "app"))
        messages = client.until_ready()
        assert messages[0] == ("R", b"\0\0\0\0")
        assert wire.essence(messages) == "RKZ" and wire.status(messages) == "I"


def test_reject_rule_refuses_with_28000_and_names_the_peer(doorman):
    pooler = doorman(general={"pg_hba": "host all all 127.0.0.1/32 reject\n"})
    with pooler.wire() as client:
        local = client.sock.getsockname()
        with pytest.raises(wire.LoginFailed) as refusal:
            client.login()
        assert refusal.value.error == {
            "S": "FATAL", "V": "FATAL", "C": "28000",
            "M": "Connection from %s:%d to trust_user@app (TLS: false) is not permitted by HBA "
                 "configuration. Please contact your database administrator." % local}
        assert client.wait_closed() == []


def test_hba_rule_for_another_user_does_not_let_in(doorman):
    pooler = doorman(general={"pg_hba": "host all somebody_else 127.0.0.1/32 trust\n"})
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client()
    assert refusal.value.error["C"] == "28000"


def test_first_matching_hba_rule_decides(doorman, every_secret):
    pooler = every_secret("host all scram_user 127.0.0.1/32 reject\n" + MD5_HBA)
    with pytest.raises(psycopg2.OperationalError, match="HBA configuration"):
        pooler.connect("scram_user", "app", PASSWORDS["scram_user"])
    pooler.connect("md5_user", "app", PASSWORDS["md5_user"]).close()


def test_password_rule_is_not_passed_over_for_a_later_trust_rule(every_secret):
    pooler = every_secret("host all all 127.0.0.1/32 scram-sha-256\n" + TRUST)
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client("app", "md5_user", "anything")
    assert refusal.value.error["C"] in ("28000", "28P01")


def test_unknown_database_and_unknown_user_never_reach_a_backend(doorman, postgres):
    pooler = doorman()
    for user, database in (("trust_user", "nowhere"), ("nobody", "app")):
        with pooler.wire() as client:
            with pytest.raises(wire.LoginFailed) as refusal:
                client.login(user, database)
            error = refusal.value.error
            assert error["S"] == "FATAL" and error["C"] in ("3D000", "28P01")
            if error["C"] == "3D000":
                assert error["M"] == (
                    "No connection pool configured for database: %s, user: %s. "
                    "Please check your connection parameters." % (database, user))
    assert postgres.backends() == []


def test_startup_without_database_means_the_one_named_like_the_user(doorman, postgres):
    pooler = doorman(pools={"trust_user": pool(postgres, server_database="app")})
    with pooler.wire() as client:
        client.login(database=None)
        assert client.value("SELECT current_database()") == "app"


def test_startup_without_user_is_refused(doorman):
    with doorman().wire() as client:
        client.send(wire.untyped(wire.PROTOCOL_3, b"database\0app\0\0"))
        error, = wire.errors(client.wait_closed())
        assert (error["C"], error["M"]) == (
            "28000", "no PostgreSQL user name specified in startup packet")


def test_plain_text_secret_without_trust_never_accepts_a_wrong_password(doorman, postgres):
    users = [trust_user(), {"username": "plain_user", "password": "plain text", "pool_size": 2}]
    pooler = doorman(pools={"app": pool(postgres, users)}, general={"pg_hba": MD5_HBA})
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client("app", "plain_user", "wrong")
    assert refusal.value.error["C"] == "28P01"
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client("app", "trust_user", "")
    assert refusal.value.error["C"] == "28P01"


@pytest.mark.parametrize("rule, asked", [
    # What each rule asks for (3 password, 5 MD5, 10 SASL; None: refused) by the kind of secret.
    ("md5", {"md5_user": 5, "plain_user": 5, "scram_user": 10}),
    ("scram-sha-256", {"md5_user": None, "plain_user": 10, "scram_user": 10}),
    ("password", {"md5_user": 3, "plain_user": 3, "scram_user": 3}),
], ids=lambda value: value if isinstance(value, str) else "")
def test_rule_and_kind_of_secret_decide_what_is_asked(doorman, postgres, rule, asked):
    users = [{"username": name, "pool_size": 2,
              "password": PASSWORDS[name] if name == "plain_user" else postgres.verifier(name)}
             for name in asked]
    pooler = doorman(pools={"app": pool(postgres, users)},
                     general={"pg_hba": "host all all 127.0.0.1/32 %s\n" % rule})
    for user, code in asked.items():
        if code is None:
            with pytest.raises(wire.LoginFailed) as refusal:
                pooler.client("app", user, PASSWORDS[user])
            assert refusal.value.error["C"] == "28000"
            continue
        for wrong in ("wrong", PASSWORDS[user] + " ", postgres.verifier(user)):
            with pytest.raises(wire.LoginFailed) as refusal:
                pooler.client("app", user, wrong)
            assert refusal.value.error["C"] == "28P01", (user, wrong)
        for _ in range(2):
            with pooler.wire() as client:
                client.send(wire.startup(user, "app"))
                challenge = client.receive()
                assert int.from_bytes(challenge.body[:4], "big") == code, user
                login = wire.Login(user, PASSWORDS[user])
                client.send(login.answer(challenge))
                if code == 10:
                    client.send(login.answer(client.receive()))
                client.until_ready()
                assert client.value("SELECT current_user") == user


def test_password_without_its_end_is_refused(every_secret):
    pooler = every_secret("host all all 127.0.0.1/32 password\n")
    for user in ("scram_user", "md5_user"):
        with pooler.wire() as client:
            client.send(wire.startup(user, "app"))
            assert client.receive().body[:4] == b"\0\0\0\3"
            client.send(wire.message("p", PASSWORDS[user].encode()))
            error, = wire.errors(client.wait_closed())
            assert error["C"] == "28P01"


def test_client_that_leaves_while_its_password_is_checked(every_secret):
    """Many at once, half of them gone before the answer: the rest get in all the same."""
    pooler = every_secret("host all all 127.0.0.1/32 password\n")
    clients = [pooler.wire() for _ in range(16)]
    for client in clients:
        client.send(wire.startup("scram_user", "app"))
    for i, client in enumerate(clients):
        client.receive()
        client.send(wire.message("p", wire.cstring(PASSWORDS["scram_user"])))
        if i % 2:
            client.reset()
    for client in clients[::2]:
        client.until_ready()
        assert client.value("SELECT current_user") == "scram_user"
        client.close()


@pytest.mark.parametrize("database", ["pgdoorman", "pgbouncer"])
def test_admin_console_asks_for_md5(every_secret, database):
    pooler = every_secret()
    with pooler.wire() as client:
        client.send(wire.startup(ADMIN["user"], database))
        assert client.receive().body[:4] == b"\0\0\0\5"
    pooler.client(database, ADMIN["user"], ADMIN["password"]).terminate()
    for user, password in ((ADMIN["user"], "wrong"), ("md5_user", PASSWORDS["md5_user"])):
        with pooler.wire() as client:
            with pytest.raises(wire.LoginFailed) as refusal:
                client.login(user, database, password)
            error = refusal.value.error
            assert (error["C"], error["M"]) == (
                "28P01", 'password authentication failed for user "%s"' % user)


def test_unix_sockets_on_both_sides(doorman, postgres):
    with tempfile.TemporaryDirectory(prefix="dm-") as directory:
        pooler = doorman(pools={"app": pool(postgres, unix=True)},
                         general={"unix_socket_dir": directory})
        path = "%s/.s.PGSQL.%d" % (directory, pooler.port)
        with wire.Wire(path).login() as client:
            assert client.value("SELECT inet_client_addr() IS NULL") == "t"
        connection = pooler.connect(host=directory)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 7")
            assert cursor.fetchone() == (7,)
        connection.close()


def test_unix_socket_file_has_its_mode_and_goes_away(doorman):
    with tempfile.TemporaryDirectory(prefix="dm-") as directory:
        pooler = doorman(general={"unix_socket_dir": directory, "unix_socket_mode": "0640"})
        path = "%s/.s.PGSQL.%d" % (directory, pooler.port)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        pooler.finish()
        assert not os.path.exists(path)


def test_local_rule_is_for_unix_sockets_and_host_rule_for_tcp(doorman):
    with tempfile.TemporaryDirectory(prefix="dm-") as directory:
        pooler = doorman(general={"unix_socket_dir": directory,
                                  "pg_hba": "local all all reject\nhost all all 0.0.0.0/0 trust\n"})
        pooler.client().terminate()
        with wire.Wire("%s/.s.PGSQL.%d" % (directory, pooler.port)) as client:
            with pytest.raises(wire.LoginFailed) as refusal:
                client.login()
            assert refusal.value.error["C"] == "28000"
            assert "from unix: to" in refusal.value.error["M"]


def test_backend_login_failure_is_told_at_login(doorman, postgres):
    users = [{"username": "front", "password": "", "pool_size": 2,
              "server_username": "plain_user", "server_password": "not its password"}]
    pooler = doorman(pools={"app": pool(postgres, users)})
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client("app", "front")
    error = refusal.value.error
    assert error["C"] == "3D000"
    assert error["M"].startswith(
        "Unable to retrieve server parameters for database: app, user: front.")


def test_server_parameters_are_postgresqls_own(doorman, postgres):
    with doorman().client(application_name="the tester") as client:
        assert client.parameters["server_version"] == postgres.value("SHOW server_version")
        assert client.parameters["client_encoding"] == "UTF8"
        assert client.parameters["application_name"] == "the tester"
        for name in ("user", "database"):
            assert name not in client.parameters


def test_alias_of_a_database(doorman, postgres):
    pooler = doorman(pools={"alias": pool(postgres, server_database="app"),
                            "app": pool(postgres)})
    for name in ("alias", "app"):
        with pooler.client(name) as client:
            assert client.value("SELECT current_database()") == "app"
