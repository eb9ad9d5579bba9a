'use strict';
// postgres.js: everything is pipelined, and prepared under names unless told otherwise.

const { Readable } = require('stream');
const { pipeline } = require('stream/promises');
const { text: textOf } = require('stream/consumers');
const postgres = require('postgres');
const { NotApplicable, assert, connections, failure, keepsState, run,
        wrongStatements } = require('./matrix');

async function withSql(work, options) {
    const heard = [];
    const sql = postgres({ max: 1, ssl: false, onnotice: (notice) => heard.push(notice),
                           ...options });
    try {
        return await work(sql, heard);
    } finally {
        await sql.end({ timeout: 30 });
    }
}

function fields(error) {
    return [error.code, error.severity, error.message, error.detail, error.hint, error.position,
            error.constraint_name, error.where, error.routine];
}

async function repeat(sql) {
    for (let turn = 0; turn < 40; turn++) {
        assert.strictEqual((await sql`SELECT ${turn}::int + 1 AS x`)[0].x, turn + 1);
        assert.strictEqual((await sql.unsafe(`SELECT $1::int + ${turn % 5} AS x`, [turn],
                                             { prepare: true }))[0].x, turn + turn % 5);
    }
}

const scenarios = {
    simple: (client) => withSql(async (sql) => {
        const several = await sql`SELECT 1 AS one; SELECT 2 AS two`.simple();
        assert.deepStrictEqual(several.map((rows) => rows[0]), [{ one: 1 }, { two: 2 }]);
        const [row] = await sql`SELECT ${'ü'}::text AS t, ${sql.array([1, 2])}::int[] AS a,
                                       ${Buffer.from([0, 255])}::bytea AS b, ${null}::int AS n`;
        assert.deepStrictEqual({ ...row }, { t: 'ü', a: [1, 2], b: Buffer.from([0, 255]), n: null });
        const nothing = await sql`UPDATE ${sql(client.table)} SET amount = 1 WHERE false`;
        client.see(nothing.command, nothing.count);
    }),

    prepared: () => withSql(repeat),

    // A table changes under a statement that is kept.
    forced: (client) => withSql(async (sql) => {
        const table = sql(`${client.table}_${client.number}`);
        await sql`CREATE TABLE ${table} (x int)`;
        try {
            for (let turn = 0; turn < 10; turn++)
                assert.strictEqual((await sql`INSERT INTO ${table} VALUES (${turn})`).count, 1);
            const described = await sql`SELECT x FROM ${table} WHERE x > ${3}`.describe();
            assert.deepStrictEqual(described.types, [23]);
            assert.strictEqual((await sql`SELECT x FROM ${table} WHERE x > ${3}`).length, 6);
        } finally {
            await sql`DROP TABLE ${table}`;
        }
        for (let turn = 0; turn < 10; turn++) {
            const divided = sql`SELECT 10 / ${turn % 2}::int AS x`;
            if (turn % 2 === 0)
                assert.strictEqual((await failure(divided)).code, '22012');
            else
                assert.strictEqual((await divided)[0].x, 10);
        }
    }),

    unprepared: () => withSql(repeat, { prepare: false }),

    pipeline: () => withSql(async (sql) => {
        const work = [];
        for (let turn = 0; turn < 200; turn++) work.push(sql`SELECT ${turn}::int AS x`);
        (await Promise.all(work)).forEach((rows, turn) => assert.strictEqual(rows[0].x, turn));
        const mixed = await Promise.allSettled([
            sql`SELECT 1`, sql`SELECT 1 / ${0}::int`, sql`SELECT nonsense`, sql`SELECT 2`,
            sql`SELECT 1 / 0`.simple(), sql`SELECT 3`]);
        assert.deepStrictEqual(mixed.map((end) => end.status), [
            'fulfilled', 'rejected', 'rejected', 'fulfilled', 'rejected', 'fulfilled']);
        const inside = await sql.begin((tx) => [tx`SELECT 1 AS x`, tx`SELECT 2 AS x`,
                                                tx`SELECT ${3}::int AS x`]);
        assert.deepStrictEqual(inside.map((rows) => rows[0].x), [1, 2, 3]);
    }),

    copy: (client) => withSql(async (sql) => {
        let lines = '';
        for (let n = 0; n < 3000; n++) lines += `${client.number}\t${n}\tcopy ${n}\t${n}\n`;
        const table = sql(client.table);
        await pipeline(Readable.from([lines.slice(0, 10000), lines.slice(10000)]),
                       await sql`COPY ${table} FROM STDIN`.writable());
        const out = await sql.unsafe(`COPY (SELECT * FROM ${client.table} WHERE client = `
                                     + `${client.number} ORDER BY id LIMIT 300) TO STDOUT`).readable();
        // A few rows only: the driver stops reading for good when much is left at the end.
        const end = lines.indexOf(`${client.number}\t300\t`);
        assert.strictEqual(await textOf(out), lines.slice(0, end));
        await sql`DELETE FROM ${table} WHERE client = ${client.number}`;
    }),

    errors: (client) => withSql(async (sql) => {
        for (const [text, code] of wrongStatements(client)) {
            for (const query of [() => sql.unsafe(text), () => sql.unsafe(text, []),
                                 () => sql.unsafe(text, [], { prepare: true })]) {
                const error = await failure(query());
                assert.strictEqual(error.code, code, text);
                client.see(...fields(error));
                assert.strictEqual((await sql`SELECT ${1}::int AS x`)[0].x, 1);
            }
        }
        const error = await failure(sql.begin(async (tx) => {
            const first = await failure(tx`SELECT 1 / ${0}::int`);
            assert.strictEqual(first.code, '22012');
            await tx`SELECT 1`;
        }));
        client.see(error.code, error.message);
        assert.strictEqual((await sql`SELECT 3 AS x`)[0].x, 3);
    }),

    cancel: (client) => withSql(async (sql) => {
        // While the driver asks a new connection for its types, what it is to cancel is lost.
        await sql`SELECT 1`;
        for (let turn = 0; turn < 2; turn++) {
            const sleep = sql`SELECT pg_sleep(${60})`.execute();
            let over = false;
            const ended = failure(sleep).finally(() => { over = true; });
            // What cancel() does, which works once: a request that comes before the statement runs
            // is lost. The promise is kept when the request has been dealt with.
            const request = sleep.canceller;
            while (!over) {
                await new Promise((resolve) => setTimeout(resolve, 50));
                if (sleep.active) await request(sleep);
            }
            const error = await ended;
            client.see(error.message);
            assert.strictEqual(error.code, '57014');
            assert.strictEqual((await sql`SELECT 1 AS x`)[0].x, 1);
        }
        const error = await failure(sql.begin(async (tx) => {
            await tx`SET LOCAL statement_timeout = 50`;
            await tx`SELECT pg_sleep(60)`;
        }));
        client.see(error.code, error.message);
    }),

    cursors: () => withSql(async (sql) => {
        let sum = 0;
        await sql`SELECT generate_series(1, ${2000}::int) AS n`.cursor(150, (rows) => {
            rows.forEach((row) => { sum += row.n; });
        });
        assert.strictEqual(sum, 2001000);
        let seen = 0;
        for await (const rows of sql`SELECT generate_series(1, 2000) AS n`.cursor(10)) {
            seen += rows.length;
            if (seen === 30) break;
        }
        assert.strictEqual(seen, 30);
        await sql.begin(async (tx) => {
            sum = 0;
            await tx`SELECT generate_series(1, 100) AS n`.cursor(7, (rows) => {
                rows.forEach((row) => { sum += row.n; });
            });
            assert.strictEqual(sum, 5050);
            assert.strictEqual((await tx`SELECT 1 AS x`)[0].x, 1);
        });
        const broken = sql`SELECT 10 / (5 - n) FROM generate_series(1, 9) n`;
        assert.strictEqual((await failure(broken.cursor(3, () => {}))).code, '22012');
        await sql`SELECT generate_series(1, 100) AS n`.forEach((row) => { sum -= row.n; });
        assert.strictEqual(sum, 0);
    }),

    large: () => withSql(async (sql) => {
        const text = 'x'.repeat(3000000);
        assert.strictEqual((await sql`SELECT ${text}::text AS t`)[0].t, text);
        const rows = await sql`SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n`;
        assert.strictEqual(rows.reduce((sum, row) => sum + row.n, 0), 200010000);
        assert.strictEqual((await sql`SELECT repeat('z', 5000000) AS z`)[0].z.length, 5000000);
    }),

    transactions: (client) => withSql(async (sql) => {
        const table = sql(client.table);
        const insert = (tx, n) => tx`INSERT INTO ${table} VALUES (${client.number}, ${n}, 'x', 1)`;
        await sql.begin(async (tx) => {
            const pid = async () => (await tx`SELECT pg_backend_pid() AS pid`)[0].pid;
            const before = await pid();
            await insert(tx, 1);
            for (let turn = 0; turn < 2; turn++) {
                const error = await failure(tx.savepoint(async (inner) => {
                    await insert(inner, 2);
                    await insert(inner, 1);
                }));
                client.see(error.code, error.constraint_name);
            }
            await tx.savepoint((inner) => insert(inner, 3));
            assert.strictEqual(await pid(), before);
        });
        await sql.begin('isolation level serializable read only', async (tx) => {
            const [found] = await tx`SELECT count(*)::int AS n FROM ${table}
                                     WHERE client = ${client.number}`;
            assert.strictEqual(found.n, 2);
        });
        await failure(sql.begin(async (tx) => {
            await tx`DELETE FROM ${table} WHERE client = ${client.number}`;
            throw new Error('rolled back');
        }));
        const gone = await sql`DELETE FROM ${table} WHERE client = ${client.number}`;
        assert.strictEqual(gone.count, 2);
    }),

    settings: () => withSql(async (sql) => {
        const shown = async (db) => (await db`SHOW work_mem`)[0].work_mem;
        assert.strictEqual(sql.parameters.application_name || 'named by client',
                           'named by client');
        await sql.begin(async (tx) => {
            await tx`SET LOCAL work_mem = '7MB'`;
            assert.strictEqual(await shown(tx), '7MB');
        });
        assert.strictEqual(await shown(sql), '4MB');
        await sql`SET work_mem = '8MB'`;
        assert.strictEqual(await shown(sql), keepsState ? '8MB' : '4MB');
    }, { connection: { application_name: 'named by client' } }),

    notices: (client) => withSql(async (sql, heard) => {
        await sql`DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$`;
        assert.deepStrictEqual(heard.map((notice) => notice.message), ['one', 'two']);
        client.see(...heard.map((notice) => notice.message));
    }),

    listen: (client) => {
        if (!keepsState) return Promise.reject(new NotApplicable('LISTEN belongs to a session'));
        return withSql(async (sql) => {
            const heard = [];
            let wake;
            await sql.listen(client.channel, (payload) => {
                heard.push(payload);
                if (wake) wake();
            });
            for (let turn = 0; turn < 3; turn++) {
                const next = new Promise((resolve) => { wake = resolve; });
                await sql.notify(client.channel, String(turn));
                await next;
            }
            assert.deepStrictEqual(heard, ['0', '1', '2']);
        });
    },

    reconnects: async () => {
        for (let turn = 0; turn < 8; turn++)
            await withSql(async (sql) => assert.strictEqual(
                (await sql`SELECT ${turn}::int AS x`)[0].x, turn));
    },

    pool: () => withSql(async (sql) => {
        const work = [];
        for (let turn = 0; turn < 300; turn++)
            work.push(sql.unsafe(`SELECT $1::int + ${turn % 7} AS x`, [turn], { prepare: true }));
        (await Promise.all(work)).forEach((r, turn) => assert.strictEqual(r[0].x, turn + turn % 7));
        const reserved = await sql.reserve();
        assert.strictEqual((await reserved`SELECT 1 AS x`)[0].x, 1);
        reserved.release();
    }, { max: connections }),

    functions: () => Promise.reject(new NotApplicable('its large objects are SQL functions')),
};

// It is an ES module with a CommonJS twin, and tells its version in its package file only.
const version = JSON.parse(require('fs').readFileSync(
    require.resolve('postgres').replace(/\/cjs\/.*|\/src\/.*/, '/package.json'))).version;

run('postgres.js', version, scenarios, ['listen', 'pool']);
