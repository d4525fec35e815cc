//go:build linux

package requester_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
)

// TestManyFileSets backs up a directory in which a writer names each of 12 000
// files by itself, which makes a document of more than 1 MB, among files of nobody.
// Each set tried for each file, or each pair of sets, would take many minutes.
func TestManyFileSets(t *testing.T) {
	const sets, plain = 12_000, 3_000
	w := newWorld(t)
	for i := range sets {
		w.write(fmt.Sprintf("data/db%05d", i), "x")
	}
	for i := range plain {
		w.write(fmt.Sprintf("data/file%05d", i), "y")
	}
	w.writers = []*docWriter{
		newDocWriter("app", func(m *metadata.WriterMetadata) []error {
			errs := []error{group(m, "", "all", true)}
			for i := range sets {
				errs = append(errs, files(m, "", "all", w.path("data"), fmt.Sprintf("db%05d", i), false))
			}
			return errs
		}),
		newDocWriter("rival", func(m *metadata.WriterMetadata) []error {
			errs := []error{group(m, "", "other", true)}
			for i := range sets {
				errs = append(errs, files(m, "", "other", w.path("data"), fmt.Sprintf("none%05d*", i), false))
			}
			return append(errs, files(m, "", "other", w.path("data"), "file00000", false))
		}),
	}
	start := time.Now()
	res := w.backup(requester.Request{Paths: []string{w.dir}})
	took := time.Since(start)
	if res.Outcome != requester.Complete || res.Totals.Files != sets+plain {
		t.Errorf("outcome %v, %d files: %s %.500v", res.Outcome, res.Totals.Files, leftOut(res.LeftOut), res.Failures)
	}
	for _, c := range res.Components {
		if want := map[string]int64{"all": sets, "other": 1}[c.Name]; c.Files != want {
			t.Errorf("%s has %d files, want %d", c.Name, c.Files, want)
		}
	}
	t.Logf("%d file sets and %d files in %v", 2*sets, sets+plain, took)
	if took > 90*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestMemoryDoesNotGoWithFiles backs up many small files and looks at what is
// held meanwhile: it must not be the list of them.
func TestMemoryDoesNotGoWithFiles(t *testing.T) {
	const dirs, each = 75, 400
	w := newWorld(t)
	for d := range dirs {
		w.mkdir(fmt.Sprintf("d%03d", d))
		for f := range each {
			if err := os.WriteFile(filepath.Join(w.dir, fmt.Sprintf("d%03d", d), fmt.Sprintf("some file with a name of usual length %04d", f)), []byte{byte(f)}, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	done, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	res := w.backup(requester.Request{Paths: []string{w.dir}})
	close(done)
	<-stopped
	if res.Outcome != requester.Complete || res.Totals.Files != dirs*each {
		t.Errorf("outcome %v, %d files", res.Outcome, res.Totals.Files)
	}
	grown := int64(most.Load()) - int64(before.HeapInuse)
	t.Logf("%d files, the heap grew by %d MiB at most", dirs*each, grown>>20)
	// The repository lies in memory here, with some 1 KiB for each file; an
	// entry with its attributes takes as much again.
	if limit := int64(160 << 20); grown > limit {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}
