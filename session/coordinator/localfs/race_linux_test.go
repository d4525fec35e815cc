package localfs

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

// TestMain lets the test program be the attacker, in a process of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCALFS_TEST_SWAP"); dir != "" {
		swapForEver(dir)
		return
	}
	os.Exit(m.Run())
}

// swapForEver exchanges two names, one a directory and one a link, until the
// pipe it inherited is closed.
func swapForEver(dir string) {
	stop := make(chan bool)
	go func() { bufio.NewReader(os.Stdin).ReadByte(); close(stop) }()
	// By descriptors, as the attacker's own names must not lead out either.
	top, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		panic(err)
	}
	inner, err := unix.Open(dir+"/d", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("ready\n")
	n := 0
	for {
		select {
		case <-stop:
			fmt.Println(n)
			return
		default:
		}
		if unix.Renameat2(top, "d", top, "link", unix.RENAME_EXCHANGE) == nil {
			n++
		}
		if unix.Renameat2(inner, "e", top, "link2", unix.RENAME_EXCHANGE) == nil {
			n++
		}
	}
}

// fingerprint is everything that can be told of a directory but access times.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		x, err := listXAttrs(unix.AT_FDCWD, "", name)
		if err != nil {
			return err
		}
		var data []byte
		if d.Type().IsRegular() {
			if data, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		fmt.Fprintln(h, name, st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Rdev, st.Size, st.Mtim, st.Ctim, x, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// While a restore runs as root, another process exchanges directories of the
// target for links out of it, thousands of times. Nothing outside may change.
func TestSwappedDirectoriesDoNotLeadOut(t *testing.T) {
	eachWay(t, func(t *testing.T, stepwise bool) {
		top := t.TempDir()
		outside, dir := filepath.Join(top, "outside"), filepath.Join(top, "target")
		fill(t, outside, map[string]string{"file": "precious", "e/file": "precious", "e/sub/file": "precious"})
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir+"/d/e/sub", 0o755); err != nil {
			t.Fatal(err)
		}
		for _, link := range []string{"/link", "/link2"} {
			if err := os.Symlink(outside, dir+link); err != nil {
				t.Fatal(err)
			}
		}
		before := fingerprint(t, outside)

		attacker := exec.Command("/proc/self/exe")
		attacker.Env = append(os.Environ(), "LOCALFS_TEST_SWAP="+dir)
		in, err := attacker.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := attacker.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := attacker.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		tg := openTestTarget(t, dir, stepwise)
		done, refused := restoreInALoop(tg, time.Now().Add(1500*time.Millisecond))
		in.Close()
		line, _ := lines.ReadString('\n')
		attacker.Wait()
		swaps, _ := strconv.Atoi(line[:max(0, len(line)-1)])
		t.Logf("%d swaps; %d operations went through, %d were refused", swaps, done, refused)
		if swaps < 1000 || done == 0 || refused == 0 {
			t.Errorf("that was no race: %d swaps, %d done, %d refused", swaps, done, refused)
		}
		if after := fingerprint(t, outside); after != before {
			list, _ := exec.Command("find", outside, "-ls").Output()
			t.Errorf("something outside the target changed:\n%s", list)
		}
	})
}

// restoreInALoop does all a restore does, and counts what went through and what
// was refused.
func restoreInALoop(tg session.FileTarget, end time.Time) (done, refused int) {
	ctx := context.Background()
	own := regular(0o4755)
	dirEntry := session.Entry{Mode: fs.ModeDir | 0o755, Perm: 0o755, UID: 4321, GID: 4321, Modified: time.Unix(1, 1)}
	link := session.Entry{Mode: fs.ModeSymlink | 0o777, Perm: 0o777, Target: "x", UID: 4321, GID: 4321}
	pipe := session.Entry{Mode: fs.ModeNamedPipe | 0o600, Perm: 0o600, UID: 4321, GID: 4321}
	own.UID, own.GID, own.XAttrs = 4321, 4321, map[string][]byte{"user.x": []byte("x")}
	change := func(name string) error {
		f, err := tg.OpenFile(ctx, name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("overwritten"), 0)
		return errors.Join(err, f.Truncate(3))
	}
	for time.Now().Before(end) {
		for _, at := range []string{"d", "d/e", "d/e/sub", "link"} {
			_, mkdir := tg.Mkdir(ctx, at+"/new/deeper")
			for _, err := range []error{
				mkdir,
				put(tg, at+"/file", own, "restored"),
				change(at + "/file"),
				tg.SetAttributes(ctx, at+"/file", own),
				tg.SetAttributes(ctx, at, dirEntry),
				tg.Symlink(ctx, link, at+"/slink"),
				tg.Mknod(ctx, pipe, at+"/pipe"),
				tg.Link(ctx, at+"/file", at+"/hard"),
				tg.Remove(ctx, at+"/hard"),
				tg.Remove(ctx, at+"/new/deeper"),
				tg.Remove(ctx, at+"/new"),
			} {
				if err == nil {
					done++
				} else {
					refused++
				}
			}
		}
	}
	return done, refused
}
