# DBD::Pg over libpq: server-side statements from the second use on, asynchronous queries, COPY.
# Each client is a process of its own. See matrix.py for what is printed.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:async :pg_types);
use IO::Handle;

STDOUT->autoflush(1);
my $mode = $ENV{DRIVERS_MODE};
my $keeps_state = $mode ne 'transaction';
my $table = $ENV{DRIVERS_TABLE};
my %only = map { $_ => 1 } split /,/, $ENV{DRIVERS_ONLY} // '';
my ($scenario, $client);

sub see {
    return if $client != 0;
    my $text = join ' ', map { $_ // '-' } @_;
    $text =~ s/\n/ /g;
    print "see $scenario $text\n";
}

sub connect_to {
    my ($options, $more) = @_;
    my $address = "dbi:Pg:host=$ENV{PGHOST};port=$ENV{PGPORT};dbname=$ENV{PGDATABASE};"
        . "sslmode=disable" . ($more // '');
    return DBI->connect($address, $ENV{PGUSER}, $ENV{PGPASSWORD},
                        { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1,
                          %{ $options // {} } });
}

sub check {
    my ($right, @words) = @_;
    die join(' ', 'wrong:', (caller)[2], map { $_ // 'undef' } @words) . "\n" unless $right;
}

sub value {
    my ($db, $sql, @values) = @_;
    return ($db->selectrow_array($sql, undef, @values))[0];
}

sub failure {
    my ($code, $db, $work) = @_;
    my ($state, $text);
    # At once: what destroys statements on the way out is a statement of its own.
    local $db->{HandleError} = sub { ($text, $state) = ($_[0], $_[1]->state); 0 };
    my $fine = eval { $work->(); 1 };
    die "there was no error $code\n" if $fine;
    check(($state // $db->state) eq $code, $code, $state, $@);
    return $text;
}

my @wrong = (
    ['SELEC 1', '42601'], ['SELECT nonsense', '42703'], ['SELECT * FROM nowhere', '42P01'],
    ['SELECT 1/0', '22012'], ["SELECT 'x'::int", '22P02'], ['SELECT nothing()', '42883'],
    ["INSERT INTO {table} VALUES ({client}, 1, 'a', -1)", '23514'],
    ['INSERT INTO {table} VALUES ({client}, 1, NULL, 1)', '23502'],
    ["INSERT INTO {table} VALUES ({client}, 2, 'a', 1), ({client}, 2, 'a', 1)", '23505'],
    ["DO \$\$ BEGIN RAISE 'own words' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h'; END \$\$",
     'ZZ001'],
);

sub repeat {
    my ($db) = @_;
    my $kept = $db->prepare('SELECT ?::int * 2');
    for my $n (0 .. 39) {
        $kept->execute($n);
        check($kept->fetchrow_array == $n * 2);
        check(value($db, 'SELECT ?::int + ' . $n % 5, $n) == $n + $n % 5);
        failure('22012', $db, sub { value($db, 'SELECT 10 / ?::int', 0) }) if $n % 10 == 9;
    }
}

my %scenarios = (
    simple => sub {
        my $db = connect_to();
        check(value($db, 'SELECT 1') == 1);
        check($db->do("UPDATE $table SET amount = 1 WHERE false") eq '0E0');
        $db->do("SELECT 1; SELECT 'two'");
        my $row = $db->selectrow_arrayref("SELECT 'ü', NULL, 1.5");
        check($row->[2] == 1.5 && !defined $row->[1]);
        check($db->ping == 1);
    },
    prepared => sub { repeat(connect_to()) },
    forced => sub {
        my $db = connect_to();
        $db->{pg_switch_prepared} = 1; # at the first use
        repeat($db);
        $db->{pg_switch_prepared} = -1; # at the prepare already
        repeat($db);
        $db->begin_work;
        for my $n (0 .. 19) { # each is deallocated inside of the transaction
            my $one = $db->prepare("SELECT ?::int + $n");
            $one->execute(1);
            check($one->fetchrow_array == $n + 1);
            $one->finish;
        }
        check(value($db, 'SELECT 5') == 5);
        $db->commit;
    },
    unprepared => sub { repeat(connect_to({ pg_server_prepare => 0 })) },
    # Its asynchronous queries: the program goes on while one runs.
    pipeline => sub {
        my $db = connect_to();
        for my $n (0 .. 9) {
            my $one = $db->prepare('SELECT ?::int + pg_backend_pid() * 0', { pg_async => PG_ASYNC });
            $one->execute($n);
            check($db->pg_result == 1 && $one->fetchrow_array == $n);
        }
        my $one = $db->prepare('SELECT 1 / ?::int', { pg_async => PG_ASYNC });
        $one->execute(0);
        failure('22012', $db, sub { $db->pg_result });
        check(value($db, 'SELECT 1') == 1);
        my $insert = $db->prepare("INSERT INTO $table VALUES (?, ?, ?, ?)");
        $db->begin_work;
        my $count = $insert->execute_array({}, $client, [0 .. 199], 'row', [0 .. 199]);
        check($count == 200);
        $db->rollback;
    },
    copy => sub {
        my $db = connect_to();
        $db->begin_work;
        $db->do("COPY $table FROM STDIN");
        $db->pg_putcopydata("$client\t$_\tcopy $_\t$_\n") for 0 .. 2999;
        check($db->pg_putcopyend);
        $db->do("COPY (SELECT id FROM $table WHERE client = $client ORDER BY id) TO STDOUT");
        my ($line, @lines);
        push @lines, $line while $db->pg_getcopydata($line) >= 0;
        check(@lines == 3000 && $lines[2999] eq "2999\n");
        $db->rollback;
        $db->do("COPY $table FROM STDIN");
        $db->pg_putcopydata("not a number\n");
        see(failure('22P02', $db, sub { $db->pg_putcopyend }));
        check(value($db, 'SELECT 1') == 1);
    },
    errors => sub {
        for my $prepare (0, 1) {
            my $db = connect_to({ pg_server_prepare => $prepare });
            $db->{pg_switch_prepared} = 1;
            for my $pair (@wrong) {
                my ($sql, $code) = @$pair;
                $sql =~ s/\{table\}/$table/g;
                $sql =~ s/\{client\}/$client/g;
                see(failure($code, $db, sub { $db->do($sql) }));
                see(failure($code, $db, sub { $db->prepare($sql)->execute }));
                check(value($db, 'SELECT ?::int', 1) == 1);
            }
            $db->begin_work;
            failure('22012', $db, sub { value($db, 'SELECT 1/0') });
            see(failure('25P02', $db, sub { value($db, 'SELECT 1') }));
            check($db->ping == 4); # in a failed transaction
            $db->rollback;
            check(value($db, 'SELECT ?::int', 2) == 2);
        }
    },
    cancel => sub {
        my $db = connect_to({ PrintWarn => 1 });
        for my $turn (1, 2) {
            my $runs = 0;
            local $SIG{__WARN__} = sub { $runs = 1 };
            $db->begin_work;
            $db->do("DO \$\$ BEGIN RAISE NOTICE 'it runs'; PERFORM pg_sleep(60); END \$\$",
                    { pg_async => PG_ASYNC });
            # The request is sent once, and one that comes before the statement runs is lost.
            for (1 .. 3000) {
                check(!$db->pg_ready, 'ended by itself');
                last if $runs;
                select undef, undef, undef, 0.01;
            }
            check($runs, 'it never ran');
            check($db->pg_cancel, 'cancelled');
            $db->rollback;
            check(value($db, 'SELECT 1') == 1);
        }
        $db->begin_work;
        $db->do('SET LOCAL statement_timeout = 50');
        see(failure('57014', $db, sub { value($db, 'SELECT pg_sleep(?)', 60) }));
        $db->rollback;
    },
    cursors => sub {
        my $db = connect_to();
        $db->begin_work;
        $db->do('DECLARE many CURSOR FOR SELECT generate_series(1, 2000)');
        my $fetch = $db->prepare('FETCH 150 FROM many');
        my $sum = 0;
        while (1) {
            $fetch->execute;
            my $rows = $fetch->fetchall_arrayref;
            last if !@$rows;
            $sum += $_->[0] for @$rows;
        }
        check($sum == 2001000, $sum);
        $db->commit;
    },
    large => sub {
        my $db = connect_to();
        my $text = 'x' x 3000000;
        check(value($db, 'SELECT ?::text', $text) eq $text);
        my $sum = 0;
        my $rows = $db->selectall_arrayref(
            "SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n");
        $sum += $_->[0] for @$rows;
        check($sum == 200010000);
        check(length(value($db, "SELECT repeat('z', 5000000)")) == 5000000);
    },
    transactions => sub {
        my $db = connect_to();
        my $insert = $db->prepare("INSERT INTO $table VALUES ($client, ?, 'x', 1)");
        $db->begin_work;
        my $pid = value($db, 'SELECT pg_backend_pid()');
        $insert->execute(1);
        for my $turn (1 .. 3) {
            $db->pg_savepoint('one');
            see(failure('23505', $db, sub { $insert->execute(1) }));
            $db->pg_rollback_to('one');
        }
        $insert->execute(2);
        $db->pg_release('one');
        check(value($db, 'SELECT pg_backend_pid()') == $pid);
        $db->commit;
        $db->begin_work;
        $db->do('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY');
        check(value($db, 'SHOW transaction_isolation') eq 'serializable');
        failure('25006', $db, sub { $insert->execute(3) });
        $db->rollback;
        check($db->do("DELETE FROM $table WHERE client = ?", undef, $client) == 2);
    },
    settings => sub {
        my $db = connect_to(undef, ";application_name='named by client'");
        $db->begin_work;
        $db->do("SET LOCAL work_mem = '7MB'");
        check(value($db, 'SHOW work_mem') eq '7MB');
        $db->commit;
        check(value($db, 'SHOW work_mem') eq '4MB');
        $db->do("SET work_mem = '8MB'");
        check(value($db, 'SHOW work_mem') eq ($keeps_state ? '8MB' : '4MB'));
    },
    notices => sub {
        my $db = connect_to({ PrintWarn => 1 });
        my @heard;
        local $SIG{__WARN__} = sub { push @heard, $_[0] };
        $db->do("DO \$\$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END \$\$");
        check("@heard" =~ /one.*two/s, @heard);
    },
    listen => sub {
        die "n/a LISTEN belongs to a session\n" unless $keeps_state;
        my ($listener, $teller) = (connect_to(), connect_to());
        $listener->do("LISTEN $table");
        for my $turn (1 .. 3) {
            $teller->do("NOTIFY $table, '$turn'");
            my $heard;
            for (1 .. 300) {
                $heard = $listener->pg_notifies and last;
                select undef, undef, undef, 0.1;
            }
            check($heard && $heard->[2] eq $turn, $turn);
        }
    },
    reconnects => sub {
        for my $turn (0 .. 7) {
            my $db = connect_to();
            check(value($db, 'SELECT ?::int', $turn) == $turn);
            $db->disconnect;
        }
    },
    pool => sub { die "n/a DBD::Pg has no pool\n" },
    # Large objects: FunctionCall messages.
    functions => sub {
        my $db = connect_to();
        my $data = join '', map { chr($_ % 256) } 0 .. 99999;
        $db->begin_work;
        my $oid = $db->pg_lo_creat($db->{pg_INV_WRITE});
        my $made = $db->pg_lo_open($oid, $db->{pg_INV_WRITE});
        check($db->pg_lo_write($made, $data, length $data) == length $data);
        $db->commit;
        $db->begin_work;
        my $read = $db->pg_lo_open($oid, $db->{pg_INV_READ});
        my ($got, $piece) = ('', '');
        $got .= $piece while $db->pg_lo_read($read, $piece, 30000) > 0;
        check($got eq $data, length $got);
        check($db->pg_lo_unlink($oid));
        $db->commit;
        check(value($db, 'SELECT 1') == 1);
    },
);

# A child tells its end through a pipe: nothing, or a line.
sub start_client {
    my ($work) = @_;
    pipe my $here, my $there or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        my $fine = eval { $work->(); 1 };
        if (!$fine) {
            my $why = $@;
            print STDERR "$scenario: $why" if $why !~ /^n\/a /;
            $why = "fail $why" if $why !~ /^n\/a /;
            $why =~ s/\n+$//;
            $why =~ s/\n/ | /g;
            syswrite $there, $why;
        }
        exit 0;
    }
    close $there;
    return [$pid, $here];
}

print "driver DBD::Pg $DBD::Pg::VERSION\n";
for my $name (qw(simple prepared forced unprepared pipeline copy errors cancel cursors large
                 transactions settings notices listen reconnects pool functions)) {
    next if %only && !$only{$name};
    $scenario = $name;
    my @children;
    for my $n (0 .. ($name eq 'listen' ? 1 : $ENV{DRIVERS_CLIENTS}) - 1) {
        $client = $n;
        push @children, start_client($scenarios{$name});
    }
    my $outcome = '';
    for my $child (@children) {
        my $told = do { local $/; readline $child->[1] } // '';
        waitpid $child->[0], 0;
        $told = "fail the process ended with status $?" if $told eq '' && $? != 0;
        $outcome ||= $told;
    }
    my ($kind, $text) = split / /, $outcome, 2;
    print $outcome eq '' ? "ok $name\n" : "$kind $name " . ($text // '') . "\n";
}
