package repository

import (
	"context"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// listCounter counts how often what begins with a prefix is listed.
type listCounter struct {
	store.Store
	lists map[string]int
}

func (c *listCounter) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	c.lists[prefix]++
	return c.Store.List(ctx, prefix, f)
}

// A store flushes each folder that it lists, or bills for it: packs are listed
// once, though a backup asks two things of them.
func TestABackupListsThePacksOnceWhenItBegins(t *testing.T) {
	st := &listCounter{mem.New(), map[string]int{}}
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	addFile(t, b, "a", randomData(100_000, 5))
	commit(t, b, testInfo())
	clear(st.lists)
	begin(t, r, nil)
	if st.lists[prefixData] != 1 || st.lists[prefixMeta] != 1 {
		t.Errorf("lists: %v", st.lists)
	}
}
