package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// document gives the first block of a language in a document.
func document(t *testing.T, name, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	must(t, err)
	_, block, ok := strings.Cut(string(text), "```"+language+"\n")
	block, _, end := strings.Cut(block, "\n```\n")
	if !ok || !end {
		t.Fatalf("%s shows nothing in %s", name, language)
	}
	return block + "\n"
}

// notes is a service that keeps notes, in a mount namespace of its own in which
// the places it uses are scratch ones.
type notes struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	dir  string // what is /var/lib/notes for it
	stop chan struct{}
	done chan int
}

// startNotes starts a program with /var/lib and /run in a scratch directory, which
// is the name by which backups know what is in them.
func startNotes(t *testing.T, program string) *notes {
	t.Helper()
	voltest.Need(t) // a mount namespace takes root
	base := scratch(t)
	for _, dir := range []string{"lib/notes", "run/sombra/writers.d"} {
		must(t, os.MkdirAll(filepath.Join(base, dir), 0o755))
	}
	n := startIn(t, base, program)
	waitFor(t, 10*time.Second, "the writer listens", func() bool {
		_, err := os.Lstat(filepath.Join(base, "run/sombra/writers.d/notes.sock"))
		return err == nil
	})
	return n
}

// startIn starts a command line with /var/lib and /run below base.
func startIn(t *testing.T, base string, line ...string) *notes {
	t.Helper()
	n := &notes{t: t, dir: filepath.Join(base, "lib/notes")}
	n.cmd = exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c",
		`mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run && exec "$@"`, base}, line...)...)
	n.cmd.Stderr = os.Stderr
	var err error
	n.in, err = n.cmd.StdinPipe()
	must(t, err)
	out, err := n.cmd.StdoutPipe()
	must(t, err)
	n.out = bufio.NewReader(out)
	must(t, n.cmd.Start())
	t.Cleanup(func() { n.in.Close(); n.cmd.Process.Kill(); n.cmd.Wait() })
	return n
}

// write adds notes until end is called, which tells how many were acknowledged.
func (n *notes) write() (end func() int) {
	n.stop, n.done = make(chan struct{}), make(chan int, 1)
	go func() {
		for i := 1; ; i++ {
			select {
			case <-n.stop:
				n.done <- i - 1
				return
			default:
			}
			fmt.Fprintf(n.in, "note %d\n", i)
			if line, err := n.out.ReadString('\n'); err != nil || line != fmt.Sprintf("%d <nil>\n", i) {
				n.t.Errorf("note %d was answered %q, %v", i, line, err)
				n.done <- i - 1
				return
			}
		}
	}()
	return func() int { close(n.stop); return <-n.done }
}

// notesIn reads notes: whole ones, and as many as their number says.
func notesIn(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "notes"))
	must(t, err)
	count, err := os.ReadFile(filepath.Join(dir, "count"))
	must(t, err)
	want, err := strconv.Atoi(string(count))
	must(t, err)
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if line != fmt.Sprintf("note %d", i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
	if lines := strings.Count(string(text), "\n"); lines != want {
		t.Errorf("%d notes, and a count of %d: the copy is of no one moment", lines, want)
	}
	return want
}

// TestProgramOfTheSDKDocument: the text in docs/writers/sdk.md, as it is, is a
// whole program. It is built, its notes are backed up again and again while it
// writes them, and restored.
func TestProgramOfTheSDKDocument(t *testing.T) {
	source := filepath.Join(scratch(t), "main.go")
	write(t, source, document(t, "docs/writers/sdk.md", "go"))
	binary := filepath.Join(filepath.Dir(source), "notes")
	build := exec.Command("go", "build", "-o", binary, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := startNotes(t, binary)
	m := newMachine(t)
	m.through = []string{"nsenter", "--mount", "--target", strconv.Itoa(n.cmd.Process.Pid), "--"}
	end := n.write()
	last := 0
	times := 3
	if os.Getenv("SOMBRA_TORTURE") != "" {
		times = 50
	}
	for i := range times {
		time.Sleep(20 * time.Millisecond)
		o := m.must("backup", "--json", "/var/lib/notes")
		if c := o.summary().Components; len(c) != 1 || !c[0].Succeeded || c[0].Level != "app" {
			t.Fatalf("components: %+v", c)
		}
		dir := filepath.Join(m.dir, fmt.Sprint("extract", i))
		m.must("extract", o.summary().ID, dir)
		saved := notesIn(t, filepath.Join(dir, n.dir))
		if saved <= last {
			t.Errorf("%d notes in the backup, and %d in the one before", saved, last)
		}
		last = saved
	}
	if written := end(); written < last {
		t.Errorf("%d notes were acknowledged, and %d saved", written, last)
	}
	for _, name := range []string{"notes", "count"} {
		must(t, os.Remove(filepath.Join(n.dir, name)))
	}
	m.must("restore", "latest")
	if got := notesIn(t, n.dir); got != last {
		t.Errorf("%d notes restored of %d", got, last)
	}
}
