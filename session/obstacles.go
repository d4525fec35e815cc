package session

import "context"

// Obstructions tells what keeps files from being replaced by a restore although
// their names are sound.
type Obstructions interface {
	// Obstacles looks at names, of files that are there and of such that are to be
	// made, and tells which of them a restore cannot replace or make, or could
	// only seem to replace: since the file system or its directory cannot be
	// written to, the object is protected, something is mounted on it, or a
	// program other than this one has the file open for writing or mapped into
	// memory, and would go on with the old one. Nothing is changed. At most
	// [MaxObstacles] are told. What programs of other users have open is seen
	// only with the rights for it.
	Obstacles(ctx context.Context, names []string) ([]Obstacle, error)
}

// MaxObstacles bounds how many obstacles one call tells.
const MaxObstacles = 1000

// Obstacle is a name and why it cannot be replaced.
type Obstacle struct {
	Name string
	Why  string
	// Used: it is in the way only as long as a process uses what is there.
	Used bool
}
