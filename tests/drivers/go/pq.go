package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
)

// lib/pq under database/sql: simple protocol without parameters, unnamed statements with them.
var pqScenarios = []*scenario{
	{"simple", false, pqSimple}, {"prepared", false, pqPrepared}, {"forced", false, pqForced},
	{"unprepared", false, pqUnprepared}, {"pipeline", false, pqPipeline},
	{"copy", false, pqCopy}, {"errors", false, pqErrors}, {"cancel", false, pqCancel},
	{"cursors", false, pqCursors}, {"large", false, pqLarge},
	{"transactions", false, pqTransactions}, {"settings", false, pqSettings},
	{"notices", false, pqNotices}, {"listen", true, pqListen},
	{"reconnects", false, pqReconnects}, {"pool", true, pqPool},
	{"functions", false, pqFunctions},
}

// One connection at a time, kept.
func pqOpen(more string) *sql.DB {
	db, err := sql.Open("postgres", address+more)
	must(err)
	db.SetMaxOpenConns(1)
	return db
}

type pqQueryer interface {
	QueryRow(query string, args ...interface{}) *sql.Row
}

func pqInt(db pqQueryer, query string, args ...interface{}) int {
	var value int
	must(db.QueryRow(query, args...).Scan(&value))
	return value
}

func pqText(db pqQueryer, query string, args ...interface{}) string {
	var value string
	must(db.QueryRow(query, args...).Scan(&value))
	return value
}

type pqExecer interface {
	Exec(query string, args ...interface{}) (sql.Result, error)
}

func pqExec(db pqExecer, query string, args ...interface{}) error {
	_, err := db.Exec(query, args...)
	return err
}

func pqFails(code string, err error) *pq.Error {
	var told *pq.Error
	check(errors.As(err, &told) && string(told.Code) == code, "expected", code, "got", err)
	return told
}

func pqSee(c *client, e *pq.Error) {
	c.see(e.Code, e.Severity, e.Message, e.Detail, e.Hint, e.Position, e.Constraint, e.Where)
}

func pqSimple(c *client) {
	db := pqOpen("")
	defer db.Close()
	rows, err := db.Query("SELECT 1; SELECT 2")
	must(err)
	check(rows.Next() && !rows.Next() && rows.NextResultSet() && rows.Next())
	var two int
	must(rows.Scan(&two))
	check(two == 2)
	rows.Close()
	must(pqExec(db, ";"))
	must(pqExec(db, ""))
	for n := 0; n < 30; n++ {
		check(pqInt(db, fmt.Sprint("SELECT ", n)) == n)
		check(pqInt(db, "SELECT $1::int + 1", n) == n+1)
	}
	check(pqText(db, "SELECT $1::text", "ü'\\") == "ü'\\")
}

func pqPrepared(c *client) {
	db := pqOpen("")
	defer db.Close()
	one, err := db.Prepare(fmt.Sprintf("SELECT $1::int + %d", c.number))
	must(err)
	divided, err := db.Prepare("SELECT 10 / $1::int")
	must(err)
	for n := 0; n < 40; n++ {
		var value int
		must(one.QueryRow(n).Scan(&value))
		check(value == n+c.number)
		if n%10 == 9 {
			pqFails("22012", divided.QueryRow(0).Scan(&value))
		}
	}
	must(one.Close())
	must(divided.Close())
}

// Prepared, used and closed within transactions, again and again.
func pqForced(c *client) {
	db := pqOpen("")
	defer db.Close()
	for n := 0; n < 20; n++ {
		tx, err := db.Begin()
		must(err)
		statement, err := tx.Prepare(fmt.Sprintf("SELECT $1::int * %d", n%4))
		must(err)
		var value int
		must(statement.QueryRow(n).Scan(&value))
		check(value == n*(n%4))
		if n%2 == 0 {
			must(statement.Close())
		}
		must(tx.Commit())
	}
}

