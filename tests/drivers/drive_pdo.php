<?php
// PDO over libpq: prepared statements at the server by default, or emulated. Each client is a
// process of its own. See matrix.py for what is printed.

$mode = getenv('DRIVERS_MODE');
$clients = (int) getenv('DRIVERS_CLIENTS');
$only = array_filter(explode(',', getenv('DRIVERS_ONLY') ?: ''));
define('KEEPS_STATE', $mode !== 'transaction');

class NotApplicable extends Exception {}

class Client
{
    public string $table;

    public function __construct(public string $scenario, public int $number)
    {
        $this->table = getenv('DRIVERS_TABLE');
    }

    public function see(...$words): void
    {
        if ($this->number === 0)
            echo "see $this->scenario ", strtr(implode(' ', $words), "\n", ' '), "\n";
    }
}

const WRONG = [
    ['SELEC 1', '42601'], ['SELECT nonsense', '42703'], ['SELECT * FROM nowhere', '42P01'],
    ['SELECT 1/0', '22012'], ["SELECT 'x'::int", '22P02'], ['SELECT nothing()', '42883'],
    ["INSERT INTO {table} VALUES ({client}, 1, 'a', -1)", '23514'],
    ['INSERT INTO {table} VALUES ({client}, 1, NULL, 1)', '23502'],
    ["INSERT INTO {table} VALUES ({client}, 2, 'a', 1), ({client}, 2, 'a', 1)", '23505'],
    ["DO $$ BEGIN RAISE 'own words' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h'; END $$",
     'ZZ001'],
];

function connect(array $options = [], string $more = ''): PDO
{
    $address = sprintf('pgsql:host=%s;port=%s;dbname=%s;sslmode=disable%s', getenv('PGHOST'),
                       getenv('PGPORT'), getenv('PGDATABASE'), $more);
    return new PDO($address, getenv('PGUSER'), getenv('PGPASSWORD'), $options + [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    ]);
}

function check(bool $right, ...$words): void
{
    if (!$right)
        throw new Exception('wrong: ' . json_encode($words));
}

function value(PDO $db, string $sql, array $values = [])
{
    if ($values === [])
        return $db->query($sql)->fetchColumn();
    $statement = $db->prepare($sql);
    $statement->execute($values);
    return $statement->fetchColumn();
}

function failure(string $code, callable $work): PDOException
{
    try {
        $work();
    } catch (PDOException $problem) {
        check($problem->errorInfo[0] === $code, $code, $problem->errorInfo);
        return $problem;
    }
    throw new Exception("there was no error $code");
}

function repeat(PDO $db): void
{
    $kept = $db->prepare('SELECT :n::int * 2');
    for ($n = 0; $n < 40; $n++) {
        $kept->execute(['n' => $n]);
        check($kept->fetchColumn() === $n * 2);
        check(value($db, 'SELECT ?::int + ' . $n % 5, [$n]) === $n + $n % 5);
        if ($n % 10 === 9)
            failure('22012', fn() => value($db, 'SELECT 10 / ?::int', [0]));
    }
}

