package requester

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// TestWritersWithoutFilesTakePartR_SEL_5: a component may hold no files, so that
// no path leads to it; whoever configured its writer wants it to bring to rest
// what it covers all the same.
func TestWritersWithoutFilesTakePartR_SEL_5(t *testing.T) {
	plain := func(m *metadata.WriterMetadata) []error { return []error{fileGroup(m, "scripts", true)} }
	for _, tt := range []struct {
		name    string
		build   func(m *metadata.WriterMetadata) []error
		setup   func(h *memHost, w *session.WriterInfo)
		req     Request
		want    string // explicit components
		outcome Outcome
	}{
		{name: "in every backup of paths", build: plain, req: Request{Paths: []string{"/srv"}}, want: "scripts"},
		{name: "also beside components that are named", build: plain,
			req: Request{Paths: []string{"/srv"}, Selectors: Selectors{Components: []string{"db"}}}, want: "db scripts"},
		{name: "not without paths", build: plain, req: Request{Selectors: Selectors{Components: []string{"db"}}}, want: "db"},
		{name: "not when excluded by name, and then it is not missed", build: plain,
			req: Request{Paths: []string{"/srv"}, Selectors: Selectors{ExcludeWriters: []string{"hooks"}}}},
		{name: "not one that nobody configured", build: plain, setup: func(_ *memHost, w *session.WriterInfo) { w.Discovered = true },
			req: Request{Paths: []string{"/srv"}}},
		{name: "not where the system brings its writers", build: plain, setup: func(h *memHost, _ *session.WriterInfo) { h.native = true },
			req: Request{Paths: []string{"/srv"}}},
		{name: "not one that cannot be chosen by itself", req: Request{Paths: []string{"/srv"}},
			build: func(m *metadata.WriterMetadata) []error { return []error{fileGroup(m, "group", false)} }},
		{name: "not one whose members have files", req: Request{Paths: []string{"/srv"}},
			build: func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "group", true), fileGroup(m, `group\part`, false, spec("/opt", "*", true))}
			}},
		{name: "its members come with it", req: Request{Paths: []string{"/srv"}}, want: "group",
			build: func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "group", true), fileGroup(m, `group\part`, true)}
			}},
		{name: "R-SEL-6: not if files would come along that nobody chose", req: Request{Paths: []string{"/srv"}},
			build: func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "group", true), fileGroup(m, "always", false, spec("/opt", "*", true))}
			}},
		{name: "R-SEL-31: nor if it depends on others", req: Request{Paths: []string{"/srv"}},
			build: func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "group", true),
					m.AddComponentDependency("", "group", metadata.Dependency{WriterClass: classOf("app"), Name: "db"})}
			}},
		{name: "of a writer that is named only what is named", req: Request{Paths: []string{"/srv"}, Selectors: Selectors{Components: []string{"hooks:files"}}}, want: "files",
			build: func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "group", true), fileGroup(m, "files", true, spec("/opt", "*", true))}
			}},
		{name: "when it fails the backup is not complete", build: plain, req: Request{Paths: []string{"/srv"}}, want: "scripts", outcome: Incomplete,
			setup: func(h *memHost, w *session.WriterInfo) {
				h.status["snapshot"] = []session.WriterStatus{failedWriter(w, vss.WriterFailedAtFreeze)}
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newMemHost(volume("srv/x", "opt/y", "data/db"))
			h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "db", true, spec("/data", "db", false))}
			})
			w := h.writer(t, "hooks", tt.build)
			if tt.setup != nil {
				tt.setup(h, w)
			}
			res, _, _ := backedUp(t, h, tt.req)
			var got []string
			for _, c := range h.explicit {
				got = append(got, c.Name)
			}
			if strings.Join(got, " ") != tt.want || res.Outcome != tt.outcome {
				t.Errorf("took %q, want %q; outcome %v, want %v: %+v", got, tt.want, res.Outcome, tt.outcome, res.LeftOut)
			}
			if tt.want == "scripts" && !strings.Contains(fmt.Sprint(res.Plan.Writers), whyResting) {
				t.Errorf("the plan does not say why: %+v", res.Plan.Writers)
			}
		})
	}
}

// TestRestThatIsOfNoUseIsSaid: data that is read after everybody has gone on was
// not brought to rest.
func TestRestThatIsOfNoUseIsSaid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		setup  func(v *memVolume)
		warned bool
	}{
		{"one operation takes the volume", func(*memVolume) {}, false},
		{"files are copied one by one, and only those claimed", func(v *memVolume) { v.atomic = false }, true},
		{"files are copied one by one, all of them", func(v *memVolume) { v.atomic, v.unclaimed = false, true }, false},
		{"there is no shadow copy", func(v *memVolume) { v.unserved = "no provider" }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := volume("srv/x")
			tt.setup(v)
			h := newMemHost(v)
			h.writer(t, "hooks", func(m *metadata.WriterMetadata) []error { return []error{fileGroup(m, "scripts", true)} })
			p, err := MakePlan(t.Context(), h.open, Request{Paths: []string{"/srv"}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if warned := strings.Contains(fmt.Sprint(p.Warnings), "gone on already"); warned != tt.warned {
				t.Errorf("warnings %q", p.Warnings)
			}
		})
	}
}
