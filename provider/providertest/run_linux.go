package providertest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// Harness is what a provider's test gives the suite.
type Harness struct {
	// New makes a provider that shares nothing with those made before, as
	// if the process had started again.
	New func() provider.Provider
	// Volume makes an empty volume the provider serves, with some 100 MiB
	// of room, that goes when the test ends.
	Volume func(t *testing.T) Volume
	// Unserved makes volumes the provider must refuse. The key says why.
	Unserved map[string]func(t *testing.T) Volume
}

// Volume is a volume and what the suite does with it.
type Volume struct {
	provider.Volume
	// Area for copies. Its parent is there, it itself is not.
	Area string
	// Fill leaves about so many bytes free; Empty gives the room back. Both
	// are nil where a test cannot fill the file system.
	Fill  func(t testing.TB, leave int64)
	Empty func(t testing.TB)
	// Subvolume makes a volume nested in this one, at a path; nil if the
	// file system has no such thing.
	Subvolume func(t testing.TB, path string)
}

// FromVoltest describes a volume made by package voltest, with its area in its
// own root.
func FromVoltest(v *voltest.Volume) Volume {
	w := Volume{
		Volume: provider.Volume{ID: v.UUID, Root: v.Root, FSType: v.FSType, Source: v.Device, Persistent: v.UUID != ""},
		Area:   filepath.Join(v.Root, provider.AreaName),
		Fill:   v.Fill, Empty: v.Empty,
	}
	if v.FSType == "btrfs" {
		w.Subvolume = voltest.Subvolume
	}
	return w
}

// holdLimit is what the suite allows a Commit: long, for machines are slow.
const holdLimit = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	tests := []struct {
		name string
		f    func(*testing.T, *fixture)
	}{
		{"InfoIsFixed", testInfo},
		{"CopyShowsTheStateAtCommit", testCopy},
		{"LaterChangesAreNotInTheCopy", testLater},
		{"FilesComeAndGoBeforeCommit", testComeAndGo},
		{"ChangesThatHideAreFound", testHidden},
		{"StoresThroughMappingsAreFound", testMapped},
		{"LargeFilesAreTheirStateAtCommit", testLarge},
		{"NothingOutsideTheScopeIsCopied", testScope},
		{"UnclaimedDataIsAllThereOrNotAtAll", testUnclaimed},
		{"HostileNames", testNames},
		{"StoppedWriter", testStopped},
		{"LivingFilesFailNothing", testRiot},
		{"WhatMovesInCommitIsNamed", testMoves},
		{"DurableWritesKeepTheirOrder", testOrdered},
		{"StepsOutOfOrderAreBadState", testOrder},
		{"AbortAtEveryStepLeavesNothing", testAbort},
		{"AbortWhileAStepRuns", testAbortRunning},
		{"DeadProcessLeavesWhatDeleteFinds", testDeath},
		{"DeleteOfNothing", testDeleteNothing},
		{"Locate", testLocate},
		{"NoRoomIsSaidBeforehand", testNoRoom},
		{"RoomLostBeforeCommitIsAFailure", testRoomLost},
		{"HoldLimitIsSaidBeforehand", testHoldLimit},
		{"EndedContext", testContext},
		{"AreaIsPrivate", testArea},
		{"LinksDoNotLeadOut", testLinks},
		{"LinksSwappedInALoop", testSwap},
		{"OtherVolumesAreNotEntered", testNested},
		{"CopiesBesideEachOther", testBeside},
		{"ChangedRangesCoverWhatDiffers", testRangesCover},
		{"ChangedRangesOfRandomChanges", testRangesFuzz},
		{"ChangedRangesAreRefused", testRangesRefused},
		{"SpaceOfItsOwn", testHeld},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) { c.f(t, newFixture(t, h, h.Volume(t))) })
	}
	t.Run("Refuses", func(t *testing.T) {
		for why, volume := range h.Unserved {
			t.Run(why, func(t *testing.T) { testUnserved(t, h, volume(t)) })
		}
	})
}

// fixture is one provider with one volume.
type fixture struct {
	h    Harness
	p    provider.Provider
	v    Volume
	caps provider.Capabilities
}

