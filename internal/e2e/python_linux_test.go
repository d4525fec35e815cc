package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// python is Debian's, which has the modules that its packages install.
const python = "/usr/bin/python3"

// pythonDir makes a directory with the example's modules, and those that protoc
// makes of the protocol.
func pythonDir(t *testing.T) string {
	t.Helper()
	plugin, err := exec.LookPath("grpc_python_plugin")
	if err != nil {
		voltest.Skip(t, "grpc_python_plugin is not installed: see scripts/install-test-deps")
	}
	if out, err := exec.Command(python, "-c", "import grpc, google.protobuf").CombinedOutput(); err != nil {
		voltest.Skip(t, "Debian's python3-grpcio and python3-protobuf are not installed, see scripts/install-test-deps: %s", out)
	}
	dir := scratch(t)
	must(t, os.Chmod(dir, 0o755))
	protoc := exec.Command("protoc", "-I", "../../proto", "--python_out="+dir, "--grpc_out="+dir,
		"--plugin=protoc-gen-grpc="+plugin, "sombra/writer/v1/writer.proto")
	if out, err := protoc.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	for _, name := range []string{"sombra_writer.py", "notes.py"} {
		text, err := os.ReadFile(contrib(t, "python/"+name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, "faulty.py"), []byte(faulty), 0o644))
	return dir
}

// faulty is the example with a fault, which its third argument names.
const faulty = `
import os, sys, time, threading
import xml.etree.ElementTree as ET
import notes, sombra_writer

class Faulty(notes.Notes):
    fault = sys.argv[3]
    def prepare_for_backup(self, event):
        if self.fault == "veto prepare":
            raise sombra_writer.Veto("not today", sombra_writer.RETRYABLE)
    def freeze(self, event):
        if self.fault == "veto freeze":
            raise sombra_writer.Veto("the notes are being sorted", sombra_writer.RETRYABLE)
        if self.fault == "raise in freeze":
            return 1 // 0
        super().freeze(event)
        if self.fault == "hang in freeze":
            time.sleep(5)
        if self.fault == "die in freeze":
            os._exit(9)
    def thaw(self, event):
        if self.fault == "hang in thaw" and event is not None and not self.aborted:
            time.sleep(30)
        super().thaw(event)
    aborted = False
    def abort(self, event):
        self.aborted = True
        super().abort(event)
    def post_snapshot(self, event):
        if self.fault == "a file is missing":
            for c in event.each_component():
                ns = c.tag[:c.tag.index("}") + 1] if "}" in c.tag else ""
                ET.SubElement(c, ns + "PARTIAL_FILE", path=self.paths[0], filespec="nowhere", ranges="0:10", metadata="")
    def backup_complete(self, event):
        with open(self.paths[0] + "/../outcome", "a") as f:
            f.write("%d %s\n" % (event.state.type, event.succeeded().get("notes")))
        super().backup_complete(event)

notes.main(Faulty(sys.argv[1]), sys.argv[1], sys.argv[2])
`

// pythonRig is a Python program run by an ordinary user, with a writer, and root's
// machine that sees it.
type pythonRig struct {
	*notes
	*machine
	t *testing.T
}

// newPython starts the program: the example, or with a fault. owner is who owns
// its notes.
func newPython(t *testing.T, modules, fault string, owner int) *pythonRig {
	t.Helper()
	base := scratch(t)
	must(t, os.Chmod(base, 0o755))
	sockets := filepath.Join(base, "run/sombra/writers.d/notes")
	data := filepath.Join(base, "lib/notes")
	for _, dir := range []string{sockets, data} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	must(t, os.Chown(sockets, nobody, nobody))
	must(t, os.Chown(filepath.Dir(data), nobody, nobody))
	must(t, os.Chown(data, owner, owner))
	program := []string{"notes.py", "/var/lib/notes", "/run/sombra/writers.d/notes/notes.sock"}
	if fault != "" {
		program[0] = "faulty.py"
		program = append(program, fault)
	}
	program[0] = filepath.Join(modules, program[0])
	line := []string{"setpriv", "--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups",
		"env", "PYTHONDONTWRITEBYTECODE=1", "TMPDIR=/tmp", python}
	r := &pythonRig{t: t, machine: newMachine(t)}
	r.notes = startIn(t, base, append(line, program...)...)
	waitFor(t, 20*time.Second, "the writer listens", func() bool {
		_, err := os.Lstat(filepath.Join(sockets, "notes.sock"))
		return err == nil
	})
	r.through = []string{"nsenter", "--mount", "--target", strconv.Itoa(r.notes.cmd.Process.Pid), "--"}
	return r
}

