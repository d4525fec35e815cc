package main

import (
	"slices"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
)

// TestRulesAreAppliedToEachGroupApart: hosts and paths do not count for each
// other, but what a kept backup needs of another group is kept.
func TestRulesAreAppliedToEachGroupApart(t *testing.T) {
	var records []*repository.Record
	add := func(host, kind string, tags []string, parents []repository.ID, paths ...string) {
		n := len(records) + 1
		rec := &repository.Record{ID: repository.ID{byte(n)}}
		rec.Host.ID, rec.Host.Name, rec.Type, rec.Tags, rec.Parents, rec.State = host, host, kind, tags, parents, repository.Complete
		rec.Time = time.Unix(1_700_000_000, 0).Add(time.Duration(n) * time.Hour)
		for _, p := range paths {
			rec.Roots = append(rec.Roots, repository.Root{ID: p, Path: p})
		}
		records = append(records, rec)
	}
	add("a", "full", nil, nil, "/x")                                // 1
	add("a", "full", nil, nil, "/x", "/y")                          // 2
	add("b", "full", nil, nil, "/x")                                // 3
	add("a", "full", []string{"t"}, nil, "/x")                      // 4
	add("a", "full", nil, nil, "/y", "/x")                          // 5: the same paths
	add("b", "differential", nil, []repository.ID{{3}}, "/x")       // 6
	add("a", "differential", nil, []repository.ID{{1}}, "/x", "/y") // 7: of another group
	add("a", "full", nil, []repository.ID{{4}}, "/z")               // 8: needs nothing of what it was made against
	for _, c := range []struct {
		name string
		o    forgetFlags
		want []byte
	}{
		{"host and paths", forgetFlags{groupBy: []string{"host", "paths"}}, []byte{1, 3, 4, 6, 7, 8}},
		{"host", forgetFlags{groupBy: []string{"host"}}, []byte{3, 6, 8}},
		{"tags", forgetFlags{groupBy: []string{"tags"}}, []byte{4, 8}},
		{"all together", forgetFlags{}, []byte{8}},
		{"one host alone", forgetFlags{groupBy: []string{"host", "paths"}, host: "b"}, []byte{3, 6}},
		{"one path alone", forgetFlags{groupBy: []string{"host", "paths"}, paths: []string{"/y"}}, []byte{7}},
		{"one tag alone", forgetFlags{groupBy: []string{"host", "paths"}, tags: []string{"t"}}, []byte{4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.keep = repository.Retention{Last: 1, Chain: func(rec *repository.Record) []repository.ID {
				if rec.Type == "full" {
					return nil
				}
				return rec.Parents
			}}
			var kept []byte
			for _, v := range ruledVerdicts(&c.o, records) {
				if len(v.Keep) > 0 {
					kept = append(kept, v.Record.ID[0])
				}
			}
			slices.Sort(kept)
			if !slices.Equal(kept, c.want) {
				t.Errorf("kept %v, want %v", kept, c.want)
			}
		})
	}
}

// TestBasesOfForgottenBackupsOfOtherGroupsGo: a base is kept for what stays, and
// not for what is forgotten with it.
func TestBasesOfForgottenBackupsOfOtherGroupsGo(t *testing.T) {
	var records []*repository.Record
	for i, r := range []struct {
		path, kind string
		parents    []repository.ID
	}{{"/x", "full", nil}, {"/x", "full", nil}, {"/y", "differential", []repository.ID{{1}}}, {"/y", "full", nil}} {
		rec := &repository.Record{ID: repository.ID{byte(i + 1)}}
		rec.Time, rec.State = time.Unix(int64(i), 0), repository.Complete
		rec.Type, rec.Parents, rec.Roots = r.kind, r.parents, []repository.Root{{ID: r.path, Path: r.path}}
		records = append(records, rec)
	}
	o := forgetFlags{groupBy: []string{"paths"}}
	o.keep = repository.Retention{Last: 1, Chain: func(rec *repository.Record) []repository.ID { return rec.Parents }}
	var kept []byte
	for _, v := range ruledVerdicts(&o, records) {
		if len(v.Keep) > 0 {
			kept = append(kept, v.Record.ID[0])
		}
	}
	slices.Sort(kept)
	if !slices.Equal(kept, []byte{2, 4}) {
		t.Errorf("kept %v", kept)
	}
}