func newFixture(t *testing.T, h Harness, v Volume) *fixture {
	t.Helper()
	f := &fixture{h: h, p: h.New(), v: v}
	var err error
	if f.caps, err = f.p.Supports(t.Context(), v.Volume, v.Area); err != nil {
		t.Fatalf("Supports: %v", err)
	}
	if f.caps.Atomic && f.caps.NeedsScope {
		t.Fatal("a copy cannot be both atomic over the volume and restricted to a scope")
	}
	if f.caps.ClaimedOnly && !f.caps.NeedsScope {
		t.Fatal("a copy of claimed files only is one of a scope")
	}
	if _, err := os.Lstat(v.Area); !os.IsNotExist(err) {
		t.Fatalf("Supports left the area behind: %v", err)
	}
	return f
}

// scope is the one most tests use.
func scope() provider.Scope {
	return provider.Scope{Claims: []provider.Claim{{
		Writer: "test writer",
		Files: []provider.FileSet{
			{Dir: "data", Pattern: "*", Recursive: true},
			{Dir: "var/log", Pattern: "*.log"},
		},
		Exclude: []provider.FileSet{
			{Dir: "data/cache", Pattern: "*", Recursive: true},
			{Dir: "data", Pattern: "*.skip", Recursive: true},
		},
	}}}
}

func (f *fixture) request() provider.Request {
	return provider.Request{
		Ref: provider.Ref{Provider: f.p.Info().ID, SetID: vss.NewGUID(), SnapshotID: vss.NewGUID(),
			Volume: f.v.Volume, Area: f.v.Area},
		Scope: scope(), HoldLimit: holdLimit,
	}
}

func (f *fixture) path(elem ...string) string {
	return filepath.Join(append([]string{f.v.Root}, elem...)...)
}

// steps are the methods of a Snapshot in their order.
var steps = []string{"Estimate", "EndPrepare", "PreCommit", "Commit", "PostCommit"}

// making is a copy in the making.
type making struct {
	*fixture
	req    provider.Request
	snap   provider.Snapshot
	copied provider.Copied
}

func (f *fixture) begin(t *testing.T, req provider.Request) *making {
	t.Helper()
	s, err := f.p.BeginPrepare(t.Context(), req)
	if err != nil {
		t.Fatalf("BeginPrepare: %v", err)
	}
	m := &making{fixture: f, req: req, snap: s}
	t.Cleanup(func() { s.Abort(t.Context()) })
	return m
}

// do calls one step.
func (m *making) do(t *testing.T, step string) (err error) {
	ctx := t.Context()
	switch step {
	case "Estimate":
		_, err = m.snap.Estimate(ctx)
	case "EndPrepare":
		err = m.snap.EndPrepare(ctx)
	case "Refresh":
		if r, ok := m.snap.(provider.Refresher); ok {
			err = r.Refresh(ctx)
		}
	case "PreCommit":
		err = m.snap.PreCommit(ctx)
	case "Commit":
		err = m.snap.Commit(ctx)
	case "PostCommit":
		m.copied, err = m.snap.PostCommit(ctx)
	default:
		t.Fatalf("no step is called %q", step)
	}
	return err
}

// must calls steps that must succeed.
func (m *making) must(t *testing.T, names ...string) {
	t.Helper()
	for _, s := range names {
		if err := m.do(t, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// prepared is a copy as far as EndPrepare.
func (f *fixture) prepared(t *testing.T, req provider.Request) *making {
	t.Helper()
	m := f.begin(t, req)
	m.must(t, "Estimate", "EndPrepare")
	return m
}

// finish goes from there to the end.
func (m *making) finish(t *testing.T) provider.Copied {
	t.Helper()
	m.must(t, "PreCommit", "Commit", "PostCommit")
	if m.copied.Root == "" || !filepath.IsAbs(m.copied.Root) {
		t.Fatalf("the copy's root is %q, want an absolute path", m.copied.Root)
	}
	return m.copied
}

// wantCode checks the code of an error.
func wantCode(t *testing.T, what string, err error, want vss.Code) {
	t.Helper()
	if got := vss.CodeOf(err); got != want || err == nil {
		t.Errorf("%s: %v; want %s", what, err, want.Name())
	}
}

// nothingLeft checks that the area is gone.
func (f *fixture) nothingLeft(t *testing.T, when string) {
	t.Helper()
	if _, err := os.Lstat(f.v.Area); !os.IsNotExist(err) {
		left, _ := os.ReadDir(f.v.Area)
		t.Errorf("%s: the area is still there (%v) and holds %v", when, err, left)
	}
}
