package main

import (
	"slices"
	"testing"
)

// TestFreezeLooksForServersOutsideTheBackupsPaths: a snapshot has all disks, and
// paths: of the configuration say what backups are made of. Paths given to the
// command say what the snapshot has.
func TestFreezeLooksForServersOutsideTheBackupsPaths(t *testing.T) {
	backed, given := t.TempDir(), t.TempDir()
	a := &app{config: &config{Paths: []string{backed}}}
	for _, c := range []struct {
		args, want []string
		running    bool
	}{{nil, []string{backed}, true}, {[]string{given}, []string{given}, false}} {
		o, err := new(freezeFlags).order(a, c.args)
		if err != nil {
			t.Fatal(err)
		}
		if o.Options.Running != c.running || !slices.Equal(o.Options.Paths, c.want) {
			t.Errorf("with paths %v it looks below %v, and everywhere for what runs: %v; want %v, %v", c.args, o.Options.Paths, o.Options.Running, c.want, c.running)
		}
	}
}
