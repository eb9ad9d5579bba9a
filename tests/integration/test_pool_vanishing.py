"""Clients that vanish, do not read or cancel while large rows come: what becomes of the pool.

Each scenario has a database of its own, in one pooler or two, and all run side by side: they wait.
"""

import threading
import time

import pytest

import wire
from pooler import pool, trust_user
from waiting import stays, wait_until
from wire import query

BIG, SMALLER = 50000000, 12000000
GRACE_S = 4  # what a busy machine may add to the limits
# Of the poolers: are statements of those who vanish cancelled, and proxy_copy_data_timeout in ms.
USUAL, UNCANCELLED, HASTY = (True, 2000), (False, 2000), (True, 500)
SCENARIOS = []


def scenario(size=5, unix=False, where=(USUAL,)):
    def add(function):
        SCENARIOS.append((function, size, unix, where))
        return function
    return add


class Place:
    """One database of one pooler."""

    def __init__(self, pooler, database, size, postgres, cancels):
        self.pooler, self.database, self.size = pooler, database, size
        self.postgres, self.cancels = postgres, cancels

    def open(self, count=1):
        clients = [wire.Wire(self.pooler.address, receive_buffer=4096) for _ in range(count)]
        for client in clients:
            client.login(database=self.database)
        return clients

    def stream(self, count=1, size=BIG, extended=False, before="", unread=False):
        """So many clients, each of which has the beginning of a large row, if it reads at all."""
        clients = self.open(count)
        sql = before + "SELECT repeat('x', %d)" % size
        for client in clients:
            client.send(wire.extended(sql) + wire.sync() if extended else query(sql))
        if not unread and "sleep" not in before:
            for client in clients:
                client.take(100000)
        else:
            self.wait_active(count)
        return clients

    def row(self):
        return self.pooler.pool_row(self.database)

    def active(self):
        row = self.row()
        return row["cl_active"], row["sv_active"]

    def wait_active(self, count, seconds=3):
        wait_until(lambda: self.active()[1] == count, seconds + GRACE_S,
                   "%d busy backends" % count, 0.05)

    def wait_free(self, seconds):
        wait_until(lambda: self.active() == (0, 0), seconds + GRACE_S, "no busy backend", 0.05)

    def pids(self):
        return {int(row["server_process_id"]) for row in self.pooler.admin("SHOW SERVERS")
                if row["database_name"] == self.database}

    def wait_ended(self, pids):
        wait_until(lambda: not pids & {row[0] for row in self.postgres.backends()}, 3 + GRACE_S,
                   "the server processes to end")

    def check_clean(self, count=1):
        clients = self.open(count)
        for number, client in enumerate(clients):
            client.send(query("SELECT 'row of %d'" % number))
        for number, client in enumerate(clients):
            messages = client.until_ready()
            assert wire.essence(messages) == "TDCZ"
            assert wire.rows(messages) == [["row of %d" % number]]
            client.terminate()


def leave_all(clients, how):
    for client in clients:
        getattr(client, how)()


@scenario()
def reset_in_a_row(place):
    for extended in (False, True):
        clients = place.stream(extended=extended)
        pids = place.pids()
        leave_all(clients, "reset")
        place.wait_free(3)
        place.wait_ended(pids)  # the rest of the row was never read
        place.check_clean()


@scenario(unix=True)
def reset_in_a_row_over_a_unix_socket(place):
    reset_in_a_row(place)


@scenario()
def five_resets_in_a_row(place):
    for extended in (False, True):
        leave_all(place.stream(5, SMALLER, extended=extended), "reset")
        place.wait_free(5)
        place.check_clean(5)


@scenario(where=(USUAL, UNCANCELLED))
def vanished_before_the_row(place):
    for how in ("reset", "close") if place.cancels else ("reset",):
        clients = place.stream(size=SMALLER, before="SELECT pg_sleep(3); ")
        leave_all(clients, how)
        place.wait_free(3 if place.cancels else 8)
        place.check_clean()


@scenario(where=(USUAL, UNCANCELLED))
def five_closed_before_their_rows(place):
    leave_all(place.stream(5, SMALLER, before="SELECT pg_sleep(3); "), "close")
    place.wait_free(3 if place.cancels else 8)
    place.check_clean(5)


