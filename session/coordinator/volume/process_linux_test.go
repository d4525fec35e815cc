package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
)

// TestMain lets the test program be a process with another root or user, that
// resolves paths and prints what comes out.
func TestMain(m *testing.M) {
	if paths := os.Getenv("VOLUME_TEST_RESOLVE"); paths != "" {
		if root := os.Getenv("VOLUME_TEST_CHROOT"); root != "" {
			must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
			must(unix.Chroot(root))
			must(unix.Chdir("/"))
			must(os.MkdirAll("/proc", 0o755))
			must(unix.Mount("proc", "/proc", "proc", 0, ""))
		}
		for p := range strings.SplitSeq(paths, "\n") {
			resolveAndPrint(p)
		}
		return
	}
	os.Exit(m.Run())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func resolveAndPrint(p string) {
	ctx := context.Background()
	table, err := Load(ctx)
	must(err)
	l, v, err := table.Resolve(ctx, p)
	if err != nil {
		fmt.Println("error", vss.CodeOf(err).Name())
		return
	}
	back, err := table.Volume(ctx, v.ID)
	under, errUnder := table.Under(ctx, p)
	if os.Getenv("VOLUME_TEST_UNDER") != "" {
		for _, place := range under {
			fmt.Printf("%s known %v\n", place.Path, place.Err == nil)
		}
		return
	}
	fmt.Println(l.Volume, l.Name, v.Root, back == v, err, len(under), errUnder)
}

// elsewhere runs this program as that process.
func elsewhere(t *testing.T, attr *syscall.SysProcAttr, env []string, paths ...string) []string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(program); d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Env = append(env, "VOLUME_TEST_RESOLVE="+strings.Join(paths, "\n"))
	cmd.SysProcAttr, cmd.Dir = attr, "/"
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

// In a root of its own a process sees only what is mounted below it.
func TestInAChroot(t *testing.T) {
	v := voltest.Ext4(t, voltest.SmallExt4)
	write(t, mkdir(t, v.Root+"/jail/d")+"/f")
	bound := mkdir(t, t.TempDir()+"/bound")
	voltest.Bind(t, v.Root+"/jail", bound)
	own := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}

	got := elsewhere(t, own, []string{"VOLUME_TEST_CHROOT=" + bound}, "/d/f", "/proc/1")
	if want := v.UUID + ":/jail d/f / true <nil> 0 <nil>"; got[0] != want {
		t.Errorf("got %q, want %q", got[0], want)
	}
	if !strings.Contains(got[1], "mount:") {
		t.Errorf("proc: %q", got[1])
	}
	got = elsewhere(t, own, []string{"VOLUME_TEST_CHROOT=" + v.Root + "/jail"}, "/d/f")
	if want := "error VSS_E_VOLUME_NOT_SUPPORTED"; got[0] != want {
		t.Errorf("a root that is no mount point: got %q, want %q", got[0], want)
	}
	if got := elsewhere(t, own, []string{"VOLUME_TEST_CHROOT=" + v.Root}, "/jail/d/f"); got[0] != v.UUID+" jail/d/f / true <nil> 0 <nil>" {
		t.Errorf("the whole volume as root: %q", got[0])
	}
}

// Names and ids are the same for an ordinary user.
func TestAsOrdinaryUser(t *testing.T) {
	b, x := voltest.Btrfs(t, voltest.SmallBtrfs), voltest.XFS(t, voltest.SmallXFS)
	voltest.Subvolume(t, mkdir(t, b.Root+"/d")+"/sub")
	for _, p := range []string{b.Root + "/d/sub", x.Root} {
		must(os.Chmod(p, 0o755))
		write(t, p+"/f")
	}
	secret := mkdir(t, x.Root+"/secret")
	must(os.Chmod(secret, 0o700))
	paths := []string{b.Root + "/d/sub/f", b.Root, x.Root + "/f", secret + "/f"}
	got := elsewhere(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, nil, paths...)
	table := load(t)
	for i, want := range []string{"f " + b.Root + "/d/sub true <nil> 0 <nil>", ". " + b.Root + " true <nil> 1 <nil>", "f " + x.Root + " true <nil> 0 <nil>"} {
		l, _ := resolve(t, table, paths[i])
		if got[i] != l.Volume+" "+want {
			t.Errorf("%s: got %q, want %q", paths[i], got[i], l.Volume+" "+want)
		}
	}
	if !strings.HasPrefix(got[3], "error") {
		t.Errorf("what may not be looked into: %q", got[3])
	}
	if _, _, err := table.Resolve(context.Background(), secret+"/f"); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A user sees the subvolumes below his own directories, also where he may not
// list those above, and is told of those he cannot look at, by their paths.
func TestSubvolumesOfAnOrdinaryUser(t *testing.T) {
	b := voltest.Btrfs(t, voltest.SmallBtrfs)
	must(os.Chmod(b.Root, 0o755))
	home := mkdir(t, b.Root+"/home/alice")
	must(os.Chmod(b.Root+"/home", 0o711))
	voltest.Subvolume(t, home+"/open")
	voltest.Subvolume(t, home+"/closed")
	must(os.Chmod(home+"/closed", 0o700))
	voltest.Subvolume(t, mkdir(t, b.Root+"/secret")+"/sub")
	must(os.Chmod(b.Root+"/secret", 0o700))
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	under := func(p string) string {
		return strings.Join(elsewhere(t, nobody, []string{"VOLUME_TEST_UNDER=1"}, p), "|")
	}
	if got, want := under(home), home+"/closed known false|"+home+"/open known true"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := under(b.Root); !strings.Contains(got, b.Root+"/secret known false") || !strings.Contains(got, b.Root+"/home known false") {
		t.Errorf("directories he may not look into are not told: %q", got)
	}
	must(os.Chmod(b.Root+"/home", 0o755))
	must(os.Chmod(b.Root+"/secret", 0o755))
	if got, want := under(b.Root), home+"/closed known false|"+home+"/open known true|"+b.Root+"/secret/sub known true"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
