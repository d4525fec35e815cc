package requester

import (
	"testing"

	"github.com/sombra-backup/sombra/session"
)

// TestWhoMayBeChosen: of a writer that did not identify itself nothing but its
// kind and instance are known, and none that may be meant is passed over.
func TestWhoMayBeChosen(t *testing.T) {
	const kind, instance = "postgres", "/srv/pg: a"
	for _, c := range []struct {
		s    Selectors
		want bool
	}{
		{Selectors{Writers: []string{"Sombra PostgreSQL Writer"}}, true},
		{Selectors{Writers: []string{"/SRV/pg: a"}}, true},
		{Selectors{Writers: []string{"{a65faa63-5ea8-4ebc-9dbd-a0c4db26912a}"}}, true},
		{Selectors{Components: []string{"sombra postgresql writer:main"}}, true},
		{Selectors{Components: []string{"/srv/pg: a:main"}}, true},
		{Selectors{Writers: []string{"Sombra Redis Writer"}}, false},
		{Selectors{Writers: []string{"/srv/pg: b"}, Components: []string{"shop", "Sombra etcd Writer:x"}}, false},
		{Selectors{ExcludeWriters: []string{"Sombra PostgreSQL Writer"}}, false},
	} {
		if got := c.s.mayMean(kind, instance); got != c.want {
			t.Errorf("%+v: %v, want %v", c.s, got, c.want)
		}
	}
}

// TestWhoIsExcluded: a writer that did not identify itself is no loss where it is
// excluded, by the name that writers of its kind have, too; an exclusion that may
// mean another one excludes nothing.
func TestWhoIsExcluded(t *testing.T) {
	const kind, instance = "redis", "redis:/srv/a@1"
	for name, want := range map[string]bool{
		"Redis": true, "Sombra Redis Writer": true, "REDIS:/srv/a@1": true,
		"redis:/srv/b@1": false, "sqlite:/srv/redis/app.db@1": false, "PostgreSQL": false, "a65faa63-5ea8-4ebc-9dbd-a0c4db26912a": false,
	} {
		s := Selectors{ExcludeWriters: []string{name}}
		if got := s.leavesOut(kind, instance); got != want {
			t.Errorf("%s: left out %v, want %v", name, got, want)
		}
		absent := []session.WriterStatus{{Name: kind, InstanceName: instance}}
		if _, err := s.match(nil, absent); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
