"""What counts against pool_size and max_db_connections when an upgrade brings connections along."""

import signal

import wire
from waiting import stays, wait_until
from wire import query

STRICT = {"upgrade_inherited_accounting": "strict"}


def in_transaction(pooler):
    client = pooler.doorman.client()
    client.query("BEGIN")
    return client, client.value("SELECT pg_backend_pid()")


def servers(pooler):
    row = pooler.doorman.pool_row()
    return sum(row[name] for name in ("sv_active", "sv_idle", "sv_login"))


def test_c1_02_h12_new_session_is_served_beside_an_inherited_transaction(upgrading, postgres):
    """And when that ends, there are no more connections than pool_size."""
    pooler = upgrading(pool_size=1)
    holder, pid = in_transaction(pooler)
    for number in (signal.SIGINT, signal.SIGUSR2):
        pooler.signal = number
        pooler.upgrade()
        new = pooler.doorman.client()
        assert new.value("SELECT pg_backend_pid()") not in (pid, "")
        assert holder.value("SELECT pg_backend_pid()") == pid
        new.terminate()
    assert wire.tags(holder.query("COMMIT")) == ["COMMIT"]
    wait_until(lambda: servers(pooler) == 1 and len(postgres.backends()) == 1, 10,
               "pool_size connections")
    assert holder.value("SELECT 1") == "1"
    holder.terminate()


def test_inherited_connection_is_kept_when_there_is_room(upgrading, postgres):
    pooler = upgrading(pool_size=1)
    holder, pid = in_transaction(pooler)
    pooler.upgrade()
    holder.query("COMMIT")
    assert holder.value("SELECT pg_backend_pid()") == pid
    assert [row[0] for row in postgres.backends()] == [int(pid)]
    holder.terminate()


def test_waiter_gets_another_connection(upgrading):
    """The one who waits longest, as ever."""
    pooler = upgrading(pool_size=1)
    holder, pid = in_transaction(pooler)
    waiters = []
    for number in range(3):
        waiters.append(pooler.doorman.client())
        waiters[-1].send(query("SELECT pg_backend_pid(), clock_timestamp()"))
        wait_until(lambda n=number: pooler.doorman.pool_row()["cl_waiting"] == n + 1, 5,
                   "the client to wait")
    pooler.upgrade()
    served = [wire.rows(waiter.until_ready())[0] for waiter in waiters]
    assert pid not in [row[0] for row in served] and len({row[0] for row in served}) == 1
    assert served == sorted(served, key=lambda row: row[1])
    holder.query("COMMIT")
    for client in [holder] + waiters:
        client.terminate()


def test_strict_inherited_connection_counts_at_once(upgrading):
    pooler = upgrading(pool_size=1, general=STRICT)
    holder, pid = in_transaction(pooler)
    pooler.upgrade()
    new = pooler.doorman.client()
    new.send(query("SELECT pg_backend_pid()"))
    wait_until(lambda: pooler.doorman.pool_row()["cl_waiting"] == 1, 5, "the client to wait")
    stays(lambda: servers(pooler) == 1, 0.3, "one connection")
    holder.query("COMMIT")
    assert wire.rows(new.until_ready()) == [[pid]]
    holder.terminate()
    new.terminate()


def test_cap_of_the_database_holds_whatever_the_accounting(upgrading, postgres):
    pooler = upgrading(pool_size=5, max_db_connections=1, reserve_pool_timeout=20000,
                       general={"query_wait_timeout": "30s"})
    holder, pid = in_transaction(pooler)
    pooler.upgrade()
    new = pooler.doorman.client()
    new.send(query("SELECT pg_backend_pid()"))
    wait_until(lambda: pooler.doorman.pool_row()["cl_waiting"] == 1, 5, "the client to wait")
    stays(lambda: len(postgres.backends()) == 1, 0.3, "one connection")
    holder.query("COMMIT")
    assert wire.rows(new.until_ready()) == [[pid]]
    holder.terminate()
    new.terminate()


def test_connection_left_with_the_old_process_keeps_its_permit(upgrading, postgres):
    """Its client has gone, its statement runs on: the new process may not open another meanwhile."""
    pooler = upgrading(pool_size=5, max_db_connections=1, reserve_pool_timeout=20000,
                       general={"query_wait_timeout": "30s", "cancel_on_disconnect": False})
    leaver = pooler.doorman.client()
    leaver.send(query("SELECT pg_sleep(4)"))
    wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
    leaver.close()
    pooler.request()
    wait_until(lambda: pooler.status()["phase"] == "taking over", 10, "the new process to serve")
    new = pooler.doorman.client()
    new.send(query("SELECT count(*) FROM pg_stat_activity WHERE datname = 'app'"))
    stays(lambda: len(postgres.backends()) == 1, 0.5, "one connection")
    assert wire.rows(new.until_ready()) == [["1"]]
    pooler.follow()
    new.terminate()
