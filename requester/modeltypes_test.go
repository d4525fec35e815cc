package requester

import (
	"slices"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/requester/internal/model"
	"github.com/sombra-backup/sombra/vss"
)

var allTypes = []vss.BackupType{vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog, vss.BackupTypeCopy}

// TestTypesAgainstModel compares what a type comes to, and the base it builds
// upon, with the model for random writers and histories: R-TYPE-2 to R-TYPE-10,
// D-19, D-22, D-30.
func TestTypesAgainstModel(t *testing.T) {
	r, runs := seeded(t, 50_000)
	c := model.ID{Writer: "w", Component: "c"}
	for run := range runs {
		m := model.Writer{Name: "w", Schema: vss.BackupSchema(r.IntN(0x80)), Components: []model.Component{{Path: "c", Selectable: true}}}
		w := &Writer{Name: "w", Schema: m.Schema}
		var h model.History
		var counts []vss.BackupType
		for range 1 + r.IntN(8) {
			asked, strict := pick(r, allTypes...), r.IntN(4) == 0
			want := h.Decide(&m, "c", asked, strict)
			got := DecideType(asked, w, told(h, counts), strict)
			base := -1
			if got.Base != nil {
				base = int(got.Base.Time.Unix())
			}
			if (got.LeftOut != "") != want.Out || !want.Out && (got.Type != want.Type || base != want.Base || got.Asked != asked) {
				t.Fatalf("run %d, schema %v, history %+v: %v comes to %+v, want %+v", run, m.Schema, h, asked, got, want)
			}
			if !want.Out && (want.Type != asked || want.Base < 0 && asked != vss.BackupTypeFull && asked != vss.BackupTypeCopy) && len(got.Notes) == 0 {
				t.Fatalf("run %d: %v came to %v and nobody says so", run, asked, got.Type)
			}
			want.Failed = r.IntN(6) == 0
			h = append(h, &model.Record{Parts: map[model.ID]model.Part{c: want}, Gone: r.IntN(10) == 0})
			counts = append(counts, got.Counts)
		}
	}
}

// told is what records tell of a component, from what each part counts as.
func told(h model.History, counts []vss.BackupType) (out ComponentHistory) {
	c := model.ID{Writer: "w", Component: "c"}
	newest := func(types ...vss.BackupType) *Base {
		for i := len(h) - 1; i >= 0; i-- {
			if h.Chain(i, c) != nil && slices.Contains(types, counts[i]) {
				return &Base{Time: time.Unix(int64(i), 0)}
			}
		}
		return nil
	}
	out.Full = newest(vss.BackupTypeFull)
	out.Incremental = newest(vss.BackupTypeFull, vss.BackupTypeIncremental)
	out.Log = newest(vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeLog)
	for i := range h {
		if h.Chain(i, c) == nil || out.Full != nil && i <= int(out.Full.Time.Unix()) {
			continue
		}
		switch h[i].Parts[c].Type {
		case vss.BackupTypeIncremental:
			out.Incrementals = true
		case vss.BackupTypeDifferential:
			out.Differentials = true
		}
	}
	return out
}
