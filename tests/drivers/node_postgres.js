'use strict';
// What node-postgres does to a pooler. The address comes in PGHOST, PGPORT, PGUSER, PGPASSWORD and
// PGDATABASE; the argument is "transaction" or "session". Ends with status 0, or throws.

const assert = require('assert');
const { Client, Pool } = require('pg');

const mode = process.argv[2];

async function withClient(work) {
    const client = new Client();
    await client.connect();
    try {
        return await work(client);
    } finally {
        await client.end();
    }
}

async function simpleAndExtended() {
    await withClient(async (client) => {
        const simple = await client.query('SELECT 1 AS one; SELECT 2 AS two');
        assert.deepStrictEqual(simple.map((r) => r.rows[0]), [{ one: 1 }, { two: 2 }]);
        const extended = await client.query('SELECT $1::int + 1 AS sum, $2::text AS text',
                                            [41, 'ü']);
        assert.deepStrictEqual(extended.rows, [{ sum: 42, text: 'ü' }]);
    });
}

async function namedStatements() {
    await withClient(async (client) => {
        for (let turn = 0; turn < 10; turn++) {
            const named = { name: 'add', text: 'SELECT $1::int + 1 AS sum', values: [turn] };
            assert.strictEqual((await client.query(named)).rows[0].sum, turn + 1);
        }
    });
}

async function errorsAreErrors() {
    await withClient(async (client) => {
        await assert.rejects(client.query('SELECT nonsense'), { code: '42703' });
        await assert.rejects(client.query('SELECT $1::int', [1, 2]), { code: '08P01' });
        await assert.rejects(client.query('SELECT $1::int', ['x']), { code: '22P02' });
        assert.strictEqual((await client.query('SELECT 3 AS x')).rows[0].x, 3);
    });
}

async function transactions() {
    await withClient(async (client) => {
        await client.query('BEGIN');
        const before = await client.query('SELECT pg_backend_pid() AS pid');
        await assert.rejects(client.query('SELECT 1/0'), { code: '22012' });
        await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
        await client.query('ROLLBACK');
        await client.query('BEGIN');
        const first = await client.query('SELECT pg_backend_pid() AS pid');
        const second = await client.query('SELECT pg_backend_pid() AS pid');
        assert.strictEqual(first.rows[0].pid, second.rows[0].pid);
        await client.query('COMMIT');
        if (mode === 'session') assert.strictEqual(before.rows[0].pid, first.rows[0].pid);
    });
}

async function rapidConnections() {
    for (let turn = 0; turn < 30; turn++) {
        await withClient(async (client) => {
            assert.strictEqual((await client.query('SELECT $1::int AS x', [turn])).rows[0].x, turn);
        });
    }
}

async function manyAtOnce() {
    // A session pool of four backends serves four sessions, and no fifth.
    const pool = new Pool({ max: mode === 'session' ? 3 : 10 });
    const work = [];
    for (let turn = 0; turn < 300; turn++) {
        work.push(pool.query({ name: `s${turn % 7}`, text: `SELECT $1::int + ${turn % 7} AS x`,
                               values: [turn] }));
    }
    const results = await Promise.all(work);
    results.forEach((result, turn) => assert.strictEqual(result.rows[0].x, turn + turn % 7));
    await pool.end();
}

async function largeValues() {
    await withClient(async (client) => {
        const text = 'x'.repeat(5000000);
        assert.strictEqual((await client.query('SELECT $1::text AS t', [text])).rows[0].t, text);
    });
}

(async () => {
    for (const test of [simpleAndExtended, namedStatements, errorsAreErrors, transactions,
                        rapidConnections, manyAtOnce, largeValues]) {
        await test();
        console.log('ok', test.name);
    }
})().catch((error) => {
    console.error(error);
    process.exit(1);
});
