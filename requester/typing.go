package requester

import "github.com/sombra-backup/sombra/vss"

// Typing is what the type asked for comes to for one component set.
type Typing struct {
	// Asked is what the writer is told (R-TYPE-1).
	Asked vss.BackupType
	// Type decides the files: whose masks count, and whether differenced and
	// partial files do.
	Type vss.BackupType
	// Base is what is built upon; nil: no previous stamp, and files by the masks
	// of a full backup.
	Base *Base
	// LeftOut says why the component has no part (--strict-type), if it has none.
	LeftOut string
	// Notes say what is not as asked, in words for the plan, the result and the
	// record.
	Notes []string
}
