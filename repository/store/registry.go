package store

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Opener opens storage at a location of its scheme.
type Opener func(ctx context.Context, location *url.URL) (Store, error)

// Registry maps URL schemes ("file", "s3") to what opens them. It is a plain
// value: whoever assembles a program fills it.
type Registry map[string]Opener

// Open opens the storage at a URL or, without a scheme, at a path of this
// machine, which is the same as a file URL of it. A scheme of one letter is
// taken for a Windows drive. The error wraps ErrUnknownScheme if the registry
// does not serve the scheme; no error shows the password in a URL.
func (r Registry) Open(ctx context.Context, location string) (Store, error) {
	u, err := Locate(location)
	if err != nil {
		return nil, err
	}
	open, ok := r[u.Scheme]
	if !ok {
		schemes := make([]string, 0, len(r))
		for s := range r {
			schemes = append(schemes, s)
		}
		slices.Sort(schemes)
		return nil, fmt.Errorf("open repository at %s: %w %q, this program knows %s", u.Redacted(), ErrUnknownScheme, u.Scheme, strings.Join(schemes, ", "))
	}
	st, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("open repository at %s: %w", u.Redacted(), err)
	}
	return st, nil
}

// Locate turns a URL or a path into a URL. The path of a file URL it gives is
// absolute and slash-separated; on Windows it begins with the drive ("C:/x").
func Locate(location string) (*url.URL, error) {
	if location == "" {
		return nil, fmt.Errorf("%w: the location is empty", ErrUnknownScheme)
	}
	scheme, _, found := strings.Cut(location, "://")
	if !found || len(scheme) < 2 || strings.ContainsAny(scheme, `/\.`) {
		abs, err := filepath.Abs(location)
		if err != nil {
			return nil, err
		}
		return &url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}, nil
	}
	u, err := url.Parse(location)
	if err != nil {
		// The text of url.Error repeats the location, password and all.
		return nil, fmt.Errorf("%w: the location is not a URL", ErrUnknownScheme)
	}
	if u.Scheme == "file" {
		if u.Host != "" && u.Host != "localhost" {
			return nil, fmt.Errorf("%w: a file URL has three slashes and no host, not %q", ErrUnknownScheme, u.Host)
		}
		// file:///C:/x names a drive.
		if p := u.Path; len(p) >= 3 && p[0] == '/' && p[2] == ':' && filepath.VolumeName(p[1:3]) != "" {
			u.Path = p[1:]
		}
	}
	return u, nil
}
