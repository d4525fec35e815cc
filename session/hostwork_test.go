package session

import "testing"

func TestStagedNamesAreKnown(t *testing.T) {
	for range 100 {
		name := NewStagedName()
		if !IsStagedName(name) || !IsStagedName("srv/app/"+name) {
			t.Fatalf("%s is not known", name)
		}
		for _, other := range []string{name + "x", name[1:], name[:len(name)-1], name + "/a", "x" + name, ".sombra-at-reboot-notes", ""} {
			if IsStagedName(other) {
				t.Errorf("%q is taken for one", other)
			}
		}
	}
}
