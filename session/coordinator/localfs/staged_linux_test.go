package localfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// stage takes a file-by-file shadow copy of the directory root, with the real
// provider. During is called between the last pass and the end.
func stage(t *testing.T, root string, scope provider.Scope) provider.Copied {
	t.Helper()
	ctx := context.Background()
	p := precopy.New()
	volume := provider.Volume{ID: "test", Root: root, FSType: "ext4"}
	ref := provider.Ref{Provider: p.Info().ID, SetID: vss.NewGUID(), SnapshotID: vss.NewGUID(), Volume: volume, Area: filepath.Join(root, provider.AreaName)}
	s, err := p.BeginPrepare(ctx, provider.Request{Ref: ref, Scope: scope, HoldLimit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{s.EndPrepare, s.PreCommit, s.Commit} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.PostCommit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Delete(context.Background(), ref); err != nil {
			t.Error(err)
		}
	})
	return c
}

func fill(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// walk lists a tree as "name source content".
func walk(t *testing.T, tr session.Tree, dir string) []string {
	t.Helper()
	ctx := context.Background()
	var all []string
	last := ""
	err := tr.ReadDir(ctx, dir, func(e session.Entry, err error) error {
		if err != nil {
			return err
		}
		if e.Name <= last {
			t.Errorf("%s comes after %s in %s", e.Name, last, dir)
		}
		last = e.Name
		name := join(dir, e.Name)
		alone, err := tr.Lstat(ctx, name)
		if err != nil || alone.Inode != e.Inode || alone.Source != e.Source || alone.Size != e.Size {
			t.Errorf("%s: Lstat gives %+v, %v; ReadDir %+v", name, alone, err, e)
		}
		line := name + " " + e.Source.String()
		if e.Mode.IsRegular() {
			f, err := tr.Open(ctx, name)
			if err != nil {
				return err
			}
			defer f.Close()
			st, err := f.Stat(ctx)
			if err != nil || st.Inode != e.Inode || st.Source != e.Source {
				t.Errorf("%s: Stat gives %+v, %v; ReadDir %+v", name, st, err, e)
			}
			data, err := io.ReadAll(io.NewSectionReader(f, 0, e.Size))
			if err != nil {
				return err
			}
			line += " " + string(data)
		}
		all = append(all, line)
		if e.Mode.IsDir() && !e.MountPoint {
			all = append(all, walk(t, tr, name)...)
		}
		return nil
	})
	if err != nil {
		t.Errorf("read directory %s: %v", dir, err)
	}
	return all
}

func TestStagedTreeShowsTheInstantForClaimedFilesAndLiveForOthers(t *testing.T) {
	root := t.TempDir()
	fill(t, root, map[string]string{
		"db/a": "a0", "db/b": "b0", "db/gone": "g0", "db/sub/c": "c0", "db/log/x": "x0", "db/skip.tmp": "t0",
		"other/o": "o0", "foreign/f": "f0", "top": "t0",
	})
	if err := os.Link(root+"/db/a", root+"/db/hard"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", root+"/db/link"); err != nil {
		t.Fatal(err)
	}
	scope := provider.Scope{
		Claims: []provider.Claim{{Writer: "w",
			Files:   []provider.FileSet{{Dir: "db", Pattern: "*", Recursive: true}},
			Exclude: []provider.FileSet{{Dir: "db", Pattern: "*.tmp", Recursive: true}}}},
		Foreign:   []provider.Claim{{Writer: "v", Files: []provider.FileSet{{Dir: "foreign", Pattern: "*"}}}},
		Unclaimed: []provider.FileSet{{Dir: ".", Pattern: "*", Recursive: true}},
	}
	before, err := os.Stat(root + "/db/a")
	if err != nil {
		t.Fatal(err)
	}
	c := stage(t, root, scope)

	// What happens after the instant.
	fill(t, root, map[string]string{"db/a": "later", "db/new": "n1", "db/sub/new": "n1", "db/skip.tmp": "t1", "other/o": "o1", "other/new": "n1"})
	for _, name := range []string{"db/gone", "db/log/x", "db/log", "db/link"} {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	// The directory turns into a link out: what was copied stays what it is.
	if err := os.RemoveAll(root + "/db/sub"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", root+"/db/sub"); err != nil {
		t.Fatal(err)
	}

	tr, err := OpenStaged(StagedOptions{Copy: c.Root, Live: root, Scope: &scope, Unclaimed: c.Unclaimed})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	want := []string{
		"db shadow", "db/a shadow a0", "db/b shadow b0", "db/gone shadow g0", "db/hard shadow a0", "db/link shadow",
		"db/log shadow", "db/log/x shadow x0", "db/skip.tmp live t1", "db/sub shadow", "db/sub/c shadow c0",
		"foreign live", "foreign/f live f0", "other live", "other/new live n1", "other/o live o1", "top live t0",
	}
	if got := walk(t, tr, "."); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	ctx := context.Background()
	for _, name := range []string{"db/new", "db/sub/new", provider.AreaName, "db/sub/passwd", "none"} {
		if _, err := tr.Lstat(ctx, name); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("describe %s: %v", name, err)
		}
		if _, err := tr.Open(ctx, name); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("open %s: %v", name, err)
		}
	}
	a, _ := tr.Lstat(ctx, "db/a")
	hard, _ := tr.Lstat(ctx, "db/hard")
	if a.Links != 2 || a.Inode != hard.Inode || !a.Modified.Equal(before.ModTime()) || a.Perm != 0o640 {
		t.Errorf("the copy is not shown as the original was: %+v, %+v", a, hard)
	}
	if l, _ := tr.Lstat(ctx, "db/link"); l.Target != "a" {
		t.Errorf("%+v", l)
	}
	if _, err := tr.ChangedRanges(ctx, vss.NewGUID(), "db/a"); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("changed ranges: %v", err)
	}

	alone, err := OpenStaged(StagedOptions{Copy: c.Root})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	want = slices.DeleteFunc(want, func(s string) bool { return strings.Contains(s, " live") })
	if got := walk(t, alone, "."); !slices.Equal(got, want) {
		t.Errorf("the copy alone: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUnfinishedCopyIsNoTree(t *testing.T) {
	if _, err := OpenStaged(StagedOptions{Copy: t.TempDir()}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
