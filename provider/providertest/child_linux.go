package providertest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVariable tells the test binary that it is a program of the suite.
const roleVariable = "SOMBRA_PROVIDERTEST_ROLE"

// roles are what the test binary can be instead of a test. Arg is a directory.
var roles = map[string]func(arg, ack string) error{
	"churn":   churn,
	"ordered": ordered,
	"swap":    swap,
	"riot":    riot,
	"flip":    flip,
}

// Main runs the tests of a package that uses the suite; its TestMain calls it.
func Main(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := roles[role](os.Getenv(roleVariable+"_DIR"), os.Getenv(roleVariable+"_ACK")); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

// child is a program of the suite that runs.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	ack *os.File // where it counts what it has done
}

// start starts a program and waits until it is at work. It is killed when the
// test ends.
func start(t *testing.T, role, dir string) *child {
	t.Helper()
	ack, err := os.CreateTemp(t.TempDir(), "ack")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, roleVariable+"_DIR="+dir, roleVariable+"_ACK="+ack.Name())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t, cmd, ack}
	t.Cleanup(func() {
		c.kill()
		ack.Close()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%s says %q, %v", role, line, err)
	}
	return c
}

func (c *child) kill() {
	c.cmd.Process.Signal(syscall.SIGCONT)
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// count is how many operations the program has acknowledged.
func (c *child) count() uint64 {
	c.t.Helper()
	var b [8]byte
	if _, err := c.ack.ReadAt(b[:], 0); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// progress waits until the program has done n more operations.
func (c *child) progress(n uint64) {
	c.t.Helper()
	begin := c.count()
	for end := time.Now().Add(30 * time.Second); c.count() < begin+n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("the writing program did %d operations in 30 s, want %d", c.count()-begin, n)
		}
	}
}

// stop holds the program still, and returns when all its threads are.
func (c *child) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !c.stopped(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			c.t.Fatal("the writing program does not stop")
		}
	}
}

func (c *child) stopped() bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", c.cmd.Process.Pid))
	if err != nil || len(stats) == 0 {
		return false
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			return false
		}
		if _, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " "); !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// resume lets the program go on.
func (c *child) resume() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		c.t.Fatal(err)
	}
}

// counter acknowledges operations.
type counter struct {
	f *os.File
	n uint64
}

func openCounter(name string) (*counter, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &counter{f: f}, nil
}

func (c *counter) done() error {
	c.n++
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], c.n)
	_, err := c.f.WriteAt(b[:], 0)
	if c.n == 1 {
		fmt.Println("ready")
	}
	return err
}

// ordered writes numbers: each to first, durably, and only then to second,
// durably, and only then acknowledges it.
func ordered(dir, ack string) error {
	c, err := openCounter(ack)
	if err != nil {
		return err
	}
	var files [2]*os.File
	for i, name := range []string{"first", "second"} {
		if files[i], err = os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
	}
	for n := uint64(1); ; n++ {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], n)
		for _, f := range files {
			if _, err := f.WriteAt(b[:], 0); err != nil {
				return err
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return err
			}
		}
		if err := c.done(); err != nil {
			return err
		}
	}
}

// churn changes files in all ways there are, without ever making them durable.
func churn(dir, ack string) error {
	c, err := openCounter(ack)
	if err != nil {
		return err
	}
	// A mapping made once and stored to for ever.
	f, err := os.OpenFile(filepath.Join(dir, "mapped"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(256 << 10); err != nil {
		return err
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, 256<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	for {
		if err := churnOnce(dir, mapped, r); err != nil {
			return err
		}
		if err := c.done(); err != nil {
			return err
		}
		if r.IntN(50) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func churnOnce(dir string, mapped []byte, r *rand.Rand) error {
	name := filepath.Join(dir, fmt.Sprint("f", r.IntN(12)))
	block := make([]byte, 1+r.IntN(16<<10))
	for i := range block {
		block[i] = byte(r.Uint32())
	}
	switch r.IntN(9) {
	case 0, 1, 2:
		return writeAt(name, block, int64(r.IntN(256<<10)))
	case 3, 4:
		mapped[r.IntN(len(mapped))]++
		return nil
	case 5:
		if err := os.WriteFile(name+".new", block, 0o640); err != nil {
			return err
		}
		return os.Rename(name+".new", name)
	case 6:
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	case 7:
		if err := os.Truncate(name, int64(r.IntN(64<<10))); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	default:
		sub := filepath.Join(dir, fmt.Sprint("d", r.IntN(3)))
		if os.Mkdir(sub, 0o750) == nil {
			return os.WriteFile(filepath.Join(sub, "x"), block, 0o600)
		}
		return os.RemoveAll(sub)
	}
}

func writeAt(name string, b []byte, off int64) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, off)
	return err
}

// swap makes dir/trap by turns a directory with a file in it and a symbolic
// link to dir/../outside, as fast as it can.
func swap(dir, ack string) error {
	c, err := openCounter(ack)
	if err != nil {
		return err
	}
	trap, real, link := filepath.Join(dir, "trap"), filepath.Join(dir, "real"), filepath.Join(dir, "link")
	for {
		if err := os.Symlink("../outside", link); err != nil {
			return err
		}
		// Exchanging the two leaves no moment without either.
		if err := unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		if err := os.Rename(link, real); err != nil {
			return err
		}
		if err := unix.Renameat2(unix.AT_FDCWD, real, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		if err := os.Remove(real); err != nil {
			return err
		}
		if err := c.done(); err != nil {
			return err
		}
	}
}