// backup runs a backup of the notes and gives its outcome.
func (r *pythonRig) backup(args ...string) *outcome {
	r.t.Helper()
	return r.sombra(append(append([]string{"backup", "--json"}, args...), "/var/lib/notes")...)
}

func (r *pythonRig) extracted(o *outcome) string {
	r.t.Helper()
	dir, err := os.MkdirTemp(r.machine.dir, "extract-")
	must(r.t, err)
	r.must("extract", o.summary().ID, filepath.Join(dir, "x"))
	return filepath.Join(dir, "x", r.notes.dir)
}

// goesOn checks that the application acknowledges a note within two seconds.
func (r *pythonRig) goesOn(number int) {
	r.t.Helper()
	got := make(chan string, 1)
	go func() {
		fmt.Fprintf(r.in, "note %d\n", number)
		line, _ := r.notes.out.ReadString('\n')
		got <- line
	}()
	select {
	case line := <-got:
		if line != fmt.Sprintf("%d <nil>\n", number) {
			r.t.Errorf("note %d was answered %q", number, line)
		}
	case <-time.After(2 * time.Second):
		r.t.Errorf("note %d is not acknowledged within two seconds", number)
	}
}

// TestPythonWriter: the example in Python, run by an ordinary user, is backed up
// by root while it writes, each time as of one moment; and restored. What it lets
// go of after a backup depends on the type.
func TestPythonWriter(t *testing.T) {
	voltest.Need(t)
	t.Parallel()
	r := newPython(t, pythonDir(t), "", nobody)
	end := r.write()
	last := 0
	for range 3 {
		time.Sleep(50 * time.Millisecond)
		o := r.backup().exits(0)
		if c := o.summary().Components; len(c) != 1 || !c[0].Succeeded || c[0].Level != "app" || c[0].Writer != "Notes of Python" {
			t.Fatalf("components: %+v", c)
		}
		saved := notesIn(t, r.extracted(o))
		if saved <= last {
			t.Errorf("%d notes in the backup, and %d in the one before", saved, last)
		}
		last = saved
	}
	written := end()
	journal := func() int {
		data, err := os.ReadFile(filepath.Join(r.notes.dir, "journal"))
		must(t, err)
		return strings.Count(string(data), "\n")
	}
	if got := journal(); got != written {
		t.Errorf("after copies the journal has %d of %d notes", got, written)
	}
	r.backup("--type", "full").exits(0)
	if got := journal(); got != 0 {
		t.Errorf("after a full backup the journal has %d notes", got)
	}
	for _, name := range []string{"notes", "count"} {
		must(t, os.Remove(filepath.Join(r.notes.dir, name)))
	}
	r.must("restore", "latest")
	if got := notesIn(t, r.notes.dir); got != written {
		t.Errorf("%d notes restored of %d", got, written)
	}
}

