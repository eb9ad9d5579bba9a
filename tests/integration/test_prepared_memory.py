"""The texts of prepared statements when they take much memory: who gives them up, who is served."""

import wire
from waiting import wait_until
from wire import bind, close, execute, parse, sync

LIMIT = 64 << 20  # the least that counts
TEXT = 400_000


def wide(number, size=TEXT):
    return "SELECT %d AS n, length('%s')" % (number, "x" * size)


def ask(client, *parts):
    client.send(*parts, sync())
    return client.until_ready()


def prepare(client, name, number, size=TEXT):
    """Prepares and runs it; the SQLSTATEs of errors."""
    messages = ask(client, parse(name, wide(number, size)), bind("", name), execute())
    codes = wire.sqlstates(messages)
    assert codes or wire.rows(messages) == [[str(number), str(size)]]
    return codes


def works(client, name, number, size=TEXT):
    messages = ask(client, bind("", name), execute())
    assert wire.rows(messages) == [[str(number), str(size)]], wire.sqlstates(messages)


def text_bytes(pooler):
    return sum(int(row["bytes"]) for row in pooler.admin("SHOW INTERNER"))


def test_texts_of_clients_that_are_gone_make_room(doorman):
    """More than the limit by clients that leave: nobody is refused, and the memory stays bounded."""
    pooler = doorman(pool_size=2, general={"max_memory_usage": "64MB"})
    with pooler.client() as old:
        assert prepare(old, "old", 0) == []
        assert prepare(old, "", 1) == []
        for number in range(2, 2 + 1 + LIMIT // TEXT):
            with pooler.client() as client:
                assert prepare(client, "mine", number) == [], number
        assert text_bytes(pooler) <= LIMIT // 2 + 4 * TEXT
        row, = pooler.admin("SHOW POOLS_MEMORY")
        assert int(row["pool_prepared_bytes"]) <= LIMIT // 2 + 4 * TEXT
        works(old, "old", 0)
        works(old, "", 1)
        with pooler.client() as new:
            assert prepare(new, "new", 1000) == []
            works(new, "new", 1000)


def test_resting_backends_give_up_their_statements(doorman):
    pooler = doorman(pool_size=3, general={"max_memory_usage": "64MB",
                                           "retain_connections_time": "500ms"})
    with pooler.client() as a, pooler.client() as b, pooler.client() as holder:
        for client in (a, b, holder):  # each on a backend of its own
            client.query("BEGIN")
            client.query("SELECT 1")
        for number in range(38):
            for client, name in ((a, ""), (b, "")):
                assert prepare(client, name, number + (1000 if client is b else 0)) == []
        for client in (a, b):
            client.query("COMMIT")
            client.close()
        # Half of the limit is passed now by what a client goes on holding.
        for number in range(2000, 2020):
            assert prepare(holder, "s%d" % number, number) == []
        holder.query("COMMIT")
        wait_until(lambda: text_bytes(pooler) <= LIMIT // 2, what="memory to come back")
        assert "DEALLOCATE ALL" in pooler.log()
        for number in range(2000, 2020):
            works(holder, "s%d" % number, number)


def test_one_client_cannot_take_all_by_its_names(doorman):
    pooler = doorman(pool_size=2, general={"max_memory_usage": "64MB"})
    size = 2_000_000
    with pooler.client() as greedy, pooler.client() as other:
        assert prepare(other, "other", 1) == []
        held = 0
        while (codes := prepare(greedy, "s%d" % held, 100 + held, size)) == []:
            held += 1
            assert held * size <= LIMIT
        assert codes == ["53200"] and LIMIT // 2 - size <= held * size <= LIMIT // 2 + size
        works(greedy, "s0", 100, size)
        for number in range(2, 6):
            assert prepare(other, "other%d" % number, number) == []
        works(other, "other", 1)
        # What it gives back it may use again; and unnamed ones take the place of each other.
        assert prepare(greedy, "", 50, size) == []
        assert wire.types(ask(greedy, close("S", "s1"), close("S", "s2"))) == "33Z"
        assert prepare(greedy, "another", 51, size) == []
