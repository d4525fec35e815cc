package hold

import (
	"os"
	"testing"
)

func TestStatOfProcessesWithAnyName(t *testing.T) {
	rest := " S 12 13 14 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 31337 1000 100"
	for _, comm := range []string{"sh", "a b", "a) R (b", "((", "))", "", "line\nbreak"} {
		s, err := parseStat([]byte("77 (" + comm + ")" + rest))
		if err != nil {
			t.Errorf("%q: %v", comm, err)
			continue
		}
		if want := (stat{comm: comm, state: 'S', ppid: 12, flags: 4194304, threads: 3, start: 31337}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
	s, err := readStat(os.Getpid(), 0)
	if err != nil || s.ppid != os.Getppid() || s.threads < 1 || s.start == 0 || s.state != 'R' && s.state != 'S' {
		t.Errorf("of this process: %+v, %v", s, err)
	}
}

func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(own), "", "(", ")", ")(", "1 () S", "1 (x) SS 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
		"1 (x) S a b c d e f g h i j k l m n o p q r s t u v"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStat(b)
		if err == nil && s.state == 0 {
			t.Errorf("%q: no state and no error", b)
		}
	})
}
