"""SQLAlchemy 1.4 over psycopg2, or over asyncpg when the argument says so."""

import asyncio
import sys

import sqlalchemy
from sqlalchemy import CheckConstraint, Column, Integer, Text, select, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, declarative_base, relationship, selectinload
from sqlalchemy.pool import NullPool, QueuePool

import matrix
from matrix import DATABASE, DSN, KEEPS_STATE, NotApplicable, once

OVER = sys.argv[1]
PSYCOPG2 = OVER == "psycopg2"


def address():
    return URL.create("postgresql+" + OVER, username=DSN["user"], password=DSN["password"],
                      host=DSN["host"], port=DSN["port"], database=DATABASE)


class Database:
    """One engine; `run` calls a function with a synchronous connection, whatever the driver. Each
    client has a thread, so the asynchronous engine has an event loop per client."""

    def __init__(self, size=0, arguments=None, **options):
        pool = {"poolclass": NullPool} if size == 0 else {"pool_size": size, "max_overflow": 0}
        if PSYCOPG2 and size:
            pool["poolclass"] = QueuePool
        make = sqlalchemy.create_engine if PSYCOPG2 else create_async_engine
        self.arguments = arguments or {}
        self.engine = make(address(), connect_args=self.arguments, **pool, **options)
        self.loop = None if PSYCOPG2 else asyncio.new_event_loop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if PSYCOPG2:
            self.engine.dispose()
        else:
            self.loop.run_until_complete(self.engine.dispose())
            self.loop.close()

    async def _asynchronously(self, work, isolation):
        async with self.engine.connect() as connection:
            if isolation:
                await connection.execution_options(isolation_level=isolation)
            return await connection.run_sync(work)

    def run(self, work, isolation=None):
        if not PSYCOPG2:
            return self.loop.run_until_complete(self._asynchronously(work, isolation))
        with self.engine.connect() as connection:
            if isolation:
                connection = connection.execution_options(isolation_level=isolation)
            return work(connection)

    def gather(self, works):
        """All at once, each with a connection of the engine's own pool."""
        if PSYCOPG2:
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(12) as threads:
                return list(threads.map(self.run, works))

        async def all_of_them():
            return await asyncio.gather(*(self._asynchronously(work, None) for work in works))
        return self.loop.run_until_complete(all_of_them())


def model(client):
    """Classes for this client's tables."""
    base = declarative_base()
    prefix = "%s_orm_%d" % (client.table, client.number)

    class Parent(base):
        __tablename__ = prefix + "_parent"
        id = Column(Integer, primary_key=True)
        name = Column(Text, unique=True, nullable=False)
        children = relationship("Child", lazy="noload")

    class Child(base):
        __tablename__ = prefix + "_child"
        id = Column(Integer, primary_key=True)
        parent_id = Column(Integer, sqlalchemy.ForeignKey(prefix + "_parent.id"))
        amount = Column(Integer, CheckConstraint("amount >= 0"))

    return base, Parent, Child


def code_of(problem):
    return getattr(problem.orig, "pgcode", None) or getattr(problem.orig, "sqlstate", None)


def expect(connection, code, statement, **values):
    try:
        connection.execute(text(statement), values)
    except sqlalchemy.exc.DBAPIError as problem:
        assert code_of(problem) == code, problem
        return str(problem.orig)
    raise AssertionError("no error from " + statement)


def simple(client):
    def work(connection):
        assert connection.execute(text("SELECT 1")).scalar() == 1
        row = connection.execute(text("SELECT CAST(:a AS text), CAST(:b AS int)"),
                                 {"a": "ü", "b": 5}).one()
        assert tuple(row) == ("ü", 5)
        assert not connection.execute(text("SELECT 1 WHERE false")).all()
    with Database() as database:
        database.run(work)


def repeat(connection):
    for turn in range(40):
        added = text("SELECT CAST(:n AS int) + %d" % (turn % 5))
        assert connection.execute(added, {"n": turn}).scalar() == turn + turn % 5


def prepared(client):
    with Database() as database:
        for _ in range(3):
            database.run(repeat)


def forced(client):
    if PSYCOPG2:
        raise NotApplicable("psycopg2 never prepares")
    with Database(arguments={"prepared_statement_cache_size": 2}) as database:
        for _ in range(2):
            database.run(repeat)


def unprepared(client):
    if PSYCOPG2:
        raise NotApplicable("psycopg2 never prepares; `simple` is that")
    arguments = {"prepared_statement_cache_size": 0, "statement_cache_size": 0}
    with Database(arguments=arguments) as database:
        database.run(repeat)


