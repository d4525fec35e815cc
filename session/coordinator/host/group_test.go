package host

import (
	"fmt"
	"testing"

	"github.com/sombra-backup/sombra/writer"
)

func TestGroupPutsTogetherWhatHasOneKindAndOwner(t *testing.T) {
	alice := writer.Owner{UID: 1, GID: 1, Groups: []uint32{3, 2}}
	same := writer.Owner{UID: 1, GID: 1, Groups: []uint32{2, 3, 2}}
	fewer := writer.Owner{UID: 1, GID: 1, Groups: []uint32{2}}
	groups := Group([]writer.Spec{
		{Kind: "a", Name: "1", Owner: alice},
		{Kind: "b", Name: "2", Owner: alice},
		{Kind: "a", Name: "3", Owner: writer.Owner{UID: 2}},
		{Kind: "a", Name: "4", Owner: same},
		{Kind: "a", Name: "5", Owner: fewer},
		{Kind: "a", Name: "6", Owner: alice},
	})
	var got string
	for _, g := range groups {
		for _, s := range g {
			got += s.Name
		}
		got += " "
	}
	if want := "146 2 3 5 "; got != want {
		t.Errorf("groups %q, want %q", got, want)
	}
}

func TestGroupBoundsTheWritersOfAHost(t *testing.T) {
	specs := make([]writer.Spec, 2*maxSpecs+1)
	for i := range specs {
		specs[i].Name = fmt.Sprint(i)
	}
	groups := Group(specs)
	if len(groups) != 3 || len(groups[0]) != maxSpecs || len(groups[2]) != 1 {
		t.Errorf("%d groups, want 3 of at most %d", len(groups), maxSpecs)
	}
	if groups[1][0].Name != fmt.Sprint(maxSpecs) {
		t.Error("the order is not kept")
	}
}