func pqUnprepared(c *client) {
	db := pqOpen(" binary_parameters=yes")
	defer db.Close()
	for n := 0; n < 40; n++ {
		check(pqInt(db, fmt.Sprintf("SELECT $1::int + %d", n%5), fmt.Sprint(n)) == n+n%5)
	}
}

func pqPipeline(c *client) {
	panic(notApplicable("lib/pq has neither pipelines nor batches"))
}

func pqCopy(c *client) {
	db := pqOpen("")
	defer db.Close()
	columns := []string{"client", "id", "label", "amount"}
	tx, err := db.Begin()
	must(err)
	into, err := tx.Prepare(pq.CopyIn(table, columns...))
	must(err)
	for n := 0; n < 3000; n++ {
		_, err = into.Exec(c.number, n, fmt.Sprint("copy ", n), n)
		must(err)
	}
	_, err = into.Exec()
	must(err)
	must(into.Close())
	check(pqInt(tx, "SELECT sum(amount) FROM "+table+" WHERE client = $1", c.number) == 4498500)
	must(tx.Rollback())

	tx, err = db.Begin()
	must(err)
	into, err = tx.Prepare(pq.CopyIn(table, columns...))
	must(err)
	for n := 0; n < 5 && err == nil; n++ {
		_, err = into.Exec("not a number", n, "x", n)
	}
	if err == nil {
		_, err = into.Exec()
	}
	pqSee(c, pqFails("22P02", err))
	into.Close()
	must(tx.Rollback())
	check(pqInt(db, "SELECT 1") == 1)
}

func pqErrors(c *client) {
	db := pqOpen("")
	defer db.Close()
	for _, pair := range c.wrongStatements() {
		pqSee(c, pqFails(pair[1], pqExec(db, pair[0])))
		pqFails(pair[1], func() error {
			statement, err := db.Prepare(pair[0])
			if err != nil {
				return err
			}
			defer statement.Close()
			_, err = statement.Exec()
			return err
		}())
		check(pqInt(db, "SELECT $1::int", 1) == 1)
	}
	tx, err := db.Begin()
	must(err)
	pqFails("22012", pqExec(tx, "SELECT 1/0"))
	for n := 0; n < 2; n++ {
		c.see(pqFails("25P02", pqExec(tx, "SELECT $1::int", 1)).Message)
	}
	must(tx.Rollback())
	check(pqInt(db, "SELECT $1::int", 2) == 2)
}

// A context that ends sends the request to cancel, once. If it comes before the statement runs, it
// is lost, and the statement ends as if nothing had been.
func pqCancel(c *client) {
	db := pqOpen("")
	defer db.Close()
	cancelled := 0
	for n := 0; n < 10 && cancelled < 3; n++ {
		soon, free := context.WithTimeout(always, 200*time.Millisecond)
		_, err := db.ExecContext(soon, "SELECT pg_sleep(5)")
		free()
		if err != nil {
			cancelled++
		}
		check(pqInt(db, "SELECT 1") == 1)
	}
	check(cancelled == 3, cancelled)
	tx, err := db.Begin()
	must(err)
	must(pqExec(tx, "SET LOCAL statement_timeout = 50"))
	pqSee(c, pqFails("57014", pqExec(tx, "SELECT pg_sleep(60)")))
	must(tx.Rollback())
}

