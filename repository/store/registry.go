package store

import (
	"context"
	"errors"
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
		return nil, fmt.Errorf("open repository at %s: %w %q, this program knows %s", Shown(u), ErrUnknownScheme, u.Scheme, strings.Join(schemes, ", "))
	}
	st, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("open repository at %s: %w", Shown(u), err)
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

// Shown is a location as it may be shown and logged: without user information
// and query, in which somebody may have put a secret, wrong as that is.
func Shown(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.User != nil && u.User.Username() != "" && u.Scheme == "sftp" {
		shown.User = url.User(u.User.Username())
	}
	return shown.String()
}

// Bucket takes the location of a bucket and a prefix in it apart:
// scheme://bucket/prefix?name=value. The prefix is empty or ends with a slash.
// Of the parameters only those named are allowed, each once. An error shows no
// value of a parameter.
func Bucket(u *url.URL, parameters ...string) (bucket, prefix string, values map[string]string, err error) {
	if u.User != nil {
		return "", "", nil, Permanent(errors.New("a location holds no credentials: they come from the environment or from the service's own files"))
	}
	if u.Fragment != "" || u.Opaque != "" || u.Host == "" {
		return "", "", nil, Permanent(fmt.Errorf("it is not of the form %s://bucket/prefix", u.Scheme))
	}
	if prefix = strings.Trim(u.Path, "/"); prefix != "" {
		for part := range strings.SplitSeq(prefix, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
				return "", "", nil, Permanent(fmt.Errorf("the path cannot hold %q", part))
			}
		}
		prefix += "/"
	}
	if len(prefix) > maxPrefix {
		return "", "", nil, Permanent(fmt.Errorf("the path is longer than %d bytes", maxPrefix))
	}
	values, err = Parameters(u, parameters...)
	return u.Host, prefix, values, err
}

// maxPrefix bounds a prefix, so that the names of objects fit behind it into the
// 1024 bytes of the services' keys.
const maxPrefix = 512

// Parameters gives the parameters of a location. Only those named are allowed,
// each once and not empty. An error shows no value.
func Parameters(u *url.URL, names ...string) (map[string]string, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, Permanent(errors.New("what follows the question mark is not of the form name=value&name=value"))
	}
	values := map[string]string{}
	for name, v := range query {
		if !slices.Contains(names, name) {
			return nil, Permanent(fmt.Errorf("there is no parameter %q, there are %s", name, strings.Join(names, ", ")))
		}
		if len(v) != 1 || v[0] == "" {
			return nil, Permanent(fmt.Errorf("parameter %q needs one value", name))
		}
		values[name] = v[0]
	}
	return values, nil
}
