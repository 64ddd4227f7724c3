/* db_open.c - opening the database: what is made, what is brought forward, and what is refused without a byte changed */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/db.h"
#include "collector/schema.h"
#include "tests/tap.h"

static char dir[] = "/tmp/db_open.XXXXXX";
static char path[PATH_MAX];

static void in_dir(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
}

static void sql(const char *text)
{
	sqlite3 *s;

	if (sqlite3_open(path, &s) || sqlite3_exec(s, text, NULL, NULL, NULL))
		tap_ok(false, "the test's own SQL works: %s", sqlite3_errmsg(s));
	sqlite3_close(s);
}

static long long ask(const char *text)
{
	sqlite3_stmt *st;
	long long n = -1;
	sqlite3 *s;

	sqlite3_open(path, &s);
	if (sqlite3_prepare_v2(s, text, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(s);
	return n;
}

static size_t slurp(char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, size);

	close(fd);
	return n < 0 ? 0 : n;
}

static bool exists_beside(const char *suffix)
{
	char beside[PATH_MAX + 16];

	snprintf(beside, sizeof(beside), "%s%s", path, suffix);
	return access(beside, F_OK) == 0;
}

/* The file at `path` is refused with @want, and with @word in the reason; it and its folder stay as they are. */
static void refused(int want, const char *word, const char *what)
{
	static char before[1 << 20], after[1 << 20];
	size_t nbefore = slurp(before, sizeof(before)), nafter;
	struct db *db;
	int got = db_open(&db, path);

	tap_eq(got, want, "%s is refused", what);
	if (!tap_ok(strstr(db_why(db), word) && strstr(db_why(db), path), "%s: the reason names the file and '%s'", what, word))
		printf("# %s\n", db_why(db));
	db_close(db);
	nafter = slurp(after, sizeof(after));
	tap_ok(nbefore == nafter && memcmp(before, after, nbefore) == 0, "%s: not a byte is changed", what);
	tap_ok(!exists_beside("-wal") && !exists_beside("-shm") && !exists_beside("-journal"), "%s: nothing is left beside it", what);
}

static void check_new(void)
{
	struct db *db;

	in_dir("new.db");
	tap_eq(db_open(&db, path), 0, "a new database is made");
	db_close(db);
	tap_eq(ask("PRAGMA application_id"), DB_APPLICATION_ID, "it says whose it is");
	tap_eq(ask("PRAGMA user_version"), db_steps[db_nsteps - 1].version, "it has the newest version");
	tap_eq(ask("SELECT count(*) FROM sqlite_schema WHERE name IN ('process_sample', 'snapshot_info')"), 2, "it has both views");
	tap_eq(ask("SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1, "it is in WAL mode");
	tap_eq(db_open(&db, path), 0, "and opens again");
	db_close(db);
	in_dir("empty.db");
	close(open(path, O_CREAT | O_WRONLY, 0600));
	tap_eq(db_open(&db, path), 0, "an empty file becomes a database");
	db_close(db);
	tap_eq(ask("SELECT count(*) FROM snapshot"), 0, "with its tables");
}

/* A creation that was killed leaves an empty file and perhaps a journal; SQLite plays it back. */
static void check_killed_creation(void)
{
	struct db *db;
	pid_t child;

	in_dir("killed.db");
	child = fork();
	if (child == 0) {
		sqlite3 *s;

		sqlite3_open(path, &s);
		/* cache_spill makes a large transaction reach the file before its end */
		sqlite3_exec(s, "PRAGMA cache_size = 1; BEGIN; CREATE TABLE half (x); INSERT INTO half VALUES (zeroblob(1000000)); "
				"CREATE TABLE other (x)", NULL, NULL, NULL);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	tap_ok(exists_beside("-journal"), "a killed creation has left a journal");
	tap_eq(db_open(&db, path), 0, "it is rolled back and the database made");
	db_close(db);
	tap_eq(ask("SELECT count(*) FROM sqlite_schema WHERE name = 'half'"), 0, "no half of it is left");
}

static void check_refusals(void)
{
	static char zeros[65536];
	int fd;

	in_dir("text");
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	dprintf(fd, "These are somebody's notes, %s, and no database.\n", path);
	close(fd);
	refused(-EBADMSG, "not an SQLite database", "a text");

	in_dir("other.db");
	sql("CREATE TABLE precious (x)");
	refused(-EBADMSG, "another program", "another program's database");

	in_dir("otherid.db");
	sql("PRAGMA application_id = 7; CREATE TABLE snapshot (x)");
	refused(-EBADMSG, "another program", "a database with another id");

	in_dir("newer.db");
	sql(db_schema_sql);
	sql("PRAGMA user_version = 1000");
	refused(-EPROTO, "newer", "a newer version");

	in_dir("newerwal.db");
	sql(db_schema_sql);
	sql("PRAGMA user_version = 1000; PRAGMA journal_mode = WAL");
	refused(-EPROTO, "newer", "a newer version in WAL mode");

	/* Page 1 keeps its header, and loses the schema behind it. */
	in_dir("damaged.db");
	sql(db_schema_sql);
	fd = open(path, O_WRONLY);
	if (pwrite(fd, zeros, 3000, 100) != 3000)
		tap_ok(false, "the file can be damaged");
	close(fd);
	refused(-EUCLEAN, "damaged", "a damaged database");

	in_dir("zeros");
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	if (write(fd, zeros, sizeof(zeros)) != sizeof(zeros))
		tap_ok(false, "the file can be written");
	close(fd);
	refused(-EBADMSG, "not an SQLite database", "a file of zeros");
}

/* Another program was killed: opening its database would play its log back and change the file. */
static void check_foreign_log(void)
{
	static char before[1 << 20], after[1 << 20];
	size_t nbefore;
	struct db *db;
	pid_t child;

	in_dir("foreign.db");
	child = fork();
	if (child == 0) {
		sqlite3 *s;

		sqlite3_open(path, &s);
		sqlite3_exec(s, "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)", NULL, NULL, NULL);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	nbefore = slurp(before, sizeof(before));
	tap_ok(exists_beside("-wal"), "another program has left a log");
	tap_eq(db_open(&db, path), -EBADMSG, "its database is refused");
	db_close(db);
	tap_ok(slurp(after, sizeof(after)) == nbefore && memcmp(before, after, nbefore) == 0 && exists_beside("-wal"), "its log is left alone");
	tap_eq(ask("SELECT x FROM t"), 1, "and what was in it is there");
}

/* The mechanism of versions, with steps of its own. */
static void check_steps(void)
{
	static const struct db_step steps[] = {
		{1, "CREATE TABLE t (a); INSERT INTO t VALUES (1)"},
		{2, "ALTER TABLE t ADD COLUMN b; UPDATE t SET b = a + 1"},
		{3, "CREATE TABLE u (x); INSERT INTO u VALUES (1); INSERT INTO nowhere VALUES (1)"},
	};
	sqlite3 *s;

	in_dir("steps.db");
	sqlite3_open(path, &s);
	tap_eq(db_migrate(s, steps, 1), SQLITE_OK, "version 0 goes to 1");
	sqlite3_close(s);
	tap_eq(ask("PRAGMA user_version"), 1, "and says so");
	sqlite3_open(path, &s);
	tap_eq(db_migrate(s, steps, 2), SQLITE_OK, "1 goes to 2");
	tap_eq(db_migrate(s, steps, 2), SQLITE_OK, "2 stays");
	tap_eq(sqlite3_total_changes(s), 1, "with each step done once");
	sqlite3_close(s);
	tap_eq(ask("SELECT b FROM t"), 2, "rows are carried over");
	sqlite3_open(path, &s);
	tap_ok(db_migrate(s, steps, 3) != SQLITE_OK && strstr(sqlite3_errmsg(s), "nowhere"), "a step that fails says why");
	sqlite3_close(s);
	tap_eq(ask("PRAGMA user_version"), 2, "and leaves the version before it");
	tap_eq(ask("SELECT count(*) FROM sqlite_schema WHERE name = 'u'"), 0, "and no part of itself");
}

/* The real steps end where schema.sql ends, whether a file begins empty or at version 0 with our id. */
static void check_version_0(void)
{
	struct db *db;

	in_dir("zero.db");
	sql("PRAGMA application_id = 0x44534850; PRAGMA user_version = 0; VACUUM");
	tap_eq(ask("PRAGMA application_id"), DB_APPLICATION_ID, "a database of ours with version 0");
	tap_eq(db_open(&db, path), 0, "opens");
	db_close(db);
	tap_eq(ask("PRAGMA user_version"), 1, "and is brought to version 1");
	tap_eq(ask("SELECT count(*) FROM process_sample"), 0, "with all tables");
}

static void check_folder(void)
{
	char deep[PATH_MAX + 32];
	struct stat st;

	umask(027);
	snprintf(deep, sizeof(deep), "%s/made/x.db", dir);
	tap_ok(db_make_folder(deep) == 0 && db_make_folder(deep) == 0, "a folder is made, or left as it is");
	snprintf(deep, sizeof(deep), "%s/made", dir);
	tap_ok(stat(deep, &st) == 0 && (st.st_mode & 0777) == 0750, "with mode 0750");
	snprintf(deep, sizeof(deep), "%s/a/b/x.db", dir);
	tap_eq(db_make_folder(deep), -ENOENT, "but not its parents");
	tap_ok(db_make_folder("x.db") == 0 && db_make_folder("/x.db") == 0, "the current folder and the top exist");
}

int main(void)
{
	char command[PATH_MAX];

	if (!mkdtemp(dir))
		return 1;
	check_new();
	check_killed_creation();
	check_refusals();
	check_foreign_log();
	check_steps();
	check_version_0();
	check_folder();
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command))
		return 1;
	return tap_done();
}
