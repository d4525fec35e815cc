package redis

import (
	"reflect"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	all, err := parseSettings("# c\n\nPort 0\r\n  requirepass \"a \\\"b\\x41\\n\"\nuser default on >p1 ~*\nsave \"\"\nx 'it\\'s'\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []directive{{"port", "0"}, {"requirepass", "a \"bA\n"}, {"user", "default", "on", ">p1", "~*"}, {"save", ""}, {"x", "it's"}}
	if !reflect.DeepEqual(all, want) {
		t.Errorf("%q", all)
	}
	if p, ok := password(all); !ok || p != "a \"bA\n" {
		t.Errorf("password %q", p)
	}
	if p, ok := password(all[2:]); !ok || p != "p1" {
		t.Errorf("password of the default user: %q", p)
	}
	for _, bad := range []string{"x \"a", "x 'a", "x \"a\"b", strings.Repeat("x", maxSettings+1)} {
		if _, err := parseSettings(bad); err == nil {
			t.Errorf("%.20q was taken", bad)
		}
	}
}

func TestManifest(t *testing.T) {
	m, err := parseManifest("file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.3.incr.aof seq 3 type i\n")
	if err != nil || len(m) != 2 || m[1] != (part{"appendonly.aof.3.incr.aof", 3, 'i'}) || !m.has("appendonly.aof.2.base.rdb") {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"file ../x seq 1 type b\n", "seq 1 type b\n", "file x seq -1 type b\n", "file x seq 1\n", "file \"x\n"} {
		if _, err := parseManifest(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestListeners(t *testing.T) {
	unix := "Num RefCount Protocol Flags Type St Inode Path\n" +
		"0: 00000002 00000000 00010000 0001 01 77 /run/redis/redis.sock\n" +
		"0: 00000003 00000000 00000000 0001 03 78 /run/other\n"
	if got := unixListeners([]byte(unix), map[string]bool{"77": true, "78": true}); len(got) != 1 || got[0].Address != "/run/redis/redis.sock" {
		t.Errorf("%v", got)
	}
	for in, want := range map[string]string{
		"0100007F:18EB": "127.0.0.1:6379", "00000000:18EB": "127.0.0.1:6379",
		"00000000000000000000000001000000:18EB": "[::1]:6379", "00000000000000000000000000000000:18EB": "[::1]:6379",
	} {
		if got, ok := procAddress(in); !ok || got.String() != want {
			t.Errorf("%s: %v", in, got)
		}
	}
	for _, bad := range []string{"", "0100007F", "0100A8C0:18EB", "01:1", "x:y"} {
		if got, ok := procAddress(bad); ok {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("requirepass \"a\\x41\"\nuser default >x\n")
	f.Add("x 'a\\'b' \"")
	f.Fuzz(func(t *testing.T, text string) {
		if all, err := parseSettings(text); err == nil {
			password(all)
			namesIn(all)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add("file appendonly.aof.1.base.rdb seq 1 type b\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseManifest(text)
		for _, p := range m {
			if err == nil && strings.Contains(p.name, "/") {
				t.Errorf("part %q leads elsewhere", p.name)
			}
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add("# Server\r\nrun_id:x\r\ncmdstat_client|pause:calls=1,usec=2\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		i := parseInfo(text)
		i.calls("client|pause")
		i.keys()
	})
}

func FuzzStamp(f *testing.F) {
	f.Add(stamp{Run: "a", Incr: "b", Size: 1}.encode())
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseStamp(text); err == nil && s.Size < 0 {
			t.Error("a negative size")
		}
	})
}