// TestPythonWriterWithAFault: each ends as the protocol has it, the application
// goes on, and the next backup without the fault is another program's affair.
func TestPythonWriterWithAFault(t *testing.T) {
	voltest.Need(t)
	t.Parallel()
	modules := pythonDir(t)
	for _, c := range []struct {
		fault string
		args  []string
		code  int
		says  []string
		dead  bool
		told  string // what BackupComplete told: type and outcome
	}{
		{fault: "veto prepare", code: 1, says: []string{"VSS_E_WRITERERROR_RETRYABLE", "not today"}},
		{fault: "veto freeze", code: 1, says: []string{"VSS_E_WRITERERROR_RETRYABLE", "the notes are being sorted"}},
		{fault: "raise in freeze", code: 1, says: []string{"VSS_E_WRITERERROR_NONRETRYABLE", "ZeroDivisionError"}},
		{fault: "hang in freeze", args: []string{"--freeze-limit", "2s"}, code: 1, says: []string{"VSS_E_WRITERERROR_TIMEOUT"}},
		{fault: "hang in thaw", args: []string{"--freeze-limit", "2s"}, code: 1, says: []string{"VSS_E_WRITERERROR_TIMEOUT"}},
		{fault: "die in freeze", code: 1, says: []string{"VSS_E_WRITER_NOT_RESPONDING"}, dead: true},
		{fault: "a file is missing", args: []string{"--type", "full"}, code: 1, told: "1 False\n"},
		{fault: "none", args: []string{"--type", "full"}, code: 0, told: "1 True\n"},
		{fault: "none", code: 0, told: "5 True\n"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			r := newPython(t, modules, c.fault, nobody)
			r.goesOn(1)
			o := r.backup(c.args...)
			if c.code != 0 && o.code == 0 {
				t.Errorf("exit code %d\n%s\n%s", o.code, o.out, o.err)
			}
			o.says(c.says...)
			if !c.dead {
				r.goesOn(2)
			}
			told, err := os.ReadFile(filepath.Join(filepath.Dir(r.notes.dir), "outcome"))
			if err != nil && c.told != "" || string(told) != c.told {
				t.Errorf("BackupComplete told %q (%v), want %q", told, err, c.told)
			}
			journal, err := os.ReadFile(filepath.Join(r.notes.dir, "journal"))
			if kept := string(journal) != "note 2\n"; err != nil || kept != (c.told != "1 True\n") {
				t.Errorf("the journal is %q, %v", journal, err)
			}
		})
	}
}

// TestPythonWriterIsLetGo by itself, at once, when the service that froze it is
// killed, and when the limit has passed.
func TestPythonWriterIsLetGo(t *testing.T) {
	voltest.Need(t)
	t.Parallel()
	modules := pythonDir(t)
	t.Run("the service is killed", func(t *testing.T) {
		t.Parallel()
		r := newPython(t, modules, "", nobody)
		r.goesOn(1)
		r.must("freeze", "/var/lib/notes").says("1 writer held")
		holder := 0
		for _, p := range processes(t) {
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
			if p.role == roleHolder && strings.Contains(string(env), r.machine.dir) {
				holder = p.pid
			}
		}
		if holder == 0 {
			t.Fatal("no process holds the writer")
		}
		p, err := os.FindProcess(holder)
		must(t, err)
		must(t, p.Kill())
		r.goesOn(2)
		r.sombra("thaw").exits(4)
		r.backup().exits(0)
	})
	t.Run("the lease is over", func(t *testing.T) {
		t.Parallel()
		r := newPython(t, modules, "", nobody)
		r.goesOn(1)
		r.must("freeze", "--lease", "1s", "/var/lib/notes").says("1 writer held")
		time.Sleep(1200 * time.Millisecond)
		r.goesOn(2)
		r.sombra("thaw").exits(4)
		r.backup().exits(0)
	})
}

// TestPythonWriterOfOthersFiles: a program that declares files that its user does
// not own is refused by who it is, whatever it says.
func TestPythonWriterOfOthersFiles(t *testing.T) {
	voltest.Need(t)
	t.Parallel()
	r := newPython(t, pythonDir(t), "", 0)
	write(t, filepath.Join(r.notes.dir, "secret"), "root's")
	o := r.sombra("writers", "/var/lib/notes").exits(0).says("0 writers", fmt.Sprintf("uid %d, which does not own", nobody))
	if strings.Contains(o.out, "Notes of Python") {
		t.Errorf("the writer is taken:\n%s", o.out)
	}
}
