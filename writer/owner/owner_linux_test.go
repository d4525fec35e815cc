package owner

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOwnerOfAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := OfFile(name)
	if err != nil || o.UID != uint32(os.Geteuid()) || !slices.Contains(o.Groups, o.GID) {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := OfFile(name + "x"); !os.IsNotExist(err) {
		t.Errorf("%v for a file that is not there", err)
	}
}

func TestUserTheSystemDoesNotKnow(t *testing.T) {
	if o := Of(4123456789, 77); o.UID != 4123456789 || o.GID != 77 || !slices.Equal(o.Groups, []uint32{77}) {
		t.Errorf("%+v, want the group of the file and no other", o)
	}
}

func TestGroupOfAnotherIsNotGiven(t *testing.T) {
	if o := Of(0, 4123456789); o.GID != 0 || slices.Contains(o.Groups, 4123456789) {
		t.Errorf("%+v, want root's groups only", o)
	}
}