func pqCursors(c *client) {
	db := pqOpen("")
	defer db.Close()
	tx, err := db.Begin()
	must(err)
	must(pqExec(tx, "DECLARE many CURSOR FOR SELECT generate_series(1, 2000)"))
	sum := 0
	for {
		rows, err := tx.Query("FETCH 150 FROM many")
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
	must(tx.Commit())
	rows, err := db.Query("SELECT generate_series(1, 20000)")
	must(err)
	check(rows.Next())
	must(rows.Close())
	check(pqInt(db, "SELECT 1") == 1)
}

func pqLarge(c *client) {
	db := pqOpen("")
	defer db.Close()
	text := strings.Repeat("x", 3000000)
	check(pqText(db, "SELECT $1::text", text) == text)
	check(pqInt(db, "SELECT sum(n) FROM generate_series(1, 20000) n") == 200010000)
	check(len(pqText(db, "SELECT repeat('z', 5000000)")) == 5000000)
}

func pqTransactions(c *client) {
	db := pqOpen("")
	defer db.Close()
	insert := fmt.Sprintf("INSERT INTO %s VALUES (%d, $1, 'x', 1)", table, c.number)
	tx, err := db.Begin()
	must(err)
	pid := pqInt(tx, "SELECT pg_backend_pid()")
	must(pqExec(tx, insert, 1))
	for n := 0; n < 3; n++ {
		must(pqExec(tx, "SAVEPOINT one"))
		pqSee(c, pqFails("23505", pqExec(tx, insert, 1)))
		must(pqExec(tx, "ROLLBACK TO one"))
	}
	must(pqExec(tx, insert, 2))
	check(pqInt(tx, "SELECT pg_backend_pid()") == pid)
	must(tx.Commit())
	options := &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true}
	tx, err = db.BeginTx(always, options)
	must(err)
	check(pqText(tx, "SHOW transaction_isolation") == "serializable")
	pqFails("25006", pqExec(tx, insert, 3))
	must(tx.Rollback())
	done, err := db.Exec("DELETE FROM "+table+" WHERE client = $1", c.number)
	must(err)
	count, err := done.RowsAffected()
	must(err)
	check(count == 2)
}

func pqSettings(c *client) {
	db := pqOpen(" application_name='named by client'")
	defer db.Close()
	tx, err := db.Begin()
	must(err)
	must(pqExec(tx, "SET LOCAL work_mem = '7MB'"))
	check(pqText(tx, "SHOW work_mem") == "7MB")
	must(tx.Commit())
	check(pqText(db, "SHOW work_mem") == "4MB")
	must(pqExec(db, "SET work_mem = '8MB'"))
	kept := map[bool]string{true: "8MB", false: "4MB"}
	check(pqText(db, "SHOW work_mem") == kept[keepsState])
}

func pqNotices(c *client) {
	connector, err := pq.NewConnector(address)
	must(err)
	var heard []string
	db := sql.OpenDB(pq.ConnectorWithNoticeHandler(connector, func(notice *pq.Error) {
		heard = append(heard, notice.Message)
	}))
	defer db.Close()
	db.SetMaxOpenConns(1)
	must(pqExec(db, "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$"))
	check(len(heard) == 2 && heard[1] == "two")
	c.see(heard)
}

func pqListen(c *client) {
	if !keepsState {
		panic(notApplicable("LISTEN belongs to a session"))
	}
	db := pqOpen("")
	defer db.Close()
	listener := pq.NewListener(address, time.Second, time.Minute, nil)
	defer listener.Close()
	must(listener.Listen(table))
	for n := 0; n < 3; n++ {
		must(pqExec(db, "SELECT pg_notify($1, $2)", table, fmt.Sprint(n)))
		select {
		case heard := <-listener.Notify:
			check(heard != nil && heard.Extra == fmt.Sprint(n))
		case <-time.After(30 * time.Second):
			check(false, "no notification came")
		}
	}
	must(listener.Ping())
}

func pqReconnects(c *client) {
	for n := 0; n < 8; n++ {
		db := pqOpen("")
		check(pqInt(db, "SELECT $1::int", n) == n)
		must(db.Close())
	}
}

func pqPool(c *client) {
	db := pqOpen("")
	defer db.Close()
	db.SetMaxOpenConns(connections())
	db.SetMaxIdleConns(2)
	statement, err := db.Prepare("SELECT $1::int * 2")
	must(err)
	defer statement.Close()
	var all sync.WaitGroup
	answers := make([]int, 200)
	for n := range answers {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			if statement.QueryRow(n).Scan(&answers[n]) != nil {
				answers[n] = -1
			}
		}(n)
	}
	all.Wait()
	for n, answer := range answers {
		check(answer == n*2, n, answer)
	}
}

func pqFunctions(c *client) {
	panic(notApplicable("lib/pq has no large objects"))
}
