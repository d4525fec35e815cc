// Package kept has the names under which writers keep, in the directories of their
// data, what was there before a restore, and how the application is started again.
//
// What stands in those files is run when a restore ends. It must come from this
// host: nothing of these names is ever restored in place, whatever a backup holds.
package kept

import "strings"

// The names, each of a file or directory.
const (
	Directory = ".sombra-before-restore"
	Mark      = ".sombra-restore"
)

// Within reports whether one of the elements of a slash-separated path has such a
// name.
func Within(path string) bool {
	for elem := range strings.SplitSeq(path, "/") {
		if elem == Directory || elem == Mark {
			return true
		}
	}
	return false
}
