package repository

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/repository/store/local"
)

// What takes real processes and real file systems: writers that are killed,
// disks that are full, media that cannot be written to.

// roleVariable makes the test program a process of one of these tests.
const roleVariable = "SOMBRA_TEST_ROLE"

// tell is how such a process says what it did.
var tell = func(...any) {}

func TestMain(m *testing.M) {
	role, ok := os.LookupEnv(roleVariable)
	if !ok {
		os.Exit(m.Run())
	}
	tell = func(line ...any) { fmt.Println(line...) }
	err := map[string]func(ctx context.Context, dir string, args []string) error{
		"create": createProcess, "write": writeProcess, "read": readProcess, "churn": churnProcess, "index": indexProcess,
	}[role](context.Background(), os.Args[1], os.Args[2:])
	if err != nil {
		tell("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// createProcess makes a repository unless another process was faster.
func createProcess(ctx context.Context, dir string, _ []string) error {
	st, err := local.Open(dir)
	if err != nil {
		return err
	}
	switch _, err := Create(ctx, st, testPassword, testOptions()); {
	case err == nil:
		tell("made")
		return nil
	case errors.Is(err, ErrExist):
		_, err := Open(ctx, st, testPassword, testOptions())
		return err
	default:
		return err
	}
}

// sharedFile and ownFile are what writers store.
func sharedFile(i int) []byte          { return randomData(60_000, uint64(i)) }
func ownFile(writer, round int) []byte { return randomData(90_000, uint64(1000+100*writer+round)) }

// writeProcess makes backups until it has made as many as asked for, and names
// each when it is committed.
func writeProcess(ctx context.Context, dir string, args []string) error {
	writer, _ := strconv.Atoi(args[0])
	rounds, _ := strconv.Atoi(args[1])
	st, err := local.Open(dir)
	if err != nil {
		return err
	}
	r, err := Open(ctx, st, testPassword, testOptions())
	if err != nil {
		return err
	}
	for round := range rounds {
		b, err := r.Begin(ctx, BeginOptions{})
		if err != nil {
			return err
		}
		defer b.Abort()
		for i := range 6 {
			if err := storeFile(ctx, b, fmt.Sprint("shared", i), sharedFile(i)); err != nil {
				return err
			}
		}
		if err := storeFile(ctx, b, "own", ownFile(writer, round)); err != nil {
			return err
		}
		info := testInfo()
		info.User, info.Program = strconv.Itoa(writer), strconv.Itoa(round)
		rec, err := b.Commit(ctx, info)
		if err != nil {
			return err
		}
		tell(rec.ID)
	}
	return nil
}

func storeFile(ctx context.Context, b *Backup, path string, data []byte) error {
	c, err := b.PutFile(ctx, source(data))
	if err != nil {
		return err
	}
	return b.Add(ctx, Entry{Root: "/", Path: path, Type: Regular, Size: int64(len(data)), Content: c})
}

// readProcess reads and checks everything.
func readProcess(ctx context.Context, dir string, _ []string) error {
	st, err := local.Open(dir)
	if err != nil {
		return err
	}
	r, err := Open(ctx, st, testPassword, testOptions())
	if err != nil {
		return err
	}
	records, err := r.Records(ctx)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if err := verifyRecord(ctx, r, rec); err != nil {
			return err
		}
	}
	problems, err := problemsOf(ctx, r, CheckOptions{ReadData: true})
	if err != nil || len(problems) > 0 {
		return fmt.Errorf("check: %v %v", problems, err)
	}
	tell(len(records), "records")
	return nil
}

// verifyRecord says whether a record holds what writeProcess stored.
func verifyRecord(ctx context.Context, r *Repository, rec *Record) error {
	writer, _ := strconv.Atoi(rec.User)
	round, _ := strconv.Atoi(rec.Program)
	n := 0
	for e, err := range rec.Table().All(ctx) {
		if err != nil {
			return err
		}
		n++
		want := ownFile(writer, round)
		if rest, ok := strings.CutPrefix(e.Path, "shared"); ok {
			i, _ := strconv.Atoi(rest)
			want = sharedFile(i)
		}
		f, err := r.OpenContent(ctx, e.Content)
		if err != nil {
			return err
		}
		got := make([]byte, e.Size)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("%s of record %s differs: %v", e.Path, rec.ID.Short(), err)
		}
	}
	if n != 7 {
		return fmt.Errorf("record %s has %d entries", rec.ID.Short(), n)
	}
	return nil
}

// process makes the test program one of the processes above.
func process(t *testing.T, role, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, append([]string{dir}, args...)...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestOfManyProcessesThatCreateOneWins(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		var outs [5]bytes.Buffer
		var cmds [5]*exec.Cmd
		for i := range cmds {
			cmds[i] = process(t, "create", dir)
			cmds[i].Stdout = &outs[i]
			if err := cmds[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		made := 0
		for i, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v: %s", i, err, &outs[i])
			}
			made += strings.Count(outs[i].String(), "made")
		}
		if made != 1 {
			t.Errorf("%d processes made the repository", made)
		}
	}
}

// TestProcessesThatWriteAtOnceAndAreKilled: what was said to be committed is
// there, all of it reads, and the repository is whole, whoever was killed when.
func TestProcessesThatWriteAtOnceAndAreKilled(t *testing.T) {
	rounds := 3
	if os.Getenv("SOMBRA_TORTURE") != "" {
		rounds = 50
	}
	dir := filepath.Join(t.TempDir(), "repository")
	if err := createProcess(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	var committed []string
	for round := range rounds {
		var cmds [4]*exec.Cmd
		var outs [4]bytes.Buffer
		for i := range cmds {
			cmds[i] = process(t, "write", dir, strconv.Itoa(round*10+i), "3")
			cmds[i].Stdout = &outs[i]
			if err := cmds[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		for _, cmd := range cmds[2:] {
			time.Sleep(rand.N(150 * time.Millisecond))
			cmd.Process.Kill()
		}
		for i, cmd := range cmds {
			if err := cmd.Wait(); err != nil && i < 2 {
				t.Errorf("writer %d: %v: %s", i, err, &outs[i])
			}
			// A line that was cut off by the kill is no promise.
			for lines := bufio.NewReader(&outs[i]); ; {
				line, err := lines.ReadString('\n')
				if err != nil {
					break
				}
				committed = append(committed, strings.TrimSpace(line))
			}
		}
	}
	if len(committed) < 6*rounds {
		t.Errorf("only %d backups were committed", len(committed))
	}
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := reopen(t, st)
	for _, id := range committed {
		rec, err := r.Record(t.Context(), id)
		if err == nil {
			err = verifyRecord(t.Context(), r, rec)
		}
		if err != nil {
			t.Errorf("record %s, which was committed: %v", id, err)
		}
	}
	if err := readProcess(t.Context(), dir, nil); err != nil {
		t.Error(err)
	}
	t.Logf("%d backups committed", len(committed))
}

// everything describes all files below dir, but for when they were last read.
func everything(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintln(&all, path, st.Ino, st.Mode, st.Size, st.Mtim, st.Ctim)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestReadingAndCheckingWriteNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repository")
	if err := errors.Join(createProcess(t.Context(), dir, nil), writeProcess(t.Context(), dir, []string{"1", "2"})); err != nil {
		t.Fatal(err)
	}
	before := everything(t, dir)
	if err := readProcess(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	if after := everything(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestAMediumThatCannotBeWrittenToIsRead: mounted read-only, and one on which a
// user may only read.
func TestAMediumThatCannotBeWrittenToIsRead(t *testing.T) {
	voltest.Need(t, "ext4")
	v := voltest.Ext4(t, voltest.SmallExt4)
	dir := filepath.Join(v.Root, "repository")
	if err := errors.Join(createProcess(t.Context(), dir, nil), writeProcess(t.Context(), dir, []string{"1", "2"})); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return errors.Join(err, os.Chmod(path, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	reader := func() (string, error) {
		cmd := process(t, "read", dir)
		// Where the test program lies only root may look.
		cmd.Path = shared(t, cmd.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.Output()
		return string(out), err
	}
	if out, err := reader(); err != nil || !strings.Contains(out, "2 records") {
		t.Errorf("as a user who may only read: %v: %s", err, out)
	}
	if err := os.Chmod(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := reader(); err == nil || !strings.Contains(out, "permission denied") || !strings.Contains(out, "data") {
		t.Errorf("as a user who may not read the data: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", v.Root).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	if err := readProcess(t.Context(), dir, nil); err != nil {
		t.Errorf("mounted read-only: %v", err)
	}
	if err := writeProcess(t.Context(), dir, []string{"2", "1"}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("backup to a medium mounted read-only: %v", err)
	}
}

// shared copies the program to where every user can run it.
func shared(t *testing.T, program string) string {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "sombra-repository-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "program")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAFullDiskHarmsNothing: the backup that did not fit says so and leaves
// nothing half-written, and all others are as they were.
func TestAFullDiskHarmsNothing(t *testing.T) {
	voltest.Need(t, "ext4")
	v := voltest.Ext4(t, voltest.SmallExt4)
	dir := filepath.Join(v.Root, "repository")
	if err := errors.Join(createProcess(t.Context(), dir, nil), writeProcess(t.Context(), dir, []string{"1", "2"})); err != nil {
		t.Fatal(err)
	}
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	o.PackSize, o.Chunking = 4<<20, defaultChunking()
	r, err := Open(t.Context(), st, testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second begins on a full disk
		b := begin(t, r, nil)
		big := &endless{seed: rand.Uint64(), left: 1 << 30}
		_, err := b.PutStream(t.Context(), big)
		if err == nil {
			_, err = b.Commit(t.Context(), testInfo())
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("backup of more than fits: %v", err)
		}
		if err := b.Abort(); err != nil {
			t.Errorf("abort: %v", err)
		}
	}
	if rest := everything(t, dir); strings.Contains(rest, "sombra-tmp") {
		t.Errorf("remains of puts:\n%s", rest)
	}
	if err := readProcess(t.Context(), dir, nil); err != nil {
		t.Errorf("after the disk was full: %v", err)
	}
}

// endless reads random bytes.
type endless struct {
	seed uint64
	left int
}

func (e *endless) Read(p []byte) (int, error) {
	p = p[:min(len(p), e.left, 1<<20)]
	e.left -= len(p)
	e.seed++
	copy(p, randomData(len(p), e.seed))
	if e.left == 0 {
		return len(p), errors.New("the disk was never full")
	}
	return len(p), nil
}
