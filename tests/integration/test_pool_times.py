"""Percentiles of what clients experienced, as the console tells them."""

import threading


def extended_row(pooler):
    row, = pooler.admin("SHOW POOLS_EXTENDED")
    return {name: float(value) for name, value in row.items() if "_0." in name}


def sleep_in_parallel(pooler, milliseconds):
    """One query of each length, each by a client of its own; so the whole takes as long as one."""
    clients = [pooler.client() for _ in milliseconds]
    try:
        for client in clients:
            client.query("SELECT 1")
        threads = [threading.Thread(target=client.query,
                                    args=("SELECT pg_sleep(%f)" % (ms / 1000),))
                   for client, ms in zip(clients, milliseconds)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for client in clients:
            client.close()


def test_percentiles_are_there_at_once_and_tell_the_slow_from_the_usual(doorman):
    pooler = doorman()
    assert set(extended_row(pooler).values()) == {0}
    sleep_in_parallel(pooler, [1000] * 8 + [3000] * 2)
    row = extended_row(pooler)
    # Each of the ten clients asked a quick query first, so the slow half begins above 0.5.
    for what in ("query", "transaction"):
        assert row[what + "_0.5"] < 900000
        assert 2900000 <= row[what + "_0.95"] <= 6000000
        assert row[what + "_0.95"] <= row[what + "_0.99"] <= 6000000
    rows = {row["what"]: row for row in pooler.admin("SHOW LATENCY")}
    assert list(rows) == ["query", "transaction", "wait", "connect"]
    assert int(rows["query"]["count"]) == int(rows["wait"]["count"]) == 20
    assert int(rows["connect"]["count"]) == len(pooler.admin("SHOW SERVERS"))
    for row in rows.values():
        values = [float(row[name]) for name in ("0.5", "0.9", "0.95", "0.99", "0.999", "max")]
        assert values == sorted(values) and values[-1] < 6000000
