package etcd

import (
	"strings"
	"testing"
)

// What is wrong with a directory is said of this directory.
func TestADirectoryThatCannotBeTheDatabasesIsRefusedByItsReason(t *testing.T) {
	for config, says := range map[string]string{
		`{"directory":"/"}`:                              "directory / cannot be",
		`{"directory":"//"}`:                             "directory / cannot be",
		`{"directory":"/var/lib/e","wal_directory":"/"}`: "directory / cannot be",
		`{"directory":"var/lib/e"}`:                      "is not absolute",
		`{"directory":"/var/lib/*"}`:                     "holds one of",
	} {
		if _, err := parseConfig([]byte(config)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", config, err, says)
		}
	}
	if _, err := parseConfig([]byte(`{"directory":"/var/lib/e/"}`)); err != nil {
		t.Error(err)
	}
}
