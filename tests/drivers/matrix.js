'use strict';
// What the JavaScript programs of the drivers matrix share; see matrix.py for what is printed.

const assert = require('assert');

const mode = process.env.DRIVERS_MODE;
const clients = Number(process.env.DRIVERS_CLIENTS);
const backends = Number(process.env.DRIVERS_BACKENDS);
const only = (process.env.DRIVERS_ONLY || '').split(',').filter((name) => name !== '');

class NotApplicable extends Error {}

class Client {
    constructor(scenario, number) {
        this.scenario = scenario;
        this.number = number;
        this.table = process.env.DRIVERS_TABLE;
        this.channel = `${this.table}_${number}`;
    }

    see(...words) {
        if (this.number === 0)
            console.log('see', this.scenario, words.join(' ').replace(/\n/g, ' '));
    }
}

const wrong = [
    ['SELEC 1', '42601'], ['SELECT nonsense', '42703'], ['SELECT * FROM nowhere', '42P01'],
    ['SELECT 1/0', '22012'], ["SELECT 'x'::int", '22P02'], ['SELECT nothing()', '42883'],
    ["INSERT INTO {table} VALUES ({client}, 1, 'a', -1)", '23514'],
    ['INSERT INTO {table} VALUES ({client}, 1, NULL, 1)', '23502'],
    ["INSERT INTO {table} VALUES ({client}, 2, 'a', 1), ({client}, 2, 'a', 1)", '23505'],
    ["DO $$ BEGIN RAISE 'own words' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h'; END $$",
     'ZZ001'],
];

function wrongStatements(client) {
    return wrong.map(([text, code]) => [
        text.replaceAll('{table}', client.table).replaceAll('{client}', client.number), code]);
}

// What it rejects with, or a complaint.
async function failure(promise) {
    try {
        await promise;
    } catch (error) {
        return error;
    }
    throw new Error('there was no error');
}

function tell(name, problems) {
    if (problems.length === 0)
        console.log('ok', name);
    else if (problems[0] instanceof NotApplicable)
        console.log('n/a', name, problems[0].message);
    else {
        console.log('fail', name, String(problems[0]).replace(/\n/g, ' | '));
        console.error(problems[0]);
    }
}

// Scenarios by name; each is run by several clients at once, those in `once` by one.
async function run(driver, version, scenarios, once) {
    console.log('driver', driver, version);
    for (const [name, scenario] of Object.entries(scenarios)) {
        if (only.length > 0 && !only.includes(name)) continue;
        const all = [];
        for (let number = 0; number < (once.includes(name) ? 1 : clients); number++)
            all.push(scenario(new Client(name, number)));
        const ends = await Promise.allSettled(all);
        tell(name, ends.filter((end) => end.status === 'rejected').map((end) => end.reason));
    }
    process.exit(0);
}

module.exports = {
    NotApplicable, assert, failure, mode, run, wrongStatements,
    keepsState: mode !== 'transaction',
    connections: mode === 'session' ? backends : clients,
};
