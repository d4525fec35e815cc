package local

import (
	"fmt"
	"path"
	"testing"
)

// The names of folders that are there are made durable once, and not anew for each
// that is written into.
func TestFoldersThatAreThereAreSyncedTogether(t *testing.T) {
	d := unsyncedHome(t)
	put := func(n int) {
		t.Helper()
		s := open(home, d)
		for i := range 5 {
			if err := s.Put(t.Context(), fmt.Sprintf("data/%02d/object-%d", i, n), []byte("data")); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(1)
	synced := 0
	d.fault = func(op operation, name string) *fault {
		if op == opSyncDir && name == path.Join(home, "data") {
			synced++
		}
		return nil
	}
	put(2)
	if synced != 1 {
		t.Errorf("the folder above was synced %d times, want once", synced)
	}
}
