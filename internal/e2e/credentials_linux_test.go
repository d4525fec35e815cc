package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/voltest"
)

// secrets are passwords that must be nowhere but where they belong, by what they
// are of.
type secrets map[string]string

func newSecrets(t *testing.T, of ...string) secrets {
	t.Helper()
	s := secrets{}
	for _, name := range of {
		b := make([]byte, 12)
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		s[name] = "S" + hex.EncodeToString(b)
	}
	return s
}

// in lists the secrets that a text holds.
func (s secrets) in(text []byte) (found []string) {
	for name, secret := range s {
		if bytes.Contains(text, []byte(secret)) {
			found = append(found, name)
		}
	}
	return found
}

// below lists the files in a directory that hold one, and how many files it has.
func (s secrets) below(t *testing.T, dir string) (found []string, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			if os.IsNotExist(err) {
				return nil // a run that goes on removes what it needs no more
			}
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		files++
		for _, name := range s.in(data) {
			found = append(found, fmt.Sprintf("the password of %s in %s", name, p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, files
}

// secretWatch looks at what anybody may see of all processes, and at what is
// written to directories, again and again.
type secretWatch struct {
	secrets
	mu    sync.Mutex
	found map[string]bool
	seen  map[int]bool // processes that run the program
	stop  func()
}

func (s secrets) watch(t *testing.T, dirs ...string) *secretWatch {
	t.Helper()
	w := &secretWatch{secrets: s, found: map[string]bool{}, seen: map[int]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			w.look()
			for _, dir := range dirs {
				list, _ := s.below(t, dir)
				for _, f := range list {
					w.note(f)
				}
			}
		}
	}()
	w.stop = func() { cancel(); <-ended }
	t.Cleanup(w.stop)
	return w
}

func (w *secretWatch) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found[what] = true
}

// look reads arguments and environments of all processes there are.
func (w *secretWatch) look() {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil {
			continue // the kernel's, or gone
		}
		if exe == program {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			w.mu.Lock()
			w.seen[pid] = true
			w.mu.Unlock()
		}
		for _, name := range []string{"cmdline", "environ"} {
			data, _ := os.ReadFile(filepath.Join(dir, name))
			for _, of := range w.in(data) {
				w.note(fmt.Sprintf("the password of %s in the %s of %s", of, name, exe))
			}
		}
	}
}

func (w *secretWatch) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.found))
}

// TestCredentialsAreNowhereButWhereTheyBelong: databases with passwords are
// backed up and restored, with everything told that can be. No password is in the
// arguments or the environment of any process at any time, in what is printed or
// logged, in the state directory and its journals, or in the record: its
// documents, its file table, its files.
func TestCredentialsAreNowhereButWhereTheyBelong(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Make(t, "btrfs", 1<<30)
	m := bareMachine(t, filepath.Join(scratch(t), "repository"))
	s := newSecrets(t, "redis", "mariadb", "the repository")
	m.passwordFile = filepath.Join(m.dir, "password")
	write(t, m.passwordFile, s["the repository"])
	c := &credentials{t: t, m: m, s: s, said: map[string]string{}, root: v.Root}
	c.startRedis()
	c.startMariaDB()

	watch := s.watch(t, m.state())
	c.run("init", 0)
	c.run("writers --json -vv", 0)
	c.run("plan --json -vv "+v.Root, 0)
	c.run("backup --json -vv --type full "+v.Root, 0)
	c.run("backup -vv --type full "+v.Root, 0)
	c.run("backup --json -vv --type incremental "+v.Root, 0)
	id := m.backups()[0]
	c.run("show --json -vv "+id, 0)
	documents := c.documents(id)
	// The servers may refuse what they like: they were not started by a service.
	codes := []int{c.run("restore --json -vv "+id, 0, 1, 3, 5).code, c.run("restore -vv "+id, 0, 1, 3, 5).code}
	c.run("check --read-data --json -vv", 0)
	watch.stop()

	for _, what := range watch.list() {
		t.Error(what)
	}
	if len(watch.seen) < 20 {
		t.Errorf("only %d processes of the program were looked at", len(watch.seen))
	}
	for command, text := range c.said {
		for _, of := range s.in([]byte(text)) {
			t.Errorf("the password of %s in what %q printed", of, command)
		}
	}
	for of, dir := range map[string]string{"state": m.state(), "the repository": m.repo} {
		list, files := s.below(t, dir)
		for _, what := range list {
			t.Error(what)
		}
		if files == 0 {
			t.Errorf("%s has no file", of)
		}
	}
	files := 0
	for _, id := range m.backups() {
		dir := filepath.Join(m.dir, "extract-"+id)
		c.run("extract "+id+" "+dir, 0)
		list, n := s.below(t, dir)
		for _, what := range list {
			t.Error(what)
		}
		files += n
	}
	t.Logf("%d processes of the program, %d documents, %d files of records; the restores ended with %v", len(watch.seen), documents, files, codes)
	c.controls()
}

