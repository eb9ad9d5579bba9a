"""Scenarios of pools that went wrong once, in other hands, and what must come of them."""

import threading

from pooler import pool, trust_user
from test_pool_coordinator import holding
from waiting import stays, wait_until


def test_idle_timeout_of_zero_is_off(doorman, postgres):
    pooler = doorman(pool_size=2, idle_timeout=0, general={"retain_connections_time": "20ms"})
    with pooler.client() as client:
        first = client.backend_pid()
        pooler.wait_idle()
        stays(lambda: [int(pid) for pid, *_ in postgres.backends()] == [int(first)], 1,
              "the backend")
        assert client.backend_pid() == first


def test_lifetimes_of_two_pools_are_their_own(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres, [trust_user(1)], server_lifetime=200),
                            "other": pool(postgres, [trust_user(1)], server_lifetime=600000,
                                          server_database="app")},
                     general={"retain_connections_time": "50ms"})
    with pooler.client() as short, pooler.client(database="other") as long:
        first, kept = short.backend_pid(), long.backend_pid()
        wait_until(lambda: short.backend_pid() != first, 10, "another backend")
        assert long.backend_pid() == kept


def test_backends_that_went_from_hand_to_hand_cost_the_pool_no_place(doorman):
    pooler = doorman(pool_size=2)

    def transactions():
        with pooler.client() as client:
            for _ in range(50):
                assert client.value("SELECT 1") == "1"

    threads = [threading.Thread(target=transactions) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pooler.wait_idle()
    with holding(pooler, "trust_user", 2):
        row = pooler.pool_row()
        assert (row["sv_active"], row["sv_idle"], row["cl_waiting"]) == (2, 0, 0)
