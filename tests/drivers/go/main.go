// Command go runs the scenarios of a Go driver, pgx or pq; see ../matrix.py for what is printed.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

var (
	mode       = os.Getenv("DRIVERS_MODE")
	table      = os.Getenv("DRIVERS_TABLE")
	keepsState = mode != "transaction"
	address    = fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=%s sslmode=disable",
		os.Getenv("PGHOST"), os.Getenv("PGPORT"), os.Getenv("PGUSER"), os.Getenv("PGPASSWORD"),
		os.Getenv("PGDATABASE"))
)

type notApplicable string

type client struct {
	scenario string
	number   int
}

func (c *client) see(words ...interface{}) {
	if c.number == 0 {
		text := strings.TrimSpace(fmt.Sprintln(words...))
		fmt.Println("see", c.scenario, strings.ReplaceAll(text, "\n", " "))
	}
}

type scenario struct {
	name string
	once bool
	run  func(c *client)
}

var wrong = [][2]string{
	{"SELEC 1", "42601"}, {"SELECT nonsense", "42703"}, {"SELECT * FROM nowhere", "42P01"},
	{"SELECT 1/0", "22012"}, {"SELECT 'x'::int", "22P02"}, {"SELECT nothing()", "42883"},
	{"INSERT INTO {table} VALUES ({client}, 1, 'a', -1)", "23514"},
	{"INSERT INTO {table} VALUES ({client}, 1, NULL, 1)", "23502"},
	{"INSERT INTO {table} VALUES ({client}, 2, 'a', 1), ({client}, 2, 'a', 1)", "23505"},
	{"DO $$ BEGIN RAISE 'own words' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h'; END $$",
		"ZZ001"},
}

func (c *client) wrongStatements() [][2]string {
	var made [][2]string
	replacer := strings.NewReplacer("{table}", table, "{client}", strconv.Itoa(c.number))
	for _, pair := range wrong {
		made = append(made, [2]string{replacer.Replace(pair[0]), pair[1]})
	}
	return made
}

// check panics when something is not as it should be; words tell what.
func check(right bool, words ...interface{}) {
	if !right {
		panic(fmt.Sprint("wrong: ", fmt.Sprintln(words...)))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func number(name string) int {
	value, err := strconv.Atoi(os.Getenv(name))
	must(err)
	return value
}

func connections() int {
	if mode == "session" {
		return number("DRIVERS_BACKENDS")
	}
	return number("DRIVERS_CLIENTS")
}

func (s *scenario) runOnce(c *client) (problem interface{}) {
	defer func() {
		problem = recover()
		if _, fine := problem.(notApplicable); problem != nil && !fine {
			fmt.Fprintln(os.Stderr, problem, string(debug.Stack()))
		}
	}()
	s.run(c)
	return nil
}

func (s *scenario) runAll() {
	clients := number("DRIVERS_CLIENTS")
	if s.once {
		clients = 1
	}
	problems := make([]interface{}, clients)
	var all sync.WaitGroup
	for n := 0; n < clients; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			problems[n] = s.runOnce(&client{s.name, n})
		}(n)
	}
	all.Wait()
	for _, problem := range problems {
		if why, fine := problem.(notApplicable); fine {
			fmt.Println("n/a", s.name, string(why))
			return
		} else if problem != nil {
			text := strings.TrimSpace(fmt.Sprint(problem))
			fmt.Println("fail", s.name, strings.ReplaceAll(text, "\n", " | "))
			return
		}
	}
	fmt.Println("ok", s.name)
}

func main() {
	scenarios := pgxScenarios
	if os.Args[1] == "pq" {
		scenarios = pqScenarios
	}
	only := os.Getenv("DRIVERS_ONLY")
	fmt.Println("driver", os.Args[2])
	for _, s := range scenarios {
		if only == "" || strings.Contains(","+only+",", ","+s.name+",") {
			s.runAll()
		}
	}
}
