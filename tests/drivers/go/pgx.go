package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgconn/stmtcache"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

// pgx: extended protocol, binary, statements prepared and kept by default.
var pgxScenarios = []*scenario{
	{"simple", false, pgxSimple}, {"prepared", false, pgxPrepared},
	{"forced", false, pgxForced}, {"unprepared", false, pgxUnprepared},
	{"pipeline", false, pgxPipeline}, {"copy", false, pgxCopy}, {"errors", false, pgxErrors},
	{"cancel", false, pgxCancel}, {"cursors", false, pgxCursors}, {"large", false, pgxLarge},
	{"transactions", false, pgxTransactions}, {"settings", false, pgxSettings},
	{"notices", false, pgxNotices}, {"listen", true, pgxListen},
	{"reconnects", false, pgxReconnects}, {"pool", true, pgxPool},
	{"functions", false, pgxFunctions},
}

var always = context.Background()

func pgxConnect(change func(config *pgx.ConnConfig)) *pgx.Conn {
	config, err := pgx.ParseConfig(address)
	must(err)
	if change != nil {
		change(config)
	}
	db, err := pgx.ConnectConfig(always, config)
	must(err)
	return db
}

type pgxQueryer interface {
	QueryRow(ctx context.Context, sql string, args ...interface{}) pgx.Row
}

func pgxInt(db pgxQueryer, sql string, args ...interface{}) int {
	var value int
	must(db.QueryRow(always, sql, args...).Scan(&value))
	return value
}

func pgxText(db pgxQueryer, sql string, args ...interface{}) string {
	var value string
	must(db.QueryRow(always, sql, args...).Scan(&value))
	return value
}

func pgxFails(code string, err error) *pgconn.PgError {
	var told *pgconn.PgError
	check(errors.As(err, &told) && told.Code == code, "expected", code, "got", err)
	return told
}

func pgxSee(c *client, e *pgconn.PgError) {
	c.see(e.Code, e.Severity, e.Message, e.Detail, e.Hint, e.Position, e.ConstraintName, e.Where)
}

func pgxExec(db *pgx.Conn, sql string, args ...interface{}) error {
	_, err := db.Exec(always, sql, args...)
	return err
}

func pgxSimple(c *client) {
	db := pgxConnect(func(config *pgx.ConnConfig) { config.PreferSimpleProtocol = true })
	defer db.Close(always)
	results, err := db.PgConn().Exec(always, "SELECT 1; SELECT 'two'").ReadAll()
	must(err)
	check(len(results) == 2 && string(results[1].Rows[0][0]) == "two")
	tag, err := db.Exec(always, "UPDATE "+table+" SET amount = 1 WHERE false")
	must(err)
	c.see(string(tag))
	must(pgxExec(db, ";"))
	must(pgxExec(db, ""))
	for n := 0; n < 30; n++ {
		check(pgxInt(db, "SELECT $1::int + 1", n) == n+1)
	}
	check(pgxText(db, "SELECT $1::text", "ü'\\") == "ü'\\")
}

func pgxRepeat(db *pgx.Conn) {
	for n := 0; n < 40; n++ {
		check(pgxInt(db, fmt.Sprintf("SELECT $1::int + %d", n%5), n) == n+n%5)
		check(pgxText(db, "SELECT $1::text || 'x'", fmt.Sprint(n)) == fmt.Sprint(n, "x"))
		if n%10 == 9 {
			var none int
			pgxFails("22012", db.QueryRow(always, "SELECT 10 / $1::int", 0).Scan(&none))
		}
	}
}

func pgxPrepared(c *client) {
	db := pgxConnect(nil)
	defer db.Close(always)
	pgxRepeat(db)
	for n := 0; n < 3; n++ {
		// All clients use this name, each for a text of its own.
		_, err := db.Prepare(always, "named", fmt.Sprintf("SELECT %d + $1::int", c.number))
		must(err)
		check(pgxInt(db, "named", n) == c.number+n)
		must(db.Deallocate(always, "named"))
		pgxDeallocate(db)
	}
}

