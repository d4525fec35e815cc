package requester_test

import (
	"context"
	"errors"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// A provider that copies what writers claim is not asked for a copy of nothing:
// no set is begun, no keeper started.
func TestNoShadowCopyIsMadeThatNothingWouldBeIn(t *testing.T) {
	w := newWorld(t)
	w.opts.Providers = []provider.Provider{precopy.New()}
	w.opts.Executable = "/nonexistent/sombra" // a keeper would be this program
	w.write("a", "data")
	for _, r := range []requester.Request{{Paths: []string{w.dir}}, {Paths: []string{w.dir}, NoWriters: true}} {
		res := w.backup(r)
		if res.Receipt != nil || res.Outcome != requester.Complete || res.Totals.Files != 1 {
			t.Errorf("receipt %v, outcome %v, %d files", res.Receipt, res.Outcome, res.Totals.Files)
		}
		for _, v := range res.Plan.Volumes {
			if v.Provider != "" || v.Refusal != "" || v.UnclaimedLevel != session.LevelNone.String() {
				t.Errorf("plan of %s: provider %q, refusal %q, level %s", v.Root, v.Provider, v.Refusal, v.UnclaimedLevel)
			}
		}
	}
}

// listened tells when a directory called dir of the live volume is listed.
type listened struct {
	session.Session
	dir    string
	once   *sync.Once
	listed chan struct{}
}

func (s listened) Live(ctx context.Context, id string) (session.Tree, error) {
	t, err := s.Session.Live(ctx, id)
	return listenedTree{t, s}, err
}

type listenedTree struct {
	session.Tree
	of listened
}

func (t listenedTree) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	if path.Base(name) == t.of.dir {
		t.of.once.Do(func() { close(t.of.listed) })
	}
	return t.Tree.ReadDir(ctx, name, fn)
}

// TestListingBeginsBeforeTheRepositoryIsOpen: but not where a shadow copy has to be
// waited for.
func TestListingBeginsBeforeTheRepositoryIsOpen(t *testing.T) {
	for name, claimed := range map[string]bool{"nothing is frozen": false, "a shadow copy is made": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.opts.Providers = []provider.Provider{precopy.New()}
			w.write("app/db", "data")
			w.write("other/file", "data")
			if claimed {
				w.writers = []*docWriter{newDocWriter("app", func(m *metadata.WriterMetadata) []error {
					return []error{group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", true)}
				})}
			}
			listed := make(chan struct{})
			open := func(ctx context.Context) (session.Session, error) {
				s, err := w.open(ctx)
				return listened{s, "other", new(sync.Once), listed}, err
			}
			early := false
			repo := func(context.Context) (*repository.Repository, error) {
				patience := time.Minute
				if claimed {
					patience = 300 * time.Millisecond
				}
				select {
				case <-listed:
					early = true
				case <-time.After(patience):
				}
				return w.repo, nil
			}
			res, err := requester.BackupTo(t.Context(), open, repo, requester.Request{Paths: []string{w.dir}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if early == claimed {
				t.Errorf("listed before the repository was open: %v", early)
			}
			if res.Totals.Files != 2 {
				t.Errorf("%d files, want 2", res.Totals.Files)
			}
		})
	}
}

// A backup whose repository does not open ends what it has begun to list.
func TestListingEndsIfTheRepositoryDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	w.opts.Providers = []provider.Provider{precopy.New()}
	for i := range 200 {
		w.write("d"+string(rune('a'+i%26))+"/f"+string(rune('a'+i/26)), "data")
	}
	listed := make(chan struct{})
	open := func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		return listened{s, "da", new(sync.Once), listed}, err
	}
	wrong := errors.New("wrong password")
	_, err := requester.BackupTo(t.Context(), open, func(context.Context) (*repository.Repository, error) {
		<-listed
		return nil, wrong
	}, requester.Request{Paths: []string{w.dir}}, nil)
	if !errors.Is(err, wrong) {
		t.Errorf("%v, want %v", err, wrong)
	}
}