$scenarios = [
    'simple' => function (Client $client) {
        $db = connect();
        check(value($db, 'SELECT 1') === 1);
        check($db->exec("SELECT 1; UPDATE $client->table SET amount = 1 WHERE false") === 0);
        $row = $db->query("SELECT 'ü', NULL, true, 1.5")->fetch(PDO::FETCH_NUM);
        check($row === ['ü', null, true, '1.5'], $row);
        check($db->getAttribute(PDO::ATTR_SERVER_VERSION) !== '');
    },
    'prepared' => function (Client $client) {
        repeat(connect());
    },
    'forced' => function (Client $client) {
        // A connection that is kept from one request to the next.
        for ($turn = 0; $turn < 2; $turn++) {
            $db = connect([PDO::ATTR_PERSISTENT => true]);
            repeat($db);
            $db->beginTransaction();
            $statements = [];
            for ($n = 0; $n < 20; $n++) {
                $statements[$n] = $db->prepare("SELECT ?::int + $n");
                $statements[$n]->execute([1]);
                check($statements[$n]->fetchColumn() === $n + 1);
            }
            unset($statements); // DEALLOCATE for each
            check($db->inTransaction());
            check(value($db, 'SELECT ?::int', [5]) === 5);
            $db->commit();
        }
    },
    'unprepared' => function (Client $client) {
        repeat(connect([PDO::ATTR_EMULATE_PREPARES => true]));
        repeat(connect([PDO::PGSQL_ATTR_DISABLE_PREPARES => true]));
    },
    'pipeline' => function (Client $client) {
        throw new NotApplicable('PDO has neither pipelines nor batches');
    },
    'copy' => function (Client $client) {
        $db = connect();
        $rows = [];
        for ($n = 0; $n < 3000; $n++)
            $rows[] = "$client->number\t$n\tcopy $n\t$n";
        $db->beginTransaction();
        check($db->pgsqlCopyFromArray($client->table, $rows));
        check(value($db, "SELECT count(*) FROM $client->table WHERE client = ?",
                    [$client->number]) === 3000);
        $out = $db->pgsqlCopyToArray("(SELECT id FROM $client->table WHERE client = "
                                     . "$client->number ORDER BY id)");
        check($out === array_map(fn($n) => "$n\n", range(0, 2999)));
        $db->rollBack();
        $rows[5] = 'not a number';
        $problem = failure('22P02', fn() => $db->pgsqlCopyFromArray($client->table, $rows));
        $client->see($problem->getMessage());
        check(value($db, 'SELECT 1') === 1);
    },
    'errors' => function (Client $client) {
        foreach ([false, true] as $emulate) {
            $db = connect([PDO::ATTR_EMULATE_PREPARES => $emulate]);
            foreach (WRONG as [$sql, $code]) {
                $sql = strtr($sql, ['{table}' => $client->table, '{client}' => $client->number]);
                $client->see(failure($code, fn() => $db->exec($sql))->getMessage());
                $client->see(failure($code, fn() => $db->prepare($sql)->execute())->getMessage());
                check(value($db, 'SELECT ?::int', [1]) === 1);
            }
            $db->beginTransaction();
            failure('22012', fn() => value($db, 'SELECT 1/0'));
            $client->see(failure('25P02', fn() => value($db, 'SELECT 1'))->getMessage());
            $db->rollBack();
            check(value($db, 'SELECT ?::int', [2]) === 2);
        }
        if (KEEPS_STATE) { // an error does not cost the session its backend
            $pid = value($db, 'SELECT pg_backend_pid()');
            failure('42703', fn() => $db->query('SELECT nonsense'));
            check(value($db, 'SELECT pg_backend_pid()') === $pid);
        }
    },
    'cancel' => function (Client $client) {
        $db = connect();
        $db->beginTransaction();
        $db->exec('SET LOCAL statement_timeout = 50');
        $client->see(failure('57014', fn() => value($db, 'SELECT pg_sleep(?)', [60]))->getMessage());
        $db->rollBack();
        check(value($db, 'SELECT 1') === 1);
    },
    'cursors' => function (Client $client) {
        $db = connect();
        $db->beginTransaction();
        $many = $db->prepare('SELECT generate_series(1, 2000)',
                             [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        $many->execute();
        $sum = 0;
        while (($n = $many->fetchColumn()) !== false)
            $sum += $n;
        check($sum === 2001000);
        $many->closeCursor();
        $db->commit();
    },
    'large' => function (Client $client) {
        $db = connect();
        $text = str_repeat('x', 3000000);
        check(value($db, 'SELECT ?::text', [$text]) === $text);
        $sum = 0;
        foreach ($db->query("SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n") as $row)
            $sum += $row[0];
        check($sum === 200010000);
        check(strlen(value($db, "SELECT repeat('z', 5000000)")) === 5000000);
    },
    'transactions' => function (Client $client) {
        $db = connect();
        $insert = $db->prepare("INSERT INTO $client->table VALUES ($client->number, ?, 'x', 1)");
        $db->beginTransaction();
        $pid = value($db, 'SELECT pg_backend_pid()');
        $insert->execute([1]);
        for ($turn = 0; $turn < 3; $turn++) {
            $db->exec('SAVEPOINT one');
            $client->see(failure('23505', fn() => $insert->execute([1]))->getMessage());
            $db->exec('ROLLBACK TO one');
        }
        $insert->execute([2]);
        check(value($db, 'SELECT pg_backend_pid()') === $pid && $db->inTransaction());
        $db->commit();
        check(!$db->inTransaction());
        $db->beginTransaction();
        $db->exec('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY');
        check(value($db, 'SHOW transaction_isolation') === 'serializable');
        failure('25006', fn() => $insert->execute([3]));
        $db->rollBack();
        check($db->exec("DELETE FROM $client->table WHERE client = $client->number") === 2);
    },
    'settings' => function (Client $client) {
        $db = connect([], ";application_name='named by client'");
        $db->beginTransaction();
        $db->exec("SET LOCAL work_mem = '7MB'");
        check(value($db, 'SHOW work_mem') === '7MB');
        $db->commit();
        check(value($db, 'SHOW work_mem') === '4MB');
        $db->exec("SET work_mem = '8MB'");
        check(value($db, 'SHOW work_mem') === (KEEPS_STATE ? '8MB' : '4MB'));
    },
    'notices' => function (Client $client) {
        throw new NotApplicable('PDO of PHP 8.2 drops notices');
    },
    'listen' => function (Client $client) {
        if (!KEEPS_STATE)
            throw new NotApplicable('LISTEN belongs to a session');
        $listener = connect();
        $teller = connect();
        $listener->exec("LISTEN $client->table");
        for ($turn = 0; $turn < 3; $turn++) {
            $teller->exec("NOTIFY $client->table, '$turn'");
            $heard = $listener->pgsqlGetNotify(PDO::FETCH_NUM, 30000);
            check($heard !== false && $heard[2] === (string) $turn, $heard);
        }
    },
    'reconnects' => function (Client $client) {
        for ($turn = 0; $turn < 8; $turn++)
            check(value(connect(), 'SELECT ?::int', [$turn]) === $turn);
    },
    'pool' => function (Client $client) {
        throw new NotApplicable('PDO has no pool; `forced` has its persistent connections');
    },
    // Large objects: FunctionCall messages.
    'functions' => function (Client $client) {
        $db = connect();
        $data = random_bytes(300000);
        $db->beginTransaction();
        $oid = $db->pgsqlLOBCreate();
        $made = $db->pgsqlLOBOpen($oid, 'w');
        check(fwrite($made, $data) === strlen($data));
        $made = null;
        $db->commit();
        $db->beginTransaction();
        $read = $db->pgsqlLOBOpen($oid, 'r');
        check(stream_get_contents($read) === $data);
        $read = null;
        check($db->pgsqlLOBUnlink($oid));
        $db->commit();
        check(value($db, 'SELECT 1') === 1);
    },
];

// In a child: what became of it is one line to the parent, after what it saw.
function run_client(callable $scenario, Client $client): string
{
    try {
        $scenario($client);
        return '';
    } catch (NotApplicable $why) {
        return 'n/a ' . $why->getMessage();
    } catch (Throwable $problem) {
        fwrite(STDERR, $problem . "\n");
        return 'fail ' . strtr($problem->getMessage(), "\n", ' ');
    }
}

function start_client(callable $scenario, Client $client): array
{
    [$here, $there] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    $pid = pcntl_fork();
    if ($pid === 0) {
        fclose($here);
        fwrite($there, run_client($scenario, $client));
        exit(0);
    }
    fclose($there);
    return [$pid, $here];
}

echo 'driver PDO ', phpversion('pdo_pgsql'), "\n";
foreach ($scenarios as $name => $scenario) {
    if ($only !== [] && !in_array($name, $only))
        continue;
    $children = [];
    for ($n = 0; $n < ($name === 'listen' ? 1 : $clients); $n++)
        $children[] = start_client($scenario, new Client($name, $n));
    $outcome = '';
    foreach ($children as [$pid, $socket]) {
        $told = stream_get_contents($socket);
        pcntl_waitpid($pid, $status);
        if ($told === '' && $status !== 0)
            $told = "fail the process ended with status $status";
        $outcome = $outcome ?: $told;
    }
    if ($outcome === '')
        echo "ok $name\n";
    else {
        [$kind, $text] = explode(' ', $outcome, 2);
        echo "$kind $name $text\n";
    }
}