func pgxForced(c *client) {
	db := pgxConnect(func(config *pgx.ConnConfig) {
		config.BuildStatementCache = func(conn *pgconn.PgConn) stmtcache.Cache {
			return stmtcache.New(conn, stmtcache.ModePrepare, 3) // so that it deallocates, too
		}
	})
	defer db.Close(always)
	pgxRepeat(db)
	must(db.BeginFunc(always, func(tx pgx.Tx) error {
		for n := 0; n < 20; n++ {
			check(pgxInt(tx, fmt.Sprintf("SELECT $1::int + %d", n%7), n) == n+n%7)
		}
		return nil
	}))
}

func pgxUnprepared(c *client) {
	for _, kind := range []int{stmtcache.ModeDescribe, -1} {
		db := pgxConnect(func(config *pgx.ConnConfig) {
			config.BuildStatementCache = nil
			if kind >= 0 {
				config.BuildStatementCache = func(conn *pgconn.PgConn) stmtcache.Cache {
					return stmtcache.New(conn, kind, 100)
				}
			}
		})
		pgxRepeat(db)
		db.Close(always)
	}
}

func pgxPipeline(c *client) {
	db := pgxConnect(nil)
	defer db.Close(always)
	for turn := 0; turn < 3; turn++ {
		batch := &pgx.Batch{}
		for n := 0; n < 100; n++ {
			batch.Queue(fmt.Sprintf("SELECT $1::int + %d", n%3), n)
		}
		results := db.SendBatch(always, batch)
		for n := 0; n < 100; n++ {
			var value int
			must(results.QueryRow().Scan(&value))
			check(value == n+n%3)
		}
		must(results.Close())
		broken := &pgx.Batch{}
		broken.Queue("INSERT INTO "+table+" VALUES ($1, 1, 'x', 1)", c.number)
		broken.Queue("SELECT 10 / $1::int", 0)
		broken.Queue("SELECT 3")
		results = db.SendBatch(always, broken)
		_, err := results.Exec()
		must(err)
		_, err = results.Exec()
		pgxSee(c, pgxFails("22012", err))
		results.Close()
		check(pgxInt(db, "SELECT count(*) FROM "+table+" WHERE client = $1", c.number) == 0)
	}
}

