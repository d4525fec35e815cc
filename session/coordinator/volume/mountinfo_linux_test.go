package volume

import (
	"slices"
	"strings"
	"testing"
)

func TestMountinfoLine(t *testing.T) {
	for _, c := range []struct {
		line string
		want mount
	}{
		{`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`,
			mount{36, 35, 98, 0, "/mnt1", "/mnt2", false, "ext3", "/dev/root"}},
		{`36 35 0:42 /@ / ro shared:1 master:2 propagate_from:3 - btrfs /dev/sda1 rw,subvol=/@`,
			mount{36, 35, 0, 42, "/@", "/", true, "btrfs", "/dev/sda1"}},
		{`1 0 8:1 / /a\040b\011c\012d\134e rw - xfs /dev/my\040disk ro`,
			mount{1, 0, 8, 1, "/", "/a b\tc\nd\\e", true, "xfs", "/dev/my disk"}},
		{`1 0 0:5 / /x rw - tmpfs  rw`, mount{1, 0, 0, 5, "/", "/x", false, "tmpfs", ""}},
		{`1 0 0:5 / /x rw -not-optional - tmpfs \043\134040 rw`, mount{1, 0, 0, 5, "/", "/x", false, "tmpfs", `#\040`}},
	} {
		got, err := parseMount(c.line)
		if err != nil || got != c.want {
			t.Errorf("%s\n got %+v, %v\nwant %+v", c.line, got, err, c.want)
		}
	}
}

func TestMalformedMountinfoIsNamed(t *testing.T) {
	for _, line := range []string{"x", "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 ext3 /dev/root rw,errors=continue",
		"a 35 98:0 / / rw - ext3 / rw", "1 35 98 / / rw - ext3 / rw", "1 35 98:0 / mnt rw - ext3 / rw", "1 2 3:4 / / rw x - ext4 /dev/x"} {
		if _, err := parseMountinfo(line + "\n"); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Later mounts hide earlier ones on the same place and below it.
func TestHiddenMountsAreNotVisible(t *testing.T) {
	list, err := parseMountinfo(strings.Join([]string{
		"1 0 8:1 / / rw - ext4 root rw",
		"2 1 8:2 / /a rw - ext4 a rw",
		"3 2 8:3 / /a/b rw - ext4 below-hidden rw",
		"4 2 8:4 / /a rw - ext4 over-a rw",
		"5 1 8:5 / /ab rw - ext4 other rw",
		"6 4 8:6 / /a/b rw - ext4 seen rw",
		"7 9 8:7 / /elsewhere rw - ext4 stray rw",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := newMounts(list)
	var ids []int
	for _, m := range s.visible {
		ids = append(ids, m.id)
	}
	if want := []int{1, 4, 5, 6}; !slices.Equal(ids, want) {
		t.Errorf("visible are %v, want %v", ids, want)
	}
	for path, want := range map[string]int{"/": 1, "/x": 1, "/a": 4, "/a/x": 4, "/a/b/c": 6, "/abc": 1, "/ab/c": 5} {
		if got := s.at(path); got == nil || got.id != want {
			t.Errorf("%s is on %+v, want %d", path, got, want)
		}
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("1 1 0:5 / / rw - tmpfs  rw\n2 1 0:6 /a\\040 /a\\012b ro - btrfs x rw\n")
	f.Add("1 2 0:5 / /a rw - tmpfs x rw\n2 1 0:6 / /a rw - tmpfs x rw\n3 3 0:7 / / rw - tmpfs x rw\n")
	f.Add("1 0 0:5 / / rw - - - - - rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseMountinfo(text)
		if err != nil {
			return
		}
		s := newMounts(list)
		for i := range list {
			if m := s.at(list[i].point); m != nil && !isBelow(list[i].point, m.point) {
				t.Errorf("%q is said to be on %+v", list[i].point, *m)
			}
		}
		if len(s.visible) > len(list) {
			t.Error("more visible than there are")
		}
	})
}
