import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;

/** What the scenarios of pgjdbc stand on; see ../matrix.py for what is printed. */
abstract class Matrix {
    static final String MODE = System.getenv("DRIVERS_MODE");
    static final int CLIENTS = Integer.parseInt(System.getenv("DRIVERS_CLIENTS"));
    static final int BACKENDS = Integer.parseInt(System.getenv("DRIVERS_BACKENDS"));
    static final boolean KEEPS_STATE = !MODE.equals("transaction");
    static final int CONNECTIONS = MODE.equals("session") ? BACKENDS : CLIENTS;
    static final String URL = "jdbc:postgresql://" + System.getenv("PGHOST") + ":"
        + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");

    static class NotApplicable extends Exception {
        NotApplicable(String why) {
            super(why);
        }
    }

    static class Client {
        final String scenario;
        final int number;
        final String table = System.getenv("DRIVERS_TABLE");

        Client(String scenario, int number) {
            this.scenario = scenario;
            this.number = number;
        }

        void see(Object... words) {
            if (number != 0)
                return;
            StringBuilder line = new StringBuilder("see " + scenario);
            for (Object word : words)
                line.append(' ').append(String.valueOf(word).replace('\n', ' '));
            System.out.println(line);
        }
    }

    interface Scenario {
        void run(Client client) throws Exception;
    }

    interface Work {
        void run() throws SQLException;
    }

    /** Pairs of name and value: properties of the driver. */
    static Connection connect(String... properties) throws SQLException {
        Properties all = new Properties();
        all.setProperty("user", System.getenv("PGUSER"));
        all.setProperty("password", System.getenv("PGPASSWORD"));
        all.setProperty("sslmode", "disable");
        for (int at = 0; at < properties.length; at += 2)
            all.setProperty(properties[at], properties[at + 1]);
        return DriverManager.getConnection(URL, all);
    }

    static void check(boolean right, Object... words) {
        if (!right)
            throw new AssertionError(Arrays.toString(words));
    }

    static SQLException failure(String sqlstate, Work work) {
        try {
            work.run();
        } catch (SQLException problem) {
            check(sqlstate.equals(problem.getSQLState()), sqlstate, problem.getSQLState(), problem);
            return problem;
        }
        throw new AssertionError("there was no error " + sqlstate);
    }

    static final String[][] WRONG = {
        {"SELEC 1", "42601"}, {"SELECT nonsense", "42703"}, {"SELECT * FROM nowhere", "42P01"},
        {"SELECT 1/0", "22012"}, {"SELECT 'x'::int", "22P02"}, {"SELECT nothing()", "42883"},
        {"INSERT INTO {table} VALUES ({client}, 1, 'a', -1)", "23514"},
        {"INSERT INTO {table} VALUES ({client}, 1, NULL, 1)", "23502"},
        {"INSERT INTO {table} VALUES ({client}, 2, 'a', 1), ({client}, 2, 'a', 1)", "23505"},
        {"DO $$ BEGIN RAISE 'own words' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h'; END $$",
         "ZZ001"},
    };

    static void run(String name, boolean once, Scenario scenario) throws InterruptedException {
        String only = System.getenv("DRIVERS_ONLY");
        if (only != null && !only.isEmpty() && !Arrays.asList(only.split(",")).contains(name))
            return;
        List<Throwable> problems = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int number = 0; number < (once ? 1 : CLIENTS); number++) {
            Client client = new Client(name, number);
            threads.add(new Thread(() -> {
                try {
                    scenario.run(client);
                } catch (Throwable problem) {
                    synchronized (problems) {
                        problems.add(problem);
                    }
                }
            }));
        }
        for (Thread thread : threads)
            thread.start();
        for (Thread thread : threads)
            thread.join();
        if (problems.isEmpty())
            System.out.println("ok " + name);
        else if (problems.get(0) instanceof NotApplicable)
            System.out.println("n/a " + name + " " + problems.get(0).getMessage());
        else {
            System.out.println("fail " + name + " "
                               + problems.get(0).toString().replace("\n", " | "));
            problems.get(0).printStackTrace();
        }
    }
}
