package requester

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// storedWriter is what a restore must know of a writer besides its document.
type storedWriter struct {
	Document     string   `json:"document"`
	Instance     vss.GUID `json:"instance"`
	Class        vss.GUID `json:"class"`
	Name         string   `json:"name"`
	InstanceName string   `json:"instance_name,omitempty"`
	Discovered   bool     `json:"discovered,omitempty"`
	Weak         string   `json:"weak,omitempty"`
	UID          uint32   `json:"uid"`
	GID          uint32   `json:"gid"`
}

// recordInfo saves the documents and describes the record.
func (b *backup) recordInfo(ctx context.Context, into *repository.Backup) (info repository.RecordInfo, err error) {
	docs := map[string]repository.Content{}
	put := func(name string, data []byte) {
		if err == nil {
			docs[name], err = into.PutBytes(ctx, data)
		}
	}
	lines := []HistoryLine{}
	if b.set && !b.req.NoWriters {
		bcd, err := b.sess.SaveAsXML(ctx)
		if err != nil {
			return info, err
		}
		put(DocBCD, bcd)
		if lines, err = b.history(bcd); err != nil {
			return info, err
		}
	}
	if b.repo.WriteOnly() {
		known, kerr := b.past.known(lines)
		if kerr != nil {
			return info, kerr
		}
		put(docKnown, known)
	}
	var stored []storedWriter
	for i, w := range b.writers {
		o := b.copier.owners[w]
		s := storedWriter{fmt.Sprintf("%s%d.xml", DocWriter, i), w.Instance, w.Class, w.Name, w.InstanceName,
			w.Info.Discovered, w.Info.Weak, o.uid, o.gid}
		put(s.Document, w.Info.Document)
		stored = append(stored, s)
	}
	b.putRanges(put)
	plan := b.res.Plan
	b.res.Plan = nil // it has a document of its own
	for name, v := range map[string]any{DocWriters: stored, DocPlan: plan, DocResult: b.res, DocHistory: lines} {
		data, jerr := json.MarshalIndent(v, "", " ")
		if jerr != nil {
			return info, jerr
		}
		put(name, data)
	}
	b.res.Plan = plan
	if err != nil {
		return info, fmt.Errorf("save documents: %w", err)
	}
	return b.describe(docs)
}

// Summary is the short account of a backup that a record carries, to be shown
// in lists without reading documents.
type Summary struct {
	Outcome  Outcome  `json:"outcome"`
	Level    string   `json:"level"`
	Required string   `json:"required_level"`
	Paths    []string `json:"paths,omitempty"`
	// Roots are the host's paths that data begins at; all of it lies at or
	// below them. A restore in place writes nowhere else, and may reach them,
	// and what is above them, through links.
	Roots []string `json:"roots,omitempty"`
	// Choice says of what the backup is, if it is not of all the paths have: the
	// selectors that name writers and components, those of components with a type
	// of their own, and whether components were left out for their writer does not
	// know the type (Request.StrictType). A backup does not take the place of one of
	// another choice.
	Choice     []string `json:"choice,omitempty"`
	Components []string `json:"components,omitempty"`
	// Types counts the explicit components by what the type asked for came to.
	Types   map[string]int `json:"types,omitempty"`
	Failed  int            `json:"failed"`
	LeftOut int            `json:"left_out"`
	Hold    time.Duration  `json:"hold_ns"`
	Totals  Totals         `json:"totals"`
	// Kept are the shadow copies that the backup left behind (--keep-base-shadow).
	// They may be gone by now.
	Kept []KeptShadow `json:"kept_shadow_copies,omitempty"`
}

// ReadSummary reads the summary of a record. Of one that has none, or none that
// can be read, ok is false. What it says comes from the medium.
func ReadSummary(rec *repository.Record) (s Summary, ok bool) {
	err := json.Unmarshal(rec.Summary, &s)
	return s, err == nil
}

// maxSummaryList bounds the lists of a summary.
const maxSummaryList = 100

func (b *backup) describe(docs map[string]repository.Content) (repository.RecordInfo, error) {
	s := Summary{Outcome: b.res.Outcome, Level: b.res.Level, Required: b.res.Required, Failed: b.res.Failed,
		LeftOut: b.res.LeftOuts, Totals: b.res.Totals, Kept: b.res.Kept}
	paths := b.req.dataPaths()
	for _, p := range paths[:min(len(paths), maxSummaryList)] {
		s.Paths = append(s.Paths, clip(p, 1000))
	}
	for _, top := range fewRoots(b.copier.tops()) {
		s.Roots = append(s.Roots, HostPath(b.style, top))
	}
	s.Choice = b.choice()
	for _, c := range b.sel.Explicit[:min(len(b.sel.Explicit), maxSummaryList)] {
		s.Components = append(s.Components, clip(c.Label(), 1000))
	}
	for _, c := range b.sel.Explicit {
		if s.Types == nil {
			s.Types = map[string]int{}
		}
		t := b.typing(c)
		s.Types[t.Type.Word()]++
	}
	if b.res.Receipt != nil {
		s.Hold = b.res.Receipt.Hold
	}
	summary, err := json.Marshal(s)
	if err != nil {
		return repository.RecordInfo{}, err
	}
	state := repository.Complete
	if b.res.Outcome >= Incomplete {
		state = repository.Incomplete
	}
	bases := b.bases()
	parents := len(bases)
	if plain := b.copier.base; plain != nil && !slices.Contains(bases, plain.ID) {
		parents++ // which Commit adds
	}
	root := repository.Root{ID: rootID, Path: "/"}
	return repository.RecordInfo{
		Time: b.res.Instant, Started: b.res.Started,
		Host: repository.Host{ID: b.host.ID, Name: b.host.Name, OS: b.host.OS, PathStyle: b.host.Style.String()},
		User: b.req.User, Program: b.req.Program, Type: b.res.Type, Tags: b.req.Tags, Roots: []repository.Root{root},
		State: state, Documents: docs, Summary: summary, Parents: bases,
		Attrs: map[string]string{"level": b.res.Level, "outcome": b.res.Outcome.String(), attrBases: fmt.Sprintf("%d/%d", len(bases), parents)},
	}, nil
}

// choice is [Summary].Choice, in an order that does not depend on that of the
// request.
func (b *backup) choice() (list []string) {
	add := func(kind string, selectors []string) {
		for _, text := range selectors {
			list = append(list, clip(kind+" "+text, 1000))
		}
	}
	add("writer", b.req.Selectors.Writers)
	add("component", b.req.Selectors.Components)
	add("own", b.req.ownSelectors())
	if b.strict {
		add("knows", []string{b.req.backupType().Word()})
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) <= maxSummaryList {
		return list
	}
	sum := sha256.Sum256([]byte(strings.Join(list, "\x00")))
	return append(list[:maxSummaryList], hex.EncodeToString(sum[:]))
}
