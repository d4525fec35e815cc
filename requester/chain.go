package requester

import (
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// attrBases is the attribute of a record that tells its parents apart: "2/3" says
// that components build upon the first two of three. The last one is only where
// unchanged files were taken from.
const attrBases = "bases"

// Chain gives the records that restoring rec needs besides itself: those that
// its components build upon, and in turn what these need. A full or a copy backup
// may have taken unchanged files from an earlier one, which it does not need. Of
// a type this program does not know, and where it is not told, everything is
// needed.
func Chain(rec *repository.Record) []repository.ID {
	switch rec.Type {
	case vss.BackupTypeFull.Word(), vss.BackupTypeCopy.Word(), "":
		return nil
	}
	var n, of int
	_, err := fmt.Sscanf(rec.Attrs[attrBases], "%d/%d", &n, &of)
	if err != nil || of != len(rec.Parents) || n < 0 || n > of {
		return rec.Parents
	}
	return rec.Parents[:n]
}

// bases lists the records that the components of a backup build upon.
func (a *attempt) bases() (out []repository.ID) {
	for _, c := range a.sel.Explicit {
		if t := a.typing(c); t.Base != nil && !slices.Contains(out, t.Base.Record) {
			out = append(out, t.Base.Record)
		}
	}
	return out
}
