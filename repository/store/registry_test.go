package store_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
)

func TestUnknownSchemesAreRefusedWithoutShowingPasswords(t *testing.T) {
	reg := store.Registry{"file": func(context.Context, *url.URL) (store.Store, error) { return nil, errors.New("no") }}
	for _, location := range []string{
		"", "s3://bucket/x", "s3://user:hunter2@host/x", "s3://user:hunter2@ho st/%zz", "file://server/share", "sftp://user:hunter2@host:x/",
	} {
		_, err := reg.Open(t.Context(), location)
		if !errors.Is(err, store.ErrUnknownScheme) {
			t.Errorf("open %q: %v", location, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("open %q: the error shows the password: %v", location, err)
		}
	}
}

func TestLocationsThatLookLikePathsArePaths(t *testing.T) {
	for _, location := range []string{"/srv/backup", "backup", "./a://b", "../x", "a.b/c"} {
		u, err := store.Locate(location)
		if err != nil || u.Scheme != "file" {
			t.Errorf("locate %q: %v, %v", location, u, err)
		}
	}
}
