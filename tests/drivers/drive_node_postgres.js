'use strict';
// node-postgres: simple queries, unnamed statements with parameters, named statements.

const { Readable } = require('stream');
const { pipeline } = require('stream/promises');
const { text: textOf } = require('stream/consumers');
const pg = require('pg');
const Cursor = require('pg-cursor');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');
const { NotApplicable, assert, connections, failure, keepsState, run,
        wrongStatements } = require('./matrix');

async function withClient(work, options) {
    const client = new pg.Client(options);
    await client.connect();
    try {
        return await work(client);
    } finally {
        await client.end();
    }
}

async function value(db, ...query) {
    return Object.values((await db.query(...query)).rows[0])[0];
}

function fields(error) {
    return [error.code, error.severity, error.message, error.detail, error.hint, error.position,
            error.constraint, error.where, error.routine];
}

const scenarios = {
    simple: (client) => withClient(async (db) => {
        const several = await db.query('SELECT 1 AS one; SELECT 2 AS two');
        assert.deepStrictEqual(several.map((r) => r.rows[0]), [{ one: 1 }, { two: 2 }]);
        const row = (await db.query('SELECT $1::int + 1 AS sum, $2::text AS text, $3::bytea AS b',
                                    [41, 'ü', Buffer.from([0, 255])])).rows[0];
        assert.deepStrictEqual(row, { sum: 42, text: 'ü', b: Buffer.from([0, 255]) });
        const nothing = await db.query(`UPDATE ${client.table} SET amount = 1 WHERE false`);
        client.see(nothing.command, nothing.rowCount);
        assert.strictEqual((await db.query('')).rows.length, 0);
        const array = await db.query({ text: 'SELECT 1, 2', rowMode: 'array' });
        assert.deepStrictEqual(array.rows, [[1, 2]]);
    }),

    prepared: () => withClient(async (db) => {
        for (let turn = 0; turn < 60; turn++)
            assert.strictEqual(
                await value(db, `SELECT $1::int + ${turn % 5}`, [turn]), turn + turn % 5);
    }),

    // Named statements; all clients use the same names, for texts that differ.
    forced: (client) => withClient(async (db) => {
        for (let turn = 0; turn < 60; turn++) {
            const name = `named${turn % 5}`;
            const text = `SELECT $1::int + ${turn % 5} + ${client.number}`;
            assert.strictEqual(await value(db, { name, text, values: [turn] }),
                               turn + turn % 5 + client.number);
        }
        const broken = { name: 'broken', text: 'SELECT nowhere' };
        for (let turn = 0; turn < 3; turn++)
            assert.strictEqual((await failure(db.query(broken))).code, '42703');
        const again = { name: 'broken2', text: 'SELECT 10 / $1::int' };
        for (let turn = 0; turn < 10; turn++) {
            const divided = db.query({ ...again, values: [turn % 2] });
            if (turn % 2 === 0)
                assert.strictEqual((await failure(divided)).code, '22012');
            else
                assert.strictEqual(Object.values((await divided).rows[0])[0], 10);
        }
    }),

    unprepared: () => withClient(async (db) => {
        for (let turn = 0; turn < 60; turn++)
            assert.strictEqual(await value(db, `SELECT ${turn}`), turn);
    }),

    // Queries are queued, not awaited one by one.
    pipeline: () => withClient(async (db) => {
        const work = [];
        for (let turn = 0; turn < 100; turn++)
            work.push(value(db, { name: `q${turn % 3}`, text: `SELECT $1::int + ${turn % 3} AS x`,
                                  values: [turn] }));
        (await Promise.all(work)).forEach((x, turn) => assert.strictEqual(x, turn + turn % 3));
        const mixed = await Promise.allSettled([
            db.query('SELECT 1'), db.query('SELECT 1 / $1::int', [0]), db.query('SELECT nonsense'),
            db.query('SELECT 2')]);
        assert.deepStrictEqual(mixed.map((end) => end.status),
                               ['fulfilled', 'rejected', 'rejected', 'fulfilled']);
    }),

    copy: (client) => withClient(async (db) => {
        let lines = '';
        for (let n = 0; n < 3000; n++) lines += `${client.number}\t${n}\tcopy ${n}\t${n}\n`;
        await db.query('BEGIN');
        const into = `COPY ${client.table} FROM STDIN`;
        await pipeline(Readable.from([lines.slice(0, 10000), lines.slice(10000)]),
                       db.query(copyFrom(into)));
        const out = db.query(copyTo(`COPY (SELECT * FROM ${client.table} WHERE client = `
                                    + `${client.number} ORDER BY id) TO STDOUT`));
        assert.strictEqual(await textOf(out), lines);
        await db.query('ROLLBACK');
        const bad = await failure(pipeline(Readable.from(['not a number\n', lines]),
                                           db.query(copyFrom(into))));
        client.see(bad.code, bad.message, bad.where);
        assert.strictEqual(await value(db, 'SELECT 1'), 1);
    }),

    errors: (client) => withClient(async (db) => {
        for (const [text, code] of wrongStatements(client)) {
            for (const query of [text, { text, values: [] }, { text, name: `wrong ${code}` }]) {
                const error = await failure(db.query(query));
                assert.strictEqual(error.code, code, text);
                client.see(...fields(error));
                assert.strictEqual(await value(db, 'SELECT $1::int', [1]), 1);
            }
        }
        const count = await failure(db.query('SELECT $1::int', [1, 2]));
        client.see(count.code);
        assert.strictEqual((await failure(db.query('SELECT $1::int', ['x']))).code, '22P02');
        await db.query('BEGIN');
        assert.strictEqual((await failure(db.query('SELECT 1/0'))).code, '22012');
        client.see((await failure(db.query('SELECT $1::int', [1]))).message);
        await db.query('ROLLBACK');
        assert.strictEqual(await value(db, 'SELECT 3'), 3);
    }),

    // The driver has no public way to cancel; this is what libraries above it do.
    cancel: (client) => withClient(async (db) => {
        for (let turn = 0; turn < 2; turn++) {
            const sleep = db.query('SELECT pg_sleep($1)', [60]);
            let over = false;
            const canceller = (async () => {
                while (!over) {
                    await new Promise((resolve) => setTimeout(resolve, 50));
                    await new Promise((resolve) => {
                        const other = new pg.Connection({ ssl: false });
                        other.on('connect', () => other.cancel(db.processID, db.secretKey));
                        other.on('error', resolve);
                        other.on('end', resolve);
                        other.connect(Number(process.env.PGPORT), process.env.PGHOST);
                    });
                }
            })();
            const error = await failure(sleep);
            over = true;
            await canceller;
            client.see(error.code, error.message);
            assert.strictEqual(error.code, '57014');
            assert.strictEqual(await value(db, 'SELECT 1'), 1);
        }
        await db.query('BEGIN; SET LOCAL statement_timeout = 50');
        client.see((await failure(db.query('SELECT pg_sleep(60)'))).message);
        await db.query('ROLLBACK');
    }),

    cursors: () => withClient(async (db) => {
        await db.query('BEGIN');
        const cursor = db.query(new Cursor('SELECT generate_series(1, $1::int) AS n', [2000]));
        let sum = 0;
        for (;;) {
            const rows = await cursor.read(150);
            if (rows.length === 0) break;
            rows.forEach((row) => { sum += row.n; });
        }
        assert.strictEqual(sum, 2001000);
        const unread = db.query(new Cursor('SELECT generate_series(1, 2000) AS n'));
        assert.strictEqual((await unread.read(10)).length, 10);
        await unread.close();
        await db.query('COMMIT');
        // Outside of a transaction: one implicit transaction, until the Sync of the close.
        const outside = db.query(new Cursor('SELECT generate_series(1, 2000) AS n'));
        assert.strictEqual((await outside.read(10)).length, 10);
        assert.strictEqual((await outside.read(10))[9].n, 20);
        await outside.close();
        const broken = db.query(new Cursor('SELECT 10 / (5 - n) FROM generate_series(1, 9) n'));
        assert.strictEqual((await broken.read(3)).length, 3);
        assert.strictEqual((await failure(broken.read(5))).code, '22012');
        assert.strictEqual(await value(db, 'SELECT 1'), 1);
    }),

    large: () => withClient(async (db) => {
        const text = 'x'.repeat(3000000);
        assert.strictEqual(await value(db, 'SELECT $1::text', [text]), text);
        const rows = (await db.query("SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n"))
            .rows;
        assert.strictEqual(rows.reduce((sum, row) => sum + row.n, 0), 200010000);
        assert.strictEqual((await value(db, "SELECT repeat('z', 5000000)")).length, 5000000);
    }),

    transactions: (client) => withClient(async (db) => {
        const insert = `INSERT INTO ${client.table} VALUES (${client.number}, $1, 'x', 1)`;
        const count = `SELECT count(*)::int FROM ${client.table} WHERE client = ${client.number}`;
        await db.query('BEGIN');
        const pid = await value(db, 'SELECT pg_backend_pid()');
        await db.query(insert, [1]);
        await db.query('SAVEPOINT one');
        const error = await failure(db.query(insert, [1]));
        client.see(error.code, error.constraint);
        await db.query('ROLLBACK TO one');
        await db.query({ name: 'insert', text: insert, values: [2] });
        assert.strictEqual(await value(db, 'SELECT pg_backend_pid()'), pid);
        await db.query('RELEASE one');
        await db.query('COMMIT');
        assert.strictEqual(await value(db, count), 2);
        await db.query('START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY');
        assert.strictEqual((await failure(db.query(insert, [3]))).code, '25006');
        await db.query('ROLLBACK');
        const gone = await db.query(`DELETE FROM ${client.table} WHERE client = $1`,
                                    [client.number]);
        assert.strictEqual(gone.rowCount, 2);
    }),

    settings: () => withClient(async (db) => {
        await db.query('BEGIN');
        await db.query("SET LOCAL work_mem = '7MB'");
        assert.strictEqual(await value(db, 'SHOW work_mem'), '7MB');
        await db.query('COMMIT');
        assert.strictEqual(await value(db, 'SHOW work_mem'), '4MB');
        await db.query("SET work_mem = '8MB'");
        assert.strictEqual(await value(db, 'SHOW work_mem'), keepsState ? '8MB' : '4MB');
    }, { application_name: 'named by client' }),

    notices: (client) => withClient(async (db) => {
        const heard = [];
        db.on('notice', (notice) => heard.push(notice.message));
        await db.query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
        assert.deepStrictEqual(heard, ['one', 'two']);
        client.see(...heard);
    }),

    listen: (client) => {
        if (!keepsState) return Promise.reject(new NotApplicable('LISTEN belongs to a session'));
        return withClient((listener) => withClient(async (teller) => {
            await listener.query(`LISTEN ${client.channel}`);
            for (let turn = 0; turn < 3; turn++) {
                const heard = new Promise((resolve) => listener.once('notification', resolve));
                await teller.query('SELECT pg_notify($1, $2)', [client.channel, String(turn)]);
                assert.strictEqual((await heard).payload, String(turn));
            }
        }));
    },

    reconnects: async () => {
        for (let turn = 0; turn < 8; turn++)
            await withClient(async (db) => assert.strictEqual(
                await value(db, 'SELECT $1::int', [turn]), turn));
    },

    pool: async () => {
        const pool = new pg.Pool({ max: connections });
        const work = [];
        for (let turn = 0; turn < 300; turn++)
            work.push(value(pool, { name: `s${turn % 7}`, text: `SELECT $1::int + ${turn % 7}`,
                                    values: [turn] }));
        (await Promise.all(work)).forEach((x, turn) => assert.strictEqual(x, turn + turn % 7));
        await pool.end();
    },

    functions: () => Promise.reject(new NotApplicable('node-postgres has no large objects')),
};

run('node-postgres', require('pg/package.json').version, scenarios, ['listen', 'pool']);
