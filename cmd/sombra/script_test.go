package main

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestMain makes the test binary act as sombra when it is called by that name,
// as the scripts do and as the program itself does for its keeper and its
// writer hosts.
func TestMain(m *testing.M) {
	version = "test"
	testscript.Main(m, map[string]func(){"sombra": main})
}

// TestScripts runs the scripts in testdata/script: what every command prints,
// how it exits, and that a command that fails changes nothing. See the README
// there for the commands of scripts that are ours.
func TestScripts(t *testing.T) {
	// A provider that serves every file system, so that the scripts say the
	// same wherever the temporary directory is.
	testscript.Run(t, params("testdata/script", map[string]string{"SOMBRA_PROVIDER": "precopy"}))
}

// TestScriptsOnVolumes runs the scripts that need a file system of a certain
// kind, mounted at $VOLUME.
func TestScriptsOnVolumes(t *testing.T) {
	for _, fstype := range []string{"btrfs", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			voltest.Need(t, fstype)
			v := voltest.Make(t, fstype, map[string]int64{"btrfs": voltest.SmallBtrfs, "xfs": voltest.SmallXFS}[fstype])
			// A subtest of its own, so that the volume outlives scripts that
			// run in parallel.
			t.Run("scripts", func(t *testing.T) {
				testscript.Run(t, params("testdata/"+fstype, map[string]string{"VOLUME": v.Root}))
			})
		})
	}
}

// TestScriptsOfMounts runs the scripts that need FUSE, and says so where there
// is none.
func TestScriptsOfMounts(t *testing.T) {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil || os.Geteuid() != 0 {
		voltest.Skip(t, "mounting needs root and FUSE: %v", err)
	}
	f.Close()
	testscript.Run(t, params("testdata/mount", map[string]string{"SOMBRA_PROVIDER": "precopy"}))
}

func params(dir string, vars map[string]string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			for name := range strings.SplitSeq("REPOSITORY PASSWORD_FILE PASSWORD_COMMAND CONSISTENCY TYPE PROVIDER EXCLUDE WRITER COMPONENT TAG", " ") {
				e.Setenv("SOMBRA_"+name, "")
			}
			e.Setenv("SOMBRA_CONFIG", os.DevNull)
			e.Setenv("SOMBRA_PASSWORD", "secret")
			e.Setenv("SOMBRA_STATE_DIR", filepath.Join(e.WorkDir, "state"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("SOMBRA_VSSDOCS", documents())
			e.Setenv("FIXTURES", abs("../../metadata/testdata"))
			e.Setenv("CONTRIB", abs("../../contrib"))
			for name, value := range vars {
				e.Setenv(name, value)
			}
			return nil
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "note": note, "unchanged": unchanged, "sql": sqlCmd, "flip": flip,
			"jsonlines": jsonLines, "waitfor": waitFor, "alldocs": allDocs, "owner": ownerCmd, "begins": begins, "named": named,
		},
	}
}

func abs(p string) string {
	p, err := filepath.Abs(p)
	must(err)
	return p
}

// documents is where real documents of VSS are, or empty.
func documents() string {
	for _, dir := range []string{os.Getenv("SOMBRA_VSSDOCS"), abs("../../../shared/vssdocs")} {
		if _, err := os.Stat(filepath.Join(dir, "BCDocument.xml")); dir != "" && err == nil {
			return dir
		}
	}
	return ""
}

func condition(cond string) (bool, error) {
	switch cond {
	case "root":
		return os.Geteuid() == 0, nil
	case "vssdocs":
		return documents() != "", nil
	}
	return false, fmt.Errorf("unknown condition %s", cond)
}

// exits CODE PROGRAM ARG... runs a program that must end with the code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
	if s := ts.ReadFile("stderr"); strings.Contains(s, "goroutine ") || strings.Contains(s, "panic:") {
		ts.Fatalf("the program panicked")
	}
}

