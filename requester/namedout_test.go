package requester

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// unheardWriter is the status of a writer that did not identify itself.
func unheardWriter(kind, instance string) session.WriterStatus {
	return session.WriterStatus{Instance: vss.NewGUID(), Name: kind, InstanceName: instance, State: vss.WriterFailedAtIdentify,
		Failure: vss.ErrWriterInfrastructure, Message: "its server is of another version", Event: "Identify"}
}

// TestWhatIsNamedAndNotSavedIsNeverComplete: a name without its writer's may be that of
// components of several writers. If one of them cannot be had, or nobody can tell
// whether it is one of them, the backup says so.
func TestWhatIsNamedAndNotSavedIsNeverComplete(t *testing.T) {
	orders := Selectors{Components: []string{"orders"}}
	unheard := func(h *memHost, _ *session.WriterInfo) {
		h.status[""] = []session.WriterStatus{unheardWriter("gamma", "gamma:/g")}
	}
	kin := func(h *memHost, _ *session.WriterInfo) {
		h.status[""] = []session.WriterStatus{unheardWriter("alpha", "alpha:/g")}
	}
	garbled := func(h *memHost, _ *session.WriterInfo) {
		h.writers = append(h.writers, session.WriterInfo{Instance: classOf("gamma"), Document: []byte("<")})
	}
	failing := func(phase string, state vss.WriterState) func(*memHost, *session.WriterInfo) {
		return func(h *memHost, w *session.WriterInfo) {
			h.status[phase] = []session.WriterStatus{failedWriter(w, state)}
		}
	}
	unserved := func(h *memHost, _ *session.WriterInfo) { h.volumes[1].unserved = "no provider" }
	for _, tt := range []struct {
		name    string
		setup   func(h *memHost, beta *session.WriterInfo)
		req     Request
		outcome Outcome
		says    []string // of what is left out and nobody asked to leave out
	}{
		{"both", func(*memHost, *session.WriterInfo) {}, Request{Selectors: orders}, Complete, nil},
		{"one fails to prepare", failing("prepare", vss.WriterFailedAtPrepareBackup), Request{Selectors: orders}, Incomplete, []string{"beta", "orders"}},
		{"one fails to freeze", failing("snapshot", vss.WriterFailedAtFreeze), Request{Selectors: orders}, Incomplete, []string{"beta", "orders"}},
		{"no shadow copy for one", unserved, Request{Selectors: orders}, Incomplete, []string{"beta", "no provider"}},
		{"nor plain files without a path", unserved, Request{Selectors: orders, AsPlainFiles: true}, Incomplete, []string{"beta", "no provider"}},
		{"plain files below a path", unserved, Request{Selectors: orders, AsPlainFiles: true, Paths: []string{"/b"}}, Complete, nil},

		{"of a third nothing is known", unheard, Request{Selectors: orders}, Incomplete,
			[]string{"gamma:/g", "'orders'", "--component 'alpha instance:orders'", "--exclude-writer 'gamma:/g'", "another version"}},
		{"the writer is named as well", unheard, Request{Selectors: Selectors{Components: []string{"alpha instance:orders"}}}, Complete, nil},
		{"also if it may be called as the third's kind", kin, Request{Selectors: Selectors{Components: []string{"alpha instance:orders"}}}, Complete, nil},
		{"or it alone is", kin, Request{Selectors: Selectors{Writers: []string{"alpha instance"}}}, Complete, nil},
		{"by a name that the third may have, too", kin, Request{Selectors: Selectors{Components: []string{"alpha:orders"}}}, Incomplete, []string{"alpha:/g"}},
		{"the name is a writer's", unheard, Request{Selectors: Selectors{Components: []string{"alpha"}}}, Complete, nil},
		{"the name is the third writer's too", unheard, Request{Selectors: Selectors{Components: []string{"gamma", "beta"}}}, Failed,
			[]string{"--component 'gamma'", "gamma:/g did not identify itself", "another version"}},
		{"the third is excluded", unheard, Request{Selectors: Selectors{Components: []string{"orders"}, ExcludeWriters: []string{"gamma:/g"}}}, Complete, nil},
		{"the name is a place", unheard, Request{Selectors: Selectors{Components: []string{"/a/db"}}}, Complete, nil},
		{"the name is the third's place", func(h *memHost, _ *session.WriterInfo) {
			h.status[""] = []session.WriterStatus{unheardWriter("gamma", "gamma:/a/db")}
		}, Request{Selectors: Selectors{Components: []string{"/a/db"}}}, Incomplete, []string{"gamma:/a/db", "--component 'alpha instance:/a/db'"}},
		{"one of two names is a place", unheard, Request{Selectors: Selectors{Components: []string{"/a/db", "orders"}}}, Incomplete, []string{"'orders'"}},
		{"only the third could have it", unheard, Request{Selectors: Selectors{Components: []string{"invoices"}}}, Failed,
			[]string{"'invoices'", "gamma:/g did not identify itself", "another version"}},
		{"and has the system's state for all one knows", unheard, Request{SystemState: true, Selectors: Selectors{Writers: []string{"alpha"}}}, Incomplete,
			[]string{"gamma:/g"}},

		{"the third's document cannot be read", garbled, Request{Selectors: orders}, Incomplete, []string{classOf("gamma").String(), "'orders'"}},
		{"nor is it asked for", garbled, Request{Selectors: Selectors{Components: []string{"alpha instance:orders"}}}, Complete, nil},
		{"but for all below a path", garbled, Request{Paths: []string{"/b"}}, Incomplete, []string{classOf("gamma").String()}},

		{"a configured one has some of its files", func(h *memHost, beta *session.WriterInfo) { beta.Discovered = true },
			Request{Selectors: Selectors{Components: []string{"shared"}}}, Incomplete, []string{"beta", "/b/only", "configured"}},
		{"or all", func(h *memHost, beta *session.WriterInfo) {
			beta.Discovered = true
			delete(h.volumes[1].files, "only")
		}, Request{Selectors: Selectors{Components: []string{"shared"}}}, Complete, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := volume("x", "only")
			b.id, b.root = "vol-b", "/b"
			h := newMemHost(volume("a/x", "a/db", "a/s"), b)
			h.writer(t, "alpha", func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "orders", true, spec("/a", "x", false)), fileGroup(m, "/a/db", true, spec("/a", "db", false)),
					fileGroup(m, "shared", true, spec("/a", "s", false))}
			})
			beta := h.writer(t, "beta", func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "orders", true, spec("/b", "x", false)),
					fileGroup(m, "shared", true, spec("/a", "s", false), spec("/b", "only", false))}
			})
			tt.setup(h, beta)
			res, err := Backup(t.Context(), h.open, memRepo(t), tt.req, nil)
			if res.Outcome != tt.outcome || (err != nil) != (tt.outcome == Failed) {
				t.Fatalf("outcome %v, want %v: %v; %+v", res.Outcome, tt.outcome, err, res.LeftOut)
			}
			text := fmt.Sprint(err)
			for _, l := range res.LeftOut {
				if !l.Asked {
					text += fmt.Sprintf("; %s %s: %s", l.Writer, l.Component, l.Reason)
				}
			}
			for _, part := range tt.says {
				if !strings.Contains(text, part) {
					t.Errorf("%q does not say %q", text, part)
				}
			}
		})
	}
}