func pgxCopy(c *client) {
	db := pgxConnect(nil)
	defer db.Close(always)
	tx, err := db.Begin(always)
	must(err)
	var rows [][]interface{}
	for n := 0; n < 3000; n++ {
		rows = append(rows, []interface{}{c.number, n, fmt.Sprint("copy ", n), n})
	}
	columns := []string{"client", "id", "label", "amount"}
	count, err := tx.CopyFrom(always, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
	must(err)
	check(count == 3000)
	var out bytes.Buffer
	_, err = db.PgConn().CopyTo(always, &out, fmt.Sprintf(
		"COPY (SELECT id FROM %s WHERE client = %d ORDER BY id) TO STDOUT", table, c.number))
	must(err)
	check(strings.Count(out.String(), "\n") == 3000)
	must(tx.Rollback(always))
	bad := strings.NewReader("not a number\n" + strings.Repeat("1\t2\tx\t3\n", 50000))
	_, err = db.PgConn().CopyFrom(always, bad, "COPY "+table+" FROM STDIN")
	pgxSee(c, pgxFails("22P02", err))
	check(pgxInt(db, "SELECT 1") == 1)
	rows[7][0] = "not a number"
	_, err = db.CopyFrom(always, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
	check(err != nil)
	check(pgxInt(db, "SELECT 1") == 1)
}

func pgxErrors(c *client) {
	for _, plain := range []bool{false, true} {
		db := pgxConnect(func(config *pgx.ConnConfig) { config.PreferSimpleProtocol = plain })
		for _, pair := range c.wrongStatements() {
			pgxSee(c, pgxFails(pair[1], pgxExec(db, pair[0])))
			rows, err := db.Query(always, pair[0])
			if err == nil {
				rows.Close()
				err = rows.Err()
			}
			pgxFails(pair[1], err)
			check(pgxInt(db, "SELECT $1::int", 1) == 1)
		}
		must(pgxExec(db, "BEGIN"))
		pgxFails("22012", pgxExec(db, "SELECT 1/0"))
		for n := 0; n < 2; n++ {
			c.see(pgxFails("25P02", pgxExec(db, "SELECT $1::int", 1)).Message)
		}
		must(pgxExec(db, "ROLLBACK"))
		check(pgxInt(db, "SELECT $1::int", 2) == 2)
		db.Close(always)
	}
}

// A context that ends closes the connection; the request to cancel is a call of its own.
func pgxCancel(c *client) {
	db := pgxConnect(nil)
	for n := 0; n < 2; n++ {
		over := make(chan bool)
		var canceller sync.WaitGroup
		canceller.Add(1)
		go func() {
			defer canceller.Done()
			for {
				select {
				case <-over:
					return
				case <-time.After(50 * time.Millisecond):
					must(db.PgConn().CancelRequest(always))
				}
			}
		}()
		c.see(pgxFails("57014", pgxExec(db, "SELECT pg_sleep($1)", 60)).Message)
		close(over)
		canceller.Wait()
		check(pgxInt(db, "SELECT 1") == 1)
	}
	must(pgxExec(db, "BEGIN; SET LOCAL statement_timeout = 50"))
	pgxSee(c, pgxFails("57014", pgxExec(db, "SELECT pg_sleep(60)")))
	must(pgxExec(db, "ROLLBACK"))
	soon, free := context.WithTimeout(always, 100*time.Millisecond)
	defer free()
	_, err := db.Exec(soon, "SELECT pg_sleep(2)")
	check(err != nil && db.IsClosed(), err)
	<-db.PgConn().CleanupDone()
}

func pgxCursors(c *client) {
	db := pgxConnect(nil)
	defer db.Close(always)
	must(db.BeginFunc(always, func(tx pgx.Tx) error {
		_, err := tx.Exec(always, "DECLARE many CURSOR FOR SELECT generate_series(1, 2000)")
		must(err)
		sum := 0
		for {
			rows, err := tx.Query(always, "FETCH 150 FROM many")
			must(err)
			found := 0
			for rows.Next() {
				var value int
				must(rows.Scan(&value))
				sum += value
				found++
			}
			must(rows.Err())
			if found == 0 {
				break
			}
		}
		check(sum == 2001000)
		return nil
	}))
	rows, err := db.Query(always, "SELECT generate_series(1, 20000)")
	must(err)
	check(rows.Next())
	rows.Close() // it reads the rest
	check(pgxInt(db, "SELECT 1") == 1)
}

func pgxLarge(c *client) {
	db := pgxConnect(nil)
	defer db.Close(always)
	text := strings.Repeat("x", 3000000)
	check(pgxText(db, "SELECT $1::text", text) == text)
	rows, err := db.Query(always, "SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n")
	must(err)
	sum := 0
	for rows.Next() {
		var n int
		var y string
		must(rows.Scan(&n, &y))
		sum += n
	}
	must(rows.Err())
	check(sum == 200010000)
	check(len(pgxText(db, "SELECT repeat('z', 5000000)")) == 5000000)
}

func pgxTransactions(c *client) {
	db := pgxConnect(nil)
	defer db.Close(always)
	insert := fmt.Sprintf("INSERT INTO %s VALUES (%d, $1, 'x', 1)", table, c.number)
	must(db.BeginFunc(always, func(tx pgx.Tx) error {
		pid := pgxInt(tx, "SELECT pg_backend_pid()")
		_, err := tx.Exec(always, insert, 1)
		must(err)
		for n := 0; n < 3; n++ {
			err = tx.BeginFunc(always, func(inner pgx.Tx) error {
				_, err := inner.Exec(always, insert, 1)
				return err
			})
			pgxSee(c, pgxFails("23505", err))
		}
		must(tx.BeginFunc(always, func(inner pgx.Tx) error {
			_, err := inner.Exec(always, insert, 2)
			return err
		}))
		check(pgxInt(tx, "SELECT pg_backend_pid()") == pid)
		return nil
	}))
	options := pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}
	err := db.BeginTxFunc(always, options, func(tx pgx.Tx) error {
		check(pgxText(tx, "SHOW transaction_isolation") == "serializable")
		_, err := tx.Exec(always, insert, 3)
		return err
	})
	pgxFails("25006", err)
	tag, err := db.Exec(always, "DELETE FROM "+table+" WHERE client = $1", c.number)
	must(err)
	check(tag.RowsAffected() == 2)
}

func pgxSettings(c *client) {
	db := pgxConnect(func(config *pgx.ConnConfig) {
		config.RuntimeParams["application_name"] = "named by client"
	})
	defer db.Close(always)
	check(db.PgConn().ParameterStatus("application_name") == "named by client")
	must(db.BeginFunc(always, func(tx pgx.Tx) error {
		_, err := tx.Exec(always, "SET LOCAL work_mem = '7MB'")
		must(err)
		check(pgxText(tx, "SHOW work_mem") == "7MB")
		return nil
	}))
	check(pgxText(db, "SHOW work_mem") == "4MB")
	must(pgxExec(db, "SET work_mem = '8MB'"))
	kept := map[bool]string{true: "8MB", false: "4MB"}
	check(pgxText(db, "SHOW work_mem") == kept[keepsState])
	must(pgxExec(db, "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; "+
		"SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP"))
	check(pgxText(db, "SHOW work_mem") == "4MB")
}

func pgxNotices(c *client) {
	var heard []string
	db := pgxConnect(func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
			heard = append(heard, notice.Message)
		}
	})
	defer db.Close(always)
	must(pgxExec(db, "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$"))
	check(len(heard) == 2 && heard[1] == "two")
	c.see(heard)
}

