package requester

import "github.com/sombra-backup/sombra/repository"

// Chain gives the records that restoring rec needs besides itself: those that a
// differential, incremental or log backup was made against. A full or a copy
// backup may have taken unchanged files from an earlier one, which it does not
// need. Of a type this program does not know, everything is needed.
func Chain(rec *repository.Record) []repository.ID {
	switch rec.Type {
	case "full", "copy", "":
		return nil
	}
	return rec.Parents
}
