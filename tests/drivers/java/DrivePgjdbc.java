import java.io.StringReader;
import java.io.StringWriter;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** pgjdbc: pipelined extended queries; server-side statements from the fifth use on. */
class DrivePgjdbc extends Matrix {
    static int number(Connection db, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            for (int at = 0; at < values.length; at++)
                statement.setObject(at + 1, values[at]);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getInt(1);
            }
        }
    }

    static String text(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static void execute(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement()) {
            statement.execute(sql);
        }
    }

    static void see(Client client, SQLException problem) {
        ServerErrorMessage said = ((PSQLException) problem).getServerErrorMessage();
        client.see(problem.getSQLState(), said.getSeverity(), said.getMessage(), said.getDetail(),
                   said.getHint(), said.getPosition(), said.getConstraint(), said.getWhere(),
                   said.getRoutine());
    }

    static void simple(Client client) throws Exception {
        for (String how : new String[] {"simple", "extended"}) {
            try (Connection db = connect("preferQueryMode", how);
                 Statement statement = db.createStatement()) {
                check(statement.execute("SELECT 1; UPDATE " + client.table
                                        + " SET amount = 1 WHERE false; SELECT 'two'"));
                check(!statement.getMoreResults() && statement.getUpdateCount() == 0);
                check(statement.getMoreResults());
                for (int turn = 0; turn < 30; turn++)
                    check(number(db, "SELECT ?::int + 1", turn) == turn + 1);
                try (PreparedStatement values = db.prepareStatement("SELECT ?, ?, '\\x00ff'::bytea")) {
                    values.setString(1, "ü");
                    values.setNull(2, java.sql.Types.VARCHAR);
                    ResultSet rows = values.executeQuery();
                    rows.next();
                    check(rows.getString(1).equals("ü") && rows.getObject(2) == null
                          && rows.getBytes(3)[1] == -1);
                }
            }
        }
    }

    static void repeat(Connection db) throws SQLException {
        try (PreparedStatement kept = db.prepareStatement("SELECT ?::int * 2, ?::text")) {
            for (int turn = 0; turn < 40; turn++) {
                kept.setInt(1, turn);
                kept.setString(2, "t" + turn);
                try (ResultSet rows = kept.executeQuery()) {
                    check(rows.next() && rows.getInt(1) == turn * 2
                          && rows.getString(2).equals("t" + turn) && !rows.next());
                }
                check(number(db, "SELECT ?::int + " + turn % 5, turn) == turn + turn % 5);
                if (turn % 10 == 9)
                    failure("22012", () -> number(db, "SELECT 10 / ?::int", 0));
            }
        }
    }

    static void prepared(Client client) throws Exception {
        try (Connection db = connect()) {
            repeat(db);
        }
    }

    static void forced(Client client) throws Exception {
        String[][] ways = {
            {"prepareThreshold", "1"}, {"prepareThreshold", "-1"},
            {"prepareThreshold", "1", "preparedStatementCacheQueries", "3"},
            {"preferQueryMode", "extendedCacheEverything", "prepareThreshold", "1"}};
        for (String[] way : ways) {
            try (Connection db = connect(way)) {
                repeat(db);
                db.setAutoCommit(false);
                for (int turn = 0; turn < 8; turn++)
                    check(number(db, "SELECT ?::int + 10", turn) == turn + 10);
                db.commit();
            }
        }
    }

    static void unprepared(Client client) throws Exception {
        try (Connection db = connect("prepareThreshold", "0")) {
            repeat(db);
        }
        try (Connection db = connect("prepareThreshold", "0", "preferQueryMode",
                                     "extendedForPrepared")) {
            repeat(db);
        }
    }

    static void pipeline(Client client) throws Exception {
        String insert = "INSERT INTO " + client.table + " VALUES (?, ?, ?, ?)";
        for (String rewrite : new String[] {"false", "true"}) {
            try (Connection db = connect("prepareThreshold", "1", "reWriteBatchedInserts", rewrite)) {
                db.setAutoCommit(false);
                try (PreparedStatement batch = db.prepareStatement(insert)) {
                    for (int n = 0; n < 1000; n++)
                        add(batch, client.number, n);
                    check(batch.executeBatch().length == 1000);
                    check(number(db, "SELECT count(*) FROM " + client.table + " WHERE client = ?",
                                 client.number) == 1000);
                    db.rollback();
                    for (int n = 0; n < 300; n++)
                        add(batch, client.number, n == 250 ? 1 : n);
                    try {
                        batch.executeBatch();
                        check(false, "no error");
                    } catch (BatchUpdateException problem) {
                        client.see(problem.getSQLState());
                    }
                    db.rollback();
                }
                try (Statement several = db.createStatement()) {
                    for (int n = 0; n < 100; n++)
                        several.addBatch("UPDATE " + client.table + " SET amount = " + n
                                         + " WHERE client = " + client.number);
                    check(several.executeBatch().length == 100);
                }
                db.commit();
            }
        }
    }

    static void add(PreparedStatement batch, int client, int id) throws SQLException {
        batch.setInt(1, client);
        batch.setInt(2, id);
        batch.setString(3, "row " + id);
        batch.setInt(4, id);
        batch.addBatch();
    }

    static void copy(Client client) throws Exception {
        StringBuilder made = new StringBuilder();
        for (int n = 0; n < 3000; n++)
            made.append(client.number + "\t" + n + "\tcopy " + n + "\t" + n + "\n");
        String lines = made.toString();
        try (Connection db = connect()) {
            CopyManager copies = db.unwrap(PGConnection.class).getCopyAPI();
            String into = "COPY " + client.table + " FROM STDIN";
            db.setAutoCommit(false);
            check(copies.copyIn(into, new StringReader(lines)) == 3000);
            StringWriter out = new StringWriter();
            copies.copyOut("COPY (SELECT * FROM " + client.table + " WHERE client = "
                           + client.number + " ORDER BY id) TO STDOUT", out);
            check(out.toString().equals(lines));
            db.rollback();
            db.setAutoCommit(true);
            see(client, failure("22P02", () -> {
                try {
                    copies.copyIn(into, new StringReader("not a number\n" + lines));
                } catch (java.io.IOException problem) {
                    throw new RuntimeException(problem);
                }
            }));
            check(number(db, "SELECT 1") == 1);
            var given = copies.copyIn(into);
            given.writeToCopy("1\t2\tx\t3\n".getBytes(), 0, 8);
            given.cancelCopy();
            check(number(db, "SELECT 2") == 2);
        }
    }

    static void errors(Client client) throws Exception {
        for (String how : new String[] {"simple", "extended"}) {
            try (Connection db = connect("preferQueryMode", how, "prepareThreshold", "1")) {
                for (int turn = 0; turn < 2; turn++) {
                    for (String[] pair : WRONG) {
                        String sql = pair[0].replace("{table}", client.table)
                            .replace("{client}", "" + client.number);
                        see(client, failure(pair[1], () -> execute(db, sql)));
                        check(number(db, "SELECT ?::int", 1) == 1);
                    }
                }
                failure("22P02", () -> number(db, "SELECT ?::int", "x"));
                db.setAutoCommit(false);
                failure("22012", () -> number(db, "SELECT 1/0"));
                client.see(failure("25P02", () -> number(db, "SELECT ?::int", 1)).getMessage());
                db.rollback();
                check(number(db, "SELECT 3") == 3);
            }
        }
        // It takes a savepoint before each statement, and goes back to it.
        try (Connection db = connect("autosave", "always", "prepareThreshold", "1")) {
            db.setAutoCommit(false);
            for (int turn = 0; turn < 5; turn++) {
                failure("22012", () -> number(db, "SELECT 1 / ?::int", 0));
                check(number(db, "SELECT ?::int", turn) == turn);
            }
            db.commit();
        }
    }

    static void cancel(Client client) throws Exception {
        try (Connection db = connect(); Statement sleep = db.createStatement()) {
            for (int turn = 0; turn < 2; turn++) {
                Thread canceller = new Thread(() -> {
                    try {
                        while (true) {
                            Thread.sleep(50);
                            sleep.cancel();
                        }
                    } catch (InterruptedException | SQLException problem) {
                        // that is its end
                    }
                });
                canceller.start();
                // Without the server's other fields, if it was cancelled in the pooler's queue.
                client.see(failure("57014", () -> sleep.execute("SELECT pg_sleep(60)"))
                    .getMessage());
                canceller.interrupt();
                canceller.join();
                check(number(db, "SELECT 1") == 1);
            }
            sleep.setQueryTimeout(1);
            client.see(failure("57014", () -> sleep.execute("SELECT pg_sleep(60)")).getMessage());
            sleep.setQueryTimeout(0);
            db.setAutoCommit(false);
            execute(db, "SET LOCAL statement_timeout = 50");
            see(client, failure("57014", () -> execute(db, "SELECT pg_sleep(60)")));
            db.rollback();
        }
    }

    static void cursors(Client client) throws Exception {
        for (String threshold : new String[] {"5", "1"}) {
            try (Connection db = connect("prepareThreshold", threshold)) {
                db.setAutoCommit(false);
                try (PreparedStatement many = db.prepareStatement("SELECT generate_series(1, ?)");
                     PreparedStatement few = db.prepareStatement("SELECT generate_series(1, 9)")) {
                    many.setFetchSize(100);
                    few.setFetchSize(2);
                    many.setInt(1, 2000);
                    ResultSet rows = many.executeQuery();
                    ResultSet others = few.executeQuery();
                    int sum = 0;
                    while (rows.next()) {
                        sum += rows.getInt(1);
                        if (rows.getInt(1) % 200 == 0)
                            check(others.next() == (rows.getInt(1) <= 1800));
                    }
                    check(sum == 2001000);
                    many.executeQuery().next(); // the rest is left
                }
                db.commit();
                try (PreparedStatement broken = db.prepareStatement(
                         "SELECT 10 / (5 - n) FROM generate_series(1, 9) n")) {
                    broken.setFetchSize(2);
                    ResultSet rows = broken.executeQuery();
                    failure("22012", () -> {
                        while (rows.next())
                            rows.getInt(1);
                    });
                }
                db.rollback();
            }
        }
    }

    static void large(Client client) throws Exception {
        try (Connection db = connect()) {
            String value = "x".repeat(3000000);
            try (PreparedStatement echo = db.prepareStatement("SELECT ?::text")) {
                echo.setString(1, value);
                ResultSet rows = echo.executeQuery();
                check(rows.next() && rows.getString(1).equals(value));
            }
            try (Statement statement = db.createStatement()) {
                ResultSet rows = statement.executeQuery(
                    "SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n");
                long sum = 0;
                while (rows.next())
                    sum += rows.getInt(1);
                check(sum == 200010000);
            }
            check(text(db, "SELECT repeat('z', 5000000)").length() == 5000000);
        }
    }

    static void transactions(Client client) throws Exception {
        String insert = "INSERT INTO " + client.table + " VALUES (" + client.number
            + ", ?, 'x', 1) RETURNING id";
        try (Connection db = connect("prepareThreshold", "2")) {
            db.setAutoCommit(false);
            int pid = number(db, "SELECT pg_backend_pid()");
            number(db, insert, 1);
            for (int turn = 0; turn < 3; turn++) {
                Savepoint here = db.setSavepoint();
                see(client, failure("23505", () -> number(db, insert, 1)));
                db.rollback(here);
            }
            Savepoint named = db.setSavepoint("named");
            number(db, insert, 2);
            db.releaseSavepoint(named);
            check(number(db, "SELECT pg_backend_pid()") == pid);
            db.commit();
            db.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            db.setReadOnly(true);
            if (KEEPS_STATE) { // the driver sets the isolation for the session
                check(text(db, "SHOW transaction_isolation").equals("serializable"));
            }
            failure("25006", () -> number(db, insert, 3));
            db.rollback();
            db.setReadOnly(false);
            db.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            try (Statement statement = db.createStatement()) {
                check(statement.executeUpdate("DELETE FROM " + client.table + " WHERE client = "
                                              + client.number) == 2);
            }
            db.commit();
        }
    }

    static void settings(Client client) throws Exception {
        try (Connection db = connect("ApplicationName", "named by client")) {
            check(db.getClientInfo("ApplicationName").equals("named by client"));
            db.setAutoCommit(false);
            execute(db, "SET LOCAL work_mem = '7MB'");
            check(text(db, "SHOW work_mem").equals("7MB"));
            db.commit();
            check(text(db, "SHOW work_mem").equals("4MB"));
            execute(db, "SET work_mem = '8MB'");
            db.commit();
            check(text(db, "SHOW work_mem").equals(KEEPS_STATE ? "8MB" : "4MB"));
            db.rollback();
            check(db.isValid(5));
        }
    }

    static void notices(Client client) throws Exception {
        try (Connection db = connect(); Statement statement = db.createStatement()) {
            statement.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
            SQLWarning said = statement.getWarnings();
            client.see(said.getMessage(), said.getNextWarning().getMessage());
            check(said.getNextWarning().getMessage().equals("two"));
        }
    }

    static void listen(Client client) throws Exception {
        if (!KEEPS_STATE)
            throw new NotApplicable("LISTEN belongs to a session");
        try (Connection listener = connect(); Connection teller = connect()) {
            execute(listener, "LISTEN " + client.table);
            for (int turn = 0; turn < 3; turn++) {
                execute(teller, "NOTIFY " + client.table + ", '" + turn + "'");
                PGNotification[] heard
                    = listener.unwrap(PGConnection.class).getNotifications(30000);
                check(heard.length == 1 && heard[0].getParameter().equals("" + turn));
            }
        }
    }

    static void reconnects(Client client) throws Exception {
        for (int turn = 0; turn < 8; turn++) {
            try (Connection db = connect()) {
                check(number(db, "SELECT ?::int", turn) == turn);
            }
        }
    }

    /** As the usual pools do it: kept connections, checked before each use. */
    static void pool(Client client) throws Exception {
        BlockingQueue<Connection> idle = new ArrayBlockingQueue<>(CONNECTIONS);
        for (int n = 0; n < CONNECTIONS; n++)
            idle.add(connect());
        ExecutorService threads = Executors.newFixedThreadPool(12);
        List<Future<Integer>> answers = new ArrayList<>();
        for (int n = 0; n < 200; n++) {
            int value = n;
            answers.add(threads.submit(() -> {
                Connection db = idle.take();
                try {
                    check(db.isValid(5));
                    return number(db, "SELECT ?::int + " + value % 3, value);
                } finally {
                    idle.add(db);
                }
            }));
        }
        for (int n = 0; n < 200; n++)
            check(answers.get(n).get() == n + n % 3);
        threads.shutdown();
        for (Connection db : idle)
            db.close();
    }

    /** Large objects: FunctionCall messages. */
    static void functions(Client client) throws Exception {
        try (Connection db = connect()) {
            db.setAutoCommit(false);
            LargeObjectManager objects = db.unwrap(PGConnection.class).getLargeObjectAPI();
            byte[] data = new byte[(2 << 20) + 17];
            for (int at = 0; at < data.length; at++)
                data[at] = (byte) (at * 31);
            long oid = objects.createLO();
            LargeObject made = objects.open(oid, LargeObjectManager.WRITE);
            made.write(data);
            made.close();
            db.commit();
            LargeObject read = objects.open(oid, LargeObjectManager.READ);
            check(java.util.Arrays.equals(read.read(data.length + 1), data));
            read.close();
            objects.delete(oid);
            db.commit();
            failure("42704", () -> objects.open(oid, LargeObjectManager.READ));
            db.rollback();
            check(number(db, "SELECT 1") == 1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("driver pgjdbc " + org.postgresql.util.DriverInfo.DRIVER_VERSION);
        run("simple", false, DrivePgjdbc::simple);
        run("prepared", false, DrivePgjdbc::prepared);
        run("forced", false, DrivePgjdbc::forced);
        run("unprepared", false, DrivePgjdbc::unprepared);
        run("pipeline", false, DrivePgjdbc::pipeline);
        run("copy", false, DrivePgjdbc::copy);
        run("errors", false, DrivePgjdbc::errors);
        run("cancel", false, DrivePgjdbc::cancel);
        run("cursors", false, DrivePgjdbc::cursors);
        run("large", false, DrivePgjdbc::large);
        run("transactions", false, DrivePgjdbc::transactions);
        run("settings", false, DrivePgjdbc::settings);
        run("notices", false, DrivePgjdbc::notices);
        run("listen", true, DrivePgjdbc::listen);
        run("reconnects", false, DrivePgjdbc::reconnects);
        run("pool", true, DrivePgjdbc::pool);
        run("functions", false, DrivePgjdbc::functions);
        System.exit(0);
    }
}
