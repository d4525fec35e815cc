package localfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
)

func openBare(t *testing.T, tr session.Tree, name string) session.BareFile {
	t.Helper()
	f, err := tr.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	b, ok := f.(session.BareFile)
	if !ok {
		t.Fatalf("%T is no session.BareFile", f)
	}
	return b
}

// TestAFileIsDescribedAsItWasOpened: Opened keeps to the instant of opening, so
// that what is written before the first byte is read shows as a change.
func TestAFileIsDescribedAsItWasOpened(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	fill(t, dir, map[string]string{"f": "one"})
	path := filepath.Join(dir, "f")
	long := strings.Repeat("x", 300)
	values := map[string]string{"user." + long[:200]: "1", "user.1" + long[:200]: long + long, "user.2" + long[:200]: "3"}
	for name, value := range values {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			t.Fatal(err) // names and values longer together, and each, than is asked for first
		}
	}
	tr, err := OpenTree(dir, TreeOptions{Source: session.FromLive})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	f := openBare(t, tr, "f")
	full, err := f.Stat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		if string(full.XAttrs[name]) != value {
			t.Errorf("%s is %q, want %q", name, full.XAttrs[name], value)
		}
	}
	opened, err := f.Opened(ctx)
	if err != nil || !reflect.DeepEqual(opened, full) {
		t.Errorf("opened as %+v, %v, want %+v", opened, err, full)
	}
	bare := full
	bare.Bare, bare.XAttrs = true, nil
	if got, err := f.StatBare(ctx); err != nil || !reflect.DeepEqual(got, bare) {
		t.Errorf("bare: %+v, %v, want %+v", got, err, bare)
	}

	time.Sleep(20 * time.Millisecond)
	if err := os.WriteFile(path, []byte("longer"), 0); err != nil {
		t.Fatal(err)
	}
	if again, err := f.Opened(ctx); err != nil || !reflect.DeepEqual(again, full) {
		t.Errorf("opened, after a change, as %+v, %v", again, err)
	}
	now, err := f.StatBare(ctx)
	if err != nil || now.Size != 6 || now.Changed.Equal(full.Changed) {
		t.Errorf("after a change: %+v, %v", now, err)
	}
}

// TestAFileIsReadLikeAnyOther: in parts, past its end, and not once it is closed.
func TestAFileIsReadLikeAnyOther(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"f": "0123456789"})
	tr, err := OpenTree(dir, TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	f := openBare(t, tr, "f")
	for _, c := range []struct {
		off  int64
		size int
		want string
		err  error
	}{{0, 10, "0123456789", nil}, {3, 4, "3456", nil}, {8, 4, "89", io.EOF}, {10, 1, "", io.EOF}, {99, 1, "", io.EOF}, {10, 0, "", nil}, {-1, 1, "", fs.ErrInvalid}} {
		p := make([]byte, c.size)
		n, err := f.ReadAt(p, c.off)
		if string(p[:n]) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%d bytes at %d: %q, %v, want %q, %v", c.size, c.off, p[:n], err, c.want, c.err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, statErr := f.Stat(t.Context())
	_, bareErr := f.StatBare(t.Context())
	_, openedErr := f.Opened(t.Context())
	_, dataErr := f.Data(t.Context())
	for what, err := range map[string]error{"read": readErr, "describe": statErr, "describe bare": bareErr, "describe as opened": openedErr,
		"find data": dataErr, "close": f.Close()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s a closed file: %v", what, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g := openBare(t, tr, "f")
	if _, err := g.Opened(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: %v", err)
	}
}

// TestACopiedFileIsDescribedAsTheOriginal: however it is asked, and not as the copy.
func TestACopiedFileIsDescribedAsTheOriginal(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	fill(t, dir, map[string]string{"f": "one"})
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	if err := os.Chtimes(filepath.Join(dir, "f"), old, old); err != nil {
		t.Fatal(err)
	}
	c := stage(t, dir, provider.Scope{Claims: []provider.Claim{{Writer: "w", Files: []provider.FileSet{{Dir: ".", Pattern: "f"}}}}})
	tr, err := OpenStaged(StagedOptions{Copy: c.Root})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	want, err := tr.Lstat(ctx, "f")
	if err != nil || !want.Modified.Equal(old) || want.Size != 3 {
		t.Fatalf("listed as %+v, %v", want, err)
	}
	f := openBare(t, tr, "f")
	for what, describe := range map[string]func(context.Context) (session.Entry, error){"Stat": f.Stat, "Opened": f.Opened, "StatBare": f.StatBare} {
		if got, err := describe(ctx); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s gives %+v, %v, want %+v", what, got, err, want)
		}
	}
}
