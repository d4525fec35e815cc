package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"time"
)

// loadClient inserts into a database in any journal mode and notes, in a log,
// when each transaction was begun and acknowledged. It retries nothing itself:
// a write that fails ends it.
func loadClient(args []string) error {
	db, err := sql.Open("sqlite", "file:"+args[0]+"?_pragma=journal_mode("+args[2]+")&_pragma=busy_timeout(20000)&_txlock=immediate")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, at INTEGER)"); err != nil {
		return err
	}
	log, err := os.OpenFile(args[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		begun := time.Now()
		if _, err := db.Exec("INSERT INTO t(at) VALUES (?)", begun.UnixNano()); err != nil {
			fmt.Fprintf(log, "failed %d %v\n", n, err)
			return fmt.Errorf("write %d failed: %w", n, err)
		}
		fmt.Fprintf(log, "%d %d %d\n", n, begun.UnixNano(), time.Now().UnixNano())
		time.Sleep(200 * time.Microsecond)
	}
}