def read_nothing(place, count, size):
    clients = place.stream(count, size, unread=True)
    began = time.monotonic()
    stays(lambda: place.active() == (count, count) or time.monotonic() > began + 1.3, 1.2,
          "%d busy backends" % count)
    leave_all(clients, "close")
    place.wait_free(3)
    place.check_clean(count)


@scenario()
def never_read(place):
    read_nothing(place, 1, BIG)


@scenario()
def five_never_read(place):
    read_nothing(place, 5, SMALLER)


@scenario(unix=True)
def never_read_over_a_unix_socket(place):
    read_nothing(place, 5, SMALLER)


def outlast_the_timer(place, count, sql):
    clients = place.open(count)
    for client in clients:
        client.send(query(sql))
    place.wait_active(count)
    pids = place.pids()
    # Though the clients are still there; what their sockets take begins the time anew.
    place.wait_free(8)
    place.wait_ended(pids)
    place.check_clean(count)
    leave_all(clients, "close")


@scenario(where=(HASTY,))
def timer_ends_a_row(place):
    for count in (1, 1, 1, 1, 1, 5):
        outlast_the_timer(place, count, "SELECT repeat('x', %d)" % SMALLER)


@scenario(where=(HASTY,))
def timer_ends_a_copy(place):
    for count in (1, 5):
        outlast_the_timer(place, count, "COPY (SELECT repeat('x', 4000000) "
                                        "FROM generate_series(1, 5)) TO STDOUT")


@scenario()
def cancelled_and_closed(place):
    for before in ("", "SELECT pg_sleep(3); "):
        clients = place.stream(size=SMALLER, before=before)
        for client in clients:
            client.cancel()
        leave_all(clients, "close")
        place.wait_free(3)
        place.check_clean()


@scenario()
def fifteen_streams(place):
    for pause_s in (0.1, 0.5, 0.2):
        clients = place.stream(5, SMALLER)
        time.sleep(pause_s)  # when in the row they go is what this is about
        if pause_s == 0.2:
            for client in clients:
                client.cancel()
        leave_all(clients, "reset")
        wait_until(lambda: place.row()["cl_active"] == 0, 5 + GRACE_S, "them to be gone")
    place.wait_free(5)
    place.check_clean(5)


@scenario(size=40, where=(USUAL, UNCANCELLED))
def forty_of_forty(place):
    late, *clients = place.open(41)
    for client in clients:
        client.send(query("SELECT pg_sleep(%d), repeat('x', 2000000)"
                          % (60 if place.cancels else 10)))
    wait_until(lambda: place.row()["cl_active"] + place.row()["cl_waiting"] == 40, GRACE_S,
               "forty requests", 0.1)
    began = time.monotonic()
    late.send(query("SELECT 1"))
    place.wait_active(40, 0.7)
    error, = wire.errors(late.until_ready())
    assert error["C"] == "53300" and "timeout" in error["M"].lower()
    assert 4.9 <= time.monotonic() - began <= 5 + GRACE_S
    leave_all(clients, "close")
    place.wait_free(3 if place.cancels else 12)
    place.check_clean(5)


@scenario(size=1, where=(UNCANCELLED,))
def age_of_a_lease(place):
    client, = place.open()
    client.send(query("SELECT pg_sleep(2)"))
    place.wait_active(1)
    wait_until(lambda: 200 <= place.row()["oldest_active_age_ms"] <= 5000, 5, "an age")
    client.close()
    wait_until(lambda: place.row()["oldest_active_age_ms"] == 0, 2.5 + GRACE_S, "no age")


@pytest.mark.slow
def test_pool_is_whole_again_after_clients_vanished(doorman, postgres):
    failures = []

    def run(function, place):
        try:
            function(place)
        except BaseException as failure:  # told by the main thread
            failures.append((place.database, place.cancels, failure))

    threads = []
    for settings in (USUAL, UNCANCELLED, HASTY):
        cancels, timer_ms = settings
        chosen = [entry for entry in SCENARIOS if settings in entry[3]]
        pools = {function.__name__: pool(postgres, [trust_user(size)], unix, server_database="app")
                 for function, size, unix, _ in chosen}
        pooler = doorman(pools=pools, general={"proxy_copy_data_timeout": timer_ms,
                                               "query_wait_timeout": 5000,
                                               "cancel_on_disconnect": cancels})
        for function, size, _, _ in chosen:
            place = Place(pooler, function.__name__, size, postgres, cancels)
            threads.append(threading.Thread(target=run, args=(function, place)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, "\n".join(map(repr, failures))