// credentials is one host with two databases that ask for passwords.
type credentials struct {
	t     *testing.T
	m     *machine
	s     secrets
	root  string
	yaml  string
	said  map[string]string
	files []string // in which the passwords belong
}

func (c *credentials) fatal(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *credentials) run(line string, codes ...int) *outcome {
	c.t.Helper()
	o := c.m.sombra(strings.Fields(line)...).exits(codes...)
	c.said[line] = o.out + o.err
	return o
}

// documents prints those of a record and gives their number.
func (c *credentials) documents(id string) (n int) {
	c.t.Helper()
	var b struct {
		Documents []string `json:"documents"`
	}
	c.m.must("show", "--json", id).line("backup", &b)
	for _, name := range b.Documents {
		c.run("show --document "+name+" "+id, 0)
	}
	if len(b.Documents) < 4 {
		c.t.Errorf("only %d documents: %v", len(b.Documents), b.Documents)
	}
	return len(b.Documents)
}

func (c *credentials) configure(yaml string) {
	c.yaml += yaml
	c.m.configure("writers:\n" + c.yaml)
}

// secretFile makes a file that only a user may read.
func (c *credentials) secretFile(name, text string, uid, gid int) string {
	c.t.Helper()
	dir, err := dbtest.Scratch("")
	c.fatal(err)
	c.t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, name)
	write(c.t, file, text)
	c.fatal(os.Chown(file, uid, gid))
	c.files = append(c.files, file)
	return file
}

func (c *credentials) startRedis() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := dbtest.StartRedis(ctx, dbtest.RedisOptions{Dir: filepath.Join(c.root, "redis"), AppendOnly: true, Password: c.s["redis"]})
	c.fatal(err)
	c.t.Cleanup(func() { r.Close(); c.endAll(r.Dir) })
	_, err = r.Do(ctx, "SET", "a", "1")
	c.fatal(err)
	file := c.secretFile("password", c.s["redis"]+"\n", r.UID, r.GID)
	c.configure(fmt.Sprintf("  - kind: redis\n    name: shop\n    config: {directory: %s, socket: %s, password_file: %s}\n", r.Dir, r.Socket, file))
}

func (c *credentials) startMariaDB() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := dbtest.StartMariaDB(ctx, dbtest.MariaDBOptions{Dir: filepath.Join(c.root, "mariadb")})
	c.fatal(err)
	c.t.Cleanup(func() { s.Close(); c.endAll(s.Dir) })
	db, err := s.DB("")
	c.fatal(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{"SET sql_log_bin=0", // statements with passwords are not for the logs
		"CREATE USER 'backup'@'localhost' IDENTIFIED BY '" + c.s["mariadb"] + "'",
		"GRANT ALL PRIVILEGES ON *.* TO 'backup'@'localhost'"} {
		_, err := db.ExecContext(ctx, q)
		c.fatal(err)
	}
	file := c.secretFile("my.cnf", "[client]\nuser = backup\npassword = "+c.s["mariadb"]+"\n", s.UID, s.GID)
	c.configure(fmt.Sprintf("  - kind: mariadb\n    name: books\n    config: {datadir: %s, socket: %s, option_file: %s}\n", s.Dir, s.Socket, file))
}

// endAll ends servers that a restore has started in a directory.
func (c *credentials) endAll(dir string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range dirs {
		if cwd, err := os.Readlink(p + "/cwd"); err == nil && strings.HasPrefix(cwd, dir) {
			pid, _ := strconv.Atoi(filepath.Base(p))
			syscall.Kill(pid, syscall.SIGKILL)
			waitFor(c.t, 10*time.Second, "a server that the restore started has ended", func() bool { return dead(pid) })
		}
	}
}

// controls shows that what is looked for would be found.
func (c *credentials) controls() {
	c.t.Helper()
	for _, file := range c.files {
		if list, _ := c.s.below(c.t, filepath.Dir(file)); len(list) == 0 {
			c.t.Errorf("%s holds no password: the test looks for nothing", file)
		}
	}
	w := c.s.watch(c.t)
	cmd := c.m.command("backups", "--password-command", "sleep 2; echo "+c.s["redis"])
	cmd.Env = append(cmd.Env, "CONTROL="+c.s["mariadb"])
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	cmd.Wait() // whether it succeeds is of no interest
	w.stop()
	if list := w.list(); len(list) < 2 {
		c.t.Errorf("passwords in arguments and environment are not noticed: %v", list)
	}
}