func pgxListen(c *client) {
	if !keepsState {
		panic(notApplicable("LISTEN belongs to a session"))
	}
	listener, teller := pgxConnect(nil), pgxConnect(nil)
	defer listener.Close(always)
	defer teller.Close(always)
	must(pgxExec(listener, "LISTEN "+table))
	for n := 0; n < 3; n++ {
		must(pgxExec(teller, "SELECT pg_notify($1, $2)", table, fmt.Sprint(n)))
		limit, free := context.WithTimeout(always, 30*time.Second)
		heard, err := listener.WaitForNotification(limit)
		free()
		must(err)
		check(heard.Payload == fmt.Sprint(n))
	}
}

func pgxReconnects(c *client) {
	for n := 0; n < 8; n++ {
		db := pgxConnect(nil)
		check(pgxInt(db, "SELECT $1::int", n) == n)
		must(db.Close(always))
	}
}

func pgxPool(c *client) {
	config, err := pgxpool.ParseConfig(address)
	must(err)
	config.MaxConns = int32(connections())
	pool, err := pgxpool.ConnectConfig(always, config)
	must(err)
	defer pool.Close()
	var all sync.WaitGroup
	answers := make([]int, 200)
	for n := range answers {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			answers[n] = -1
			if pool.QueryRow(always, fmt.Sprintf("SELECT $1::int + %d", n%3), n).Scan(
				&answers[n]) != nil {
				answers[n] = -1
			}
		}(n)
	}
	all.Wait()
	for n, answer := range answers {
		check(answer == n+n%3, n, answer)
	}
}

func pgxFunctions(c *client) {
	panic(notApplicable("its large objects are SQL functions"))
}

// The second time it is not there any more: an error without a pooler, success with one that does
// statements itself.
func pgxDeallocate(db *pgx.Conn) {
	err := pgxExec(db, `deallocate "named"`)
	if mode == "transaction" {
		must(err)
	} else {
		pgxFails("26000", err)
	}
}