def pipeline(client):
    """The ORM: units of work, eager loading, bulk inserts."""
    base, parent, child = model(client)

    def orm(connection):
        with Session(connection, future=True) as session:
            for number in range(5):
                made = parent(name="parent %d" % number)
                session.add(made)
                session.flush()
                session.add_all(child(parent_id=made.id, amount=n) for n in range(number))
            session.commit()
            found = session.execute(select(parent).options(selectinload(parent.children))
                                    .order_by(parent.id)).scalars().all()
            assert [len(p.children) for p in found] == [0, 1, 2, 3, 4]
            session.execute(sqlalchemy.insert(child), [{"amount": n} for n in range(300)])
            found[0].name = "renamed"
            session.commit()
            count = session.execute(select(sqlalchemy.func.count()).select_from(child)).scalar()
            assert count == 310
            session.add(parent(name="renamed"))
            try:
                session.commit()
                raise AssertionError("no error")
            except sqlalchemy.exc.IntegrityError as problem:
                client.see(code_of(problem))
                session.rollback()
            with session.begin_nested():
                session.delete(found[0])
            session.commit()

    with Database() as database:
        def ddl(action):
            return lambda connection: (action(connection), connection.commit())
        future = Database(future=True)
        with future:
            future.run(ddl(base.metadata.create_all))
            try:
                database.run(orm)
            finally:
                future.run(ddl(base.metadata.drop_all))


def copy(client):
    raise NotApplicable("SQLAlchemy has no COPY")


def errors(client):
    def work(connection):
        for _ in range(2):
            for statement, code in matrix.wrong_statements(client):
                message = expect(connection, code, statement)
                client.see(code, message)
                assert connection.execute(text("SELECT 1")).scalar() == 1
    with Database() as database:
        database.run(work, "AUTOCOMMIT")


def cancel(client):
    def work(connection):
        with connection.begin():
            connection.execute(text("SET LOCAL statement_timeout = 50"))
            client.see(expect(connection, "57014", "SELECT pg_sleep(60)"))
    with Database() as database:
        database.run(work)


def cursors(client):
    def work(connection):
        connection = connection.execution_options(stream_results=True, max_row_buffer=100)
        result = connection.execute(text("SELECT generate_series(1, 2000)"))
        assert sum(row[0] for row in result.yield_per(100)) == 2001000
        result = connection.execute(text("SELECT generate_series(1, 2000)"))
        assert result.fetchmany(10)[9][0] == 10
        result.close()
    with Database() as database:
        database.run(work)


def large(client):
    def work(connection):
        value = "x" * 2000000
        got = connection.execute(text("SELECT CAST(:v AS text)"), {"v": value}).scalar()
        assert got == value
        rows = connection.execute(text("SELECT n, repeat('y', 50) FROM generate_series(1, 10000) n"))
        assert sum(row[0] for row in rows) == 50005000
    with Database() as database:
        database.run(work)


def transactions(client):
    insert = text("INSERT INTO %s VALUES (:c, :n, 'x', 1)" % client.table)
    count = text("SELECT count(*) FROM %s WHERE client = %d" % (client.table, client.number))

    def values(number):
        return {"c": client.number, "n": number}

    def work(connection):
        with connection.begin():
            connection.execute(insert, values(1))
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            for _ in range(2):
                try:
                    with connection.begin_nested():
                        connection.execute(insert, values(2))
                        connection.execute(insert, values(1))
                except sqlalchemy.exc.IntegrityError as problem:
                    client.see(code_of(problem))
            with connection.begin_nested():
                connection.execute(insert, values(3))
            assert connection.execute(count).scalar() == 2
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == pid
        with connection.begin() as transaction:
            connection.execute(text("DELETE FROM %s WHERE client = :c" % client.table),
                               {"c": client.number})
            transaction.rollback()

    def serializable(connection):
        assert connection.execute(text("SHOW transaction_isolation")).scalar() == "serializable"
        assert connection.execute(count).scalar() == 2

    with Database(future=True) as database:
        database.run(work)
        database.run(serializable, "SERIALIZABLE")


def settings(client):
    def work(connection):
        with connection.begin():
            connection.execute(text("SET LOCAL work_mem = '7MB'"))
            assert connection.execute(text("SHOW work_mem")).scalar() == "7MB"
        with connection.begin():
            connection.execute(text("SET work_mem = '8MB'"))
        with connection.begin():
            kept = connection.execute(text("SHOW work_mem")).scalar()
            assert kept == ("8MB" if KEEPS_STATE else "4MB")
    name = {"application_name": "named by client"}
    arguments = name if PSYCOPG2 else {"server_settings": name}
    with Database(future=True, arguments=arguments) as database:
        database.run(work)


def notices(client):
    raise NotApplicable("it leaves notices to the driver below")


def listen(client):
    raise NotApplicable("it leaves LISTEN to the driver below")


def reconnects(client):
    with Database() as database:
        for number in range(5):
            got = database.run(lambda connection: connection.execute(
                text("SELECT CAST(:n AS int)"), {"n": number}).scalar())
            assert got == number


@once
def pool(client):
    def work_of(number):
        return lambda connection: connection.execute(
            text("SELECT CAST(:n AS int) + %d" % (number % 3)), {"n": number}).scalar()
    with Database(matrix.CONNECTIONS, pool_pre_ping=True) as database:
        got = database.gather([work_of(n) for n in range(60)])
        assert got == [n + n % 3 for n in range(60)]


def functions(client):
    raise NotApplicable("SQLAlchemy has no large objects")


if __name__ == "__main__":
    matrix.run("SQLAlchemy", "%s over %s" % (sqlalchemy.__version__, OVER), [
        simple, prepared, forced, unprepared, pipeline, copy, errors, cancel, cursors, large,
        transactions, settings, notices, listen, reconnects, pool, functions])
