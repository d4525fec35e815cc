package mountfs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// helperEnv makes the test binary a program that mounts a repository: it names
// the repository's directory and the one to mount on.
const helperEnv = "SOMBRA_TEST_MOUNT"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(helperEnv); dirs != "" {
		repo, dir, _ := strings.Cut(dirs, "\n")
		if err := mountProgram(repo, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// mountProgram mounts until it is interrupted.
func mountProgram(repoDir, dir string) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	st, err := local.Open(repoDir)
	if err != nil {
		return err
	}
	repo, err := repository.Open(context.Background(), st, []byte("secret"), smallOptions())
	if err != nil {
		return err
	}
	m, err := Start(context.Background(), repo, dir, Options{})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	select {
	case <-interrupted:
	case <-m.Ended():
	}
	return m.Unmount()
}

// needMount skips the test where nothing can be mounted, and says so aloud.
func needMount(t *testing.T) {
	t.Helper()
	reason := ""
	if os.Geteuid() != 0 {
		reason = "only root mounts without a helper, and becomes another user"
	} else if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		reason = "there is no FUSE: " + err.Error()
	} else {
		f.Close()
		s := newSample(t, mem.New())
		dir := t.TempDir()
		m, err := Start(t.Context(), s.repo, dir, Options{})
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
			reason = "this machine refuses mounts: " + err.Error()
		} else if err != nil {
			t.Fatal(err)
		} else if err := m.Unmount(); err != nil {
			t.Fatal(err)
		}
	}
	if reason != "" {
		fmt.Fprintf(os.Stderr, "SKIPPED, NOT TESTED WITH A REAL MOUNT: %s: %s\n", t.Name(), reason)
		t.Skip(reason)
	}
}

// mounted mounts a repository, and unmounts it in the end.
func mounted(t *testing.T, repo *repository.Repository, o Options) string {
	t.Helper()
	dir := t.TempDir()
	m, err := Start(t.Context(), repo, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// describe tells all of a tree, names of one file by the first of them.
func describe(t *testing.T, root string, without ...string) (lines []string) {
	t.Helper()
	links := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, root)
		if slices.Contains(without, name) {
			return nil
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: p, Err: err}
		}
		line := fmt.Sprintf("%q %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR || name == "/d/empty" {
			line += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", st.Size, data[:min(len(data), 64)])
			if st.Nlink > 1 {
				if links[st.Ino] == "" {
					links[st.Ino] = name
				}
				line += " = " + links[st.Ino]
			}
		case syscall.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + to
		case syscall.S_IFCHR, syscall.S_IFBLK:
			line += fmt.Sprintf(" %x", st.Rdev)
		}
		if st.Mode&syscall.S_IFMT == syscall.S_IFREG {
			for _, attr := range []string{"user.a", "user.empty"} {
				buf := make([]byte, 100)
				if n, err := unix.Lgetxattr(p, attr, buf); err == nil {
					line += fmt.Sprintf(" %s=%q", attr, buf[:n])
				}
			}
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func TestACopyOutOfTheMountIsTheBackup(t *testing.T) {
	needMount(t)
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	dir := mounted(t, s.repo, Options{Log: slog.New(slog.DiscardHandler)})
	top := filepath.Join(dir, "ids", rec.ID.Short())
	for p, want := range s.data {
		if got, err := os.ReadFile(filepath.Join(top, p)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes of %d, %v", p, len(got), len(want), err)
		}
	}
	if _, err := os.ReadFile(filepath.Join(top, "not saved")); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file without its data: %v", err)
	}
	out := filepath.Join(t.TempDir(), "out")
	// Of what is not in the backup cp says that it cannot be read.
	said, err := exec.Command("cp", "-a", top, out).CombinedOutput()
	if err == nil || !bytes.Contains(said, []byte("not saved")) || bytes.Count(said, []byte("\n")) != 1 {
		t.Errorf("cp: %v\n%s", err, said)
	}
	shown, copied := describe(t, top, "/not saved"), describe(t, out, "/not saved")
	if !slices.Equal(shown, copied) || len(shown) < 2020 {
		for _, l := range shown {
			if !slices.Contains(copied, l) {
				t.Errorf("shown %s", l)
			}
		}
		for _, l := range copied {
			if !slices.Contains(shown, l) {
				t.Errorf("copied %s", l)
			}
		}
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(out, "sparse"), &st); err != nil || st.Blocks > 300 {
		t.Errorf("the copy of the sparse file has %d blocks, %v", st.Blocks, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "latest")); err != nil || target != "ids/"+rec.ID.Short() {
		t.Errorf("latest is %q, %v", target, err)
	}
	// A device there is none.
	if f, err := os.Open(filepath.Join(top, "null")); err == nil {
		f.Close()
		t.Error("a device can be opened")
	}
	if err := os.WriteFile(filepath.Join(top, "new"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing: %v", err)
	}
	found, err := exec.Command("find", dir, "-name", "big").Output()
	if n := bytes.Count(found, []byte("\n")); err != nil || n != 2 {
		t.Errorf("find finds %s, %v", found, err)
	}
}

func TestHolesAreFoundInAMountedFile(t *testing.T) {
	needMount(t)
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	dir := mounted(t, s.repo, Options{})
	f, err := os.Open(filepath.Join(dir, "ids", rec.ID.Short(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tt := range []struct {
		from, want int64
		whence     int
	}{{0, 300_000, unix.SEEK_DATA}, {0, 0, unix.SEEK_HOLE}, {300_000, 400_000, unix.SEEK_HOLE}, {400_000, 900_000, unix.SEEK_DATA}} {
		if at, err := f.Seek(tt.from, tt.whence); err != nil || at != tt.want {
			t.Errorf("from %d: %d, %v, want %d", tt.from, at, err, tt.want)
		}
	}
	if _, err := f.Seek(950_000, unix.SEEK_DATA); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("data after the last: %v", err)
	}
}

func TestManyProgramsReadAMountAtOnce(t *testing.T) {
	needMount(t)
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	s.file(repository.Entry{Path: "huge", Mode: 0o600}, random(24<<20, 77))
	rec := s.commit(nil)
	dir := mounted(t, s.repo, Options{})
	top := filepath.Join(dir, "ids", rec.ID.Short())
	begin := time.Now()
	if got, err := os.ReadFile(filepath.Join(top, "huge")); err != nil || !bytes.Equal(got, s.data["huge"]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	t.Logf("24 MiB read from front to back in %v", time.Since(begin).Round(time.Millisecond))
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 2))
			for _, p := range []string{"huge", "d/big", "sparse"} {
				want := s.data[p]
				f, err := os.Open(filepath.Join(top, p))
				if err != nil {
					t.Error(err)
					return
				}
				for range 60 {
					at, buf := rng.IntN(len(want)), make([]byte, 1+rng.IntN(100_000))
					n, err := f.ReadAt(buf, int64(at))
					if err != nil && err != io.EOF || !bytes.Equal(buf[:n], want[at:min(at+len(buf), len(want))]) {
						t.Errorf("%s at %d: %d bytes, %v", p, at, n, err)
						break
					}
				}
				f.Close()
			}
		})
	}
	wg.Wait()
}