// tree describes everything below a directory: names, modes, owners, times and
// contents.
func tree(ts *testscript.TestScript, dir string) string {
	var b strings.Builder
	root := ts.MkAbs(dir)
	ts.Check(filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %s", strings.TrimPrefix(p, root), info.Mode(), info.ModTime().UTC().Format(time.RFC3339Nano))
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(data))
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", target)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

func noteFile(ts *testscript.TestScript, dir string) string {
	return filepath.Join(ts.Getenv("TMPDIR"), fmt.Sprintf("note-%x", sha256.Sum256([]byte(ts.MkAbs(dir)))))
}

// note DIR... remembers what is below directories.
func note(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.MkdirAll(ts.Getenv("TMPDIR"), 0o700))
	for _, dir := range args {
		ts.Check(os.WriteFile(noteFile(ts, dir), []byte(tree(ts, dir)), 0o600))
	}
}

// unchanged DIR... holds directories against what was noted.
func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: unchanged DIR...")
	}
	for _, dir := range args {
		before, err := os.ReadFile(noteFile(ts, dir))
		ts.Check(err)
		after := tree(ts, dir)
		if same := string(before) == after; same == neg {
			ts.Fatalf("%s: changed: %t\nbefore:\n%s\nafter:\n%s", dir, !same, before, after)
		}
	}
}

// sql DATABASE STATEMENT... runs statements and prints their rows.
func sqlCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: sql DATABASE STATEMENT...")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	var out strings.Builder
	for _, s := range args[1:] {
		if err = query(db, s, &out); err != nil {
			break
		}
	}
	fmt.Fprint(ts.Stdout(), out.String())
	if (err != nil) != neg {
		ts.Fatalf("sql: %v", err)
	}
}

func query(db *sql.DB, statement string, out *strings.Builder) error {
	rows, err := db.Query(statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			values[i] = new(sql.NullString)
		}
		if err := rows.Scan(values...); err != nil {
			return err
		}
		for i, v := range values {
			if i > 0 {
				out.WriteByte('|')
			}
			out.WriteString(v.(*sql.NullString).String)
		}
		out.WriteByte('\n')
	}
	return rows.Err()
}

// flip DIR [OFFSET] flips one bit in the largest file below a directory, by
// default in its middle, and sets $FLIPPED to the file's name below it.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: flip DIR [OFFSET]")
	}
	var name string
	var size int64
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			name, size = p, info.Size()
		}
		return err
	}))
	if name == "" {
		ts.Fatalf("%s holds no file", args[0])
	}
	at := size / 2
	if len(args) == 2 {
		var err error
		at, err = strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
	}
	ts.Check(os.Chmod(name, 0o600))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	ts.Check(err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	ts.Check(err)
	ts.Setenv("FLIPPED", filepath.Base(name))
}

// jsonlines FILE TYPE... demands that every line of a file, stdout or stderr is
// a JSON object with a message_type, and that each type named is among them.
func jsonLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: jsonlines FILE TYPE...")
	}
	seen := map[string]bool{}
	for line := range bytes.Lines([]byte(ts.ReadFile(args[0]))) {
		var m struct {
			Type string `json:"message_type"`
		}
		if err := json.Unmarshal(line, &m); err != nil || m.Type == "" {
			ts.Fatalf("%s: line %q is no message: %v", args[0], line, err)
		}
		if !bytes.HasPrefix(line, []byte(`{"message_type":`)) {
			ts.Fatalf("%s: line %q does not begin with its type", args[0], line)
		}
		seen[m.Type] = true
	}
	for _, want := range args[1:] {
		if !seen[want] {
			ts.Fatalf("%s: no message of type %s, only %v", args[0], want, seen)
		}
	}
}

// waitfor FILE [REGEXP] waits until a file is there and matches.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitfor FILE [REGEXP]")
	}
	want := regexp.MustCompile("(?m)" + strings.Join(args[1:], ""))
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		info, err := os.Lstat(ts.MkAbs(args[0]))
		if err == nil && (len(args) == 1 || !info.Mode().IsRegular()) {
			return
		}
		if data, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && want.Match(data) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: not there, or without %s, after 30 s", args[0], want)
		}
	}
}