func TestDamageInAMountedFileIsAnErrorOfItsRange(t *testing.T) {
	needMount(t)
	st := &damagedStore{Store: mem.New()}
	s := newSample(t, st)
	s.begin()
	s.file(repository.Entry{Path: "big", Mode: 0o600}, random(4_000_000, 9))
	rec := s.commit(nil)
	repo, err := repository.Open(t.Context(), st, []byte("secret"), smallOptions())
	if err != nil {
		t.Fatal(err)
	}
	name, size := largestPack(t, st, "data/")
	st.at = size / 2
	st.name.Store(&name)
	var log lockedBuffer
	dir := mounted(t, repo, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	f, err := os.Open(filepath.Join(dir, "ids", rec.ID.Short(), "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := s.data["big"]
	good, bad := 0, 0
	for at := 0; at < len(want); at += 4096 {
		buf := make([]byte, min(4096, len(want)-at))
		switch n, err := f.ReadAt(buf, int64(at)); {
		case errors.Is(err, syscall.EIO):
			bad += len(buf)
		case err != nil && err != io.EOF || !bytes.Equal(buf[:n], want[at:at+len(buf)]):
			t.Fatalf("at %d: %d bytes, %v", at, n, err)
		default:
			good += n
		}
	}
	if bad == 0 || good < 1_500_000 {
		t.Errorf("%d bytes are read, %d are errors", good, bad)
	}
	if !strings.Contains(log.text(), name) {
		t.Errorf("the log does not name %s:\n%s", name, log.text())
	}
	if _, err := io.Copy(io.Discard, f); !errors.Is(err, syscall.EIO) {
		t.Errorf("the whole file: %v", err)
	}
}

func TestAMountThatIsInUseIsDetached(t *testing.T) {
	needMount(t)
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	dir := t.TempDir()
	m, err := Start(t.Context(), s.repo, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "ids", rec.ID.Short(), "d/big"))
	if err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	if err := m.Unmount(); !errors.As(err, &busy) {
		t.Errorf("unmounting what is in use: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("something is still mounted: %v, %v", names, err)
	}
	f.Close()
	select {
	case <-m.Ended():
	case <-time.After(time.Minute):
		t.Error("it is still served after the last file was closed")
	}
}

func TestSomebodyElseMayUnmount(t *testing.T) {
	needMount(t)
	s := newSample(t, mem.New())
	dir := t.TempDir()
	m, err := Start(t.Context(), s.repo, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Ended():
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if err := m.Unmount(); err != nil {
		t.Errorf("unmounting again: %v", err)
	}
}

func TestWhatCannotBeMountedOnIsSaid(t *testing.T) {
	s := newSample(t, mem.New())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]error{file: syscall.ENOTDIR, file + "-none": fs.ErrNotExist} {
		if m, err := Start(t.Context(), s.repo, dir, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dir, err, want)
			if m != nil {
				m.Unmount()
			}
		}
	}
}

// program starts the test binary as a program that mounts, as the given user.
func program(t *testing.T, uid uint32) (cmd *exec.Cmd, dir string, rec *repository.Record) {
	t.Helper()
	base, err := os.MkdirTemp("", "sombra-mount-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Unmount(filepath.Join(base, "m"), syscall.MNT_DETACH)
		os.RemoveAll(base)
	})
	dir = filepath.Join(base, "m")
	binary := filepath.Join(base, "program")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	for _, step := range []func() error{
		func() error { return err },
		func() error { return os.WriteFile(binary, data, 0o755) },
		func() error { return os.Mkdir(dir, 0o755) },
		func() error { return os.Mkdir(filepath.Join(base, "r"), 0o700) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	st, err := local.Open(filepath.Join(base, "r"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSample(t, st)
	s.begin()
	s.fill()
	rec = s.commit(nil)
	err = filepath.WalkDir(base, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, int(uid), int(uid)))
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(binary)
	if uid != 0 {
		// On usual systems /dev/fuse is for everybody; where it is not, it is
		// made so for this program alone.
		node := filepath.Join(base, "fuse")
		if err := errors.Join(syscall.Mknod(node, syscall.S_IFCHR|0o666, 10<<8|229), os.Chmod(node, 0o666)); err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
			`mount --bind "$1" /dev/fuse && exec setpriv --reuid="$2" --regid="$2" --clear-groups "$3"`, "sh", node, fmt.Sprint(uid), binary)
	}
	cmd.Env = append(os.Environ(), helperEnv+"="+filepath.Join(base, "r")+"\n"+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		cmd.Wait()
		t.Fatalf("it says %q, %v", line, err)
	}
	return cmd, dir, rec
}

func TestAKilledMountIsToldAndRemoved(t *testing.T) {
	needMount(t)
	cmd, dir, rec := program(t, 0)
	if _, err := os.Stat(filepath.Join(dir, "ids", rec.ID.Short(), "d/big")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if _, err := os.Stat(dir); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("a dead mount: %v", err)
	}
	s := newSample(t, mem.New())
	if m, err := Start(t.Context(), s.repo, dir, Options{}); !errors.Is(err, ErrDead) {
		t.Errorf("mounting on it: %v", err)
		if m != nil {
			m.Unmount()
		}
	}
	if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
		t.Errorf("umount -l: %v: %s", err, out)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("after it there are %v, %v", names, err)
	}
}

// TestAnOrdinaryUserMounts: through fusermount3, and reads everything, whoever
// owned it; nobody else gets in, not even root.
func TestAnOrdinaryUserMounts(t *testing.T) {
	needMount(t)
	if _, err := exec.LookPath("fusermount3"); err != nil {
		fmt.Fprintf(os.Stderr, "SKIPPED, NOT TESTED WITH A REAL MOUNT: %s: %v\n", t.Name(), err)
		t.Skip(err)
	}
	const nobody = 65534
	cmd, dir, rec := program(t, nobody)
	pid := fmt.Sprint(cmd.Process.Pid)
	if _, err := os.ReadDir(filepath.Join("/proc", pid, "root", dir)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("root looks in: %v", err)
	}
	cat := exec.Command("nsenter", "--target", pid, "--mount", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		"cat", filepath.Join(dir, "ids", rec.ID.Short(), "d/one"))
	if out, err := cat.CombinedOutput(); string(out) != "two names" {
		t.Errorf("cat: %q, %v", out, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestOthersAreLetInWithTheFilesPermissions: with AllowOther, ACLs included.
func TestOthersAreLetInWithTheFilesPermissions(t *testing.T) {
	needMount(t)
	s := newSample(t, mem.New())
	s.begin()
	s.add(repository.Entry{Path: "", Type: repository.Directory, Mode: 0o755})
	s.file(repository.Entry{Path: "open", Mode: 0o644}, []byte("open"))
	s.file(repository.Entry{Path: "closed", Mode: 0o600}, []byte("closed"))
	s.file(repository.Entry{Path: "his", Mode: 0o600, UID: 65534}, []byte("his"))
	rec := s.commit(nil)
	dir := t.TempDir()
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Start(t.Context(), s.repo, dir, Options{AllowOther: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Unmount()
	for name, want := range map[string]string{"open": "open", "closed": "", "his": "his"} {
		cat := exec.Command("cat", filepath.Join(dir, "ids", rec.ID.Short(), name))
		cat.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, _ := cat.Output(); string(out) != want {
			t.Errorf("another user reads %q of %s, want %q", out, name, want)
		}
	}
}