// alldocs DIR inspects every document in a directory, and writes it again and
// once more: the second time must give the same bytes as the first.
func allDocs(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*.xml"))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("%s holds no document", args[0])
	}
	again := filepath.Join(ts.Getenv("WORK"), "again.xml")
	for _, name := range names {
		ts.Check(ts.Exec("sombra", "doc", "inspect", name))
		text := ts.ReadFile("stdout")
		ts.Check(ts.Exec("sombra", "doc", "inspect", "--json", name))
		jsonLines(ts, false, []string{"stdout", "document"})
		ts.Check(ts.Exec("sombra", "doc", "roundtrip", name))
		first := ts.ReadFile("stdout")
		ts.Check(os.WriteFile(again, []byte(first), 0o600))
		ts.Check(ts.Exec("sombra", "doc", "roundtrip", again))
		if ts.ReadFile("stdout") != first {
			ts.Fatalf("%s: written twice it differs", name)
		}
		ts.Check(ts.Exec("sombra", "doc", "inspect", again))
		if ts.ReadFile("stdout") != text {
			ts.Fatalf("%s: what is written again says something else", name)
		}
	}
	ts.Logf("%d documents", len(names))
}

// owner UID FILE gives a file to a user; for root only.
func ownerCmd(ts *testscript.TestScript, _ bool, args []string) {
	uid, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(os.Chown(ts.MkAbs(args[1]), uid, uid))
}

// begins FILE TEXT demands that a file's first line begins with a text.
func begins(ts *testscript.TestScript, neg bool, args []string) {
	line, _, _ := strings.Cut(ts.ReadFile(args[0]), "\n")
	if strings.HasPrefix(line, strings.Join(args[1:], " ")) == neg {
		ts.Fatalf("first line is %q", line)
	}
}

// TestHelpTellsExitCodes: every command's help has the table, and every command
// says what it is for.
func TestHelpTellsExitCodes(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	queue := newRoot(a).Commands()
	for len(queue) > 0 {
		cmd := queue[0]
		queue = append(queue[1:], cmd.Commands()...)
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for _, code := range []string{"  3  incomplete", " 12  wrong password", "130  interrupted"} {
			if !strings.Contains(out.String(), code) {
				t.Errorf("%s: help lacks %q", cmd.CommandPath(), code)
			}
		}
		if cmd.Short == "" && !cmd.Hidden {
			t.Errorf("%s: no short help", cmd.CommandPath())
		}
	}
}

// TestOptionsAreFlagsAndKeys: what the configuration can set is a flag of
// backup, marked as one that the environment sets, too; and the other way round.
func TestOptionsAreFlagsAndKeys(t *testing.T) {
	c := config{
		Exclude: []string{"x"}, ExcludeFile: []string{"x"}, OneFileSystem: true, Tag: []string{"x"}, Type: "x", TypeFor: []string{"x"}, Consistency: "x",
		Provider: "x", AsPlainFiles: true, NoWriters: true, Reread: true, NoPartial: true, StrictType: true, Writer: []string{"x"}, ExcludeWriter: []string{"x"},
		Component: []string{"x"}, ExcludeComponent: []string{"x"}, FreezeLimit: "x", HoldLimit: "x", DiscoveredLimit: "x",
		KeepBase: new(int), EventLimit: "x", IdentifyLimit: "x", PrepareLimit: "x", NoDiscovery: true,
	}
	options := c.options()
	cmd := newBackup(&app{})
	var settables []string
	for name, v := range options {
		f := cmd.Flags().Lookup(name)
		if f == nil || !marked(f, settable) {
			t.Errorf("%s is in the configuration and no settable flag", name)
		}
		if !slices.Equal(v, []string{"x"}) && !slices.Equal(v, []string{"true"}) && !slices.Equal(v, []string{"0"}) {
			t.Errorf("%s: %q", name, v)
		}
		settables = append(settables, name)
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if marked(f, settable) && !slices.Contains(settables, f.Name) {
			t.Errorf("--%s is settable and has no key", f.Name)
		}
	})
}

// named puts the id of the backup that the last command made into a variable.
func named(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: named VARIABLE")
	}
	m := regexp.MustCompile(`(?m)^backup ([0-9a-f]+): `).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("the last command made no backup")
	}
	ts.Setenv(args[0], m[1])
}
