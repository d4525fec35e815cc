package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/azblob"
	"github.com/sombra-backup/sombra/repository/store/gcs"
	"github.com/sombra-backup/sombra/repository/store/limit"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/repository/store/retry"
	"github.com/sombra-backup/sombra/repository/store/s3"
	"github.com/sombra-backup/sombra/repository/store/sftp"
)

// storeFlags say how storage is reached.
type storeFlags struct {
	upload, download byteRate
	connections      int
	retry, stall     duration
	sshCommand       string
}

func (s *storeFlags) add(f *pflag.FlagSet) {
	f.Var(&s.upload, "limit-upload", "most bytes a second to the repository, such as 500k or 10M")
	f.Var(&s.download, "limit-download", "most bytes a second from the repository")
	f.Var(number{&s.connections, 1, 1000, "requests"}, "connections", "most `requests` to the repository at once")
	f.Var(&s.retry, "retry-limit", "how long a disturbed request to a server is tried again (15m)")
	f.Var(&s.stall, "stall-limit", "how long a request to a server may bring next to nothing before it is given up (2m)")
	f.StringVar(&s.sshCommand, "ssh-command", "", "`command` that makes SSH connections, for sftp:// (ssh)")
	mark(f, settable, "limit-upload", "limit-download", "connections", "retry-limit", "stall-limit", "ssh-command")
}

// byteRate is a number of bytes a second as people write it: 500k, 10M.
type byteRate int64

// Set reads a flag.
func (r *byteRate) Set(text string) error {
	number, unit := text, int64(1)
	for i, letter := range "kMG" {
		if n, ok := strings.CutSuffix(strings.ToUpper(text), strings.ToUpper(string(letter))); ok {
			number, unit = n, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n > 0) || n*float64(unit) > math.MaxInt32*1024 || n*float64(unit) < 1 {
		return fmt.Errorf("%q is not a number of bytes a second such as 500k or 10M, from 1 to 2047G", text)
	}
	*r = byteRate(n * float64(unit))
	return nil
}

func (r *byteRate) String() string {
	if *r == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*r), 10)
}

// Type is the placeholder in a help text.
func (r *byteRate) Type() string { return "rate" }

// stores are the places a repository can be in. A new kind is one line here.
func (a *app) stores() store.Registry {
	limits := limit.New(limit.Options{
		Upload: int64(a.store.upload), Download: int64(a.store.download), Connections: a.store.connections,
		Stall: time.Duration(a.store.stall),
	})
	// far makes the opener of a kind that lies across a network.
	far := func(open func(ctx context.Context, u *url.URL) (store.Store, error)) store.Opener {
		return func(ctx context.Context, u *url.URL) (store.Store, error) {
			st, err := open(ctx, u)
			if err != nil {
				return nil, err
			}
			return retry.New(limits.Store(st, false), retry.Options{Limit: time.Duration(a.store.retry), Notify: a.tellRetry}), nil
		}
	}
	return store.Registry{
		"file": func(ctx context.Context, u *url.URL) (store.Store, error) {
			st, err := local.OpenURL(ctx, u)
			if err != nil || a.store.connections == 0 && a.store.upload == 0 && a.store.download == 0 {
				return st, err
			}
			return limits.Store(st, true), nil
		},
		"s3": far(func(ctx context.Context, u *url.URL) (store.Store, error) {
			return s3.OpenURL(ctx, u, s3.Options{Transport: limits.Transport(), Getenv: a.getenv})
		}),
		"gs": far(func(ctx context.Context, u *url.URL) (store.Store, error) {
			return gcs.OpenURL(ctx, u, gcs.Options{Transport: limits.Transport(), Getenv: a.getenv})
		}),
		"azblob": far(func(ctx context.Context, u *url.URL) (store.Store, error) {
			return azblob.OpenURL(ctx, u, azblob.Options{Transport: limits.Transport(), Getenv: a.getenv})
		}),
		"sftp": far(func(_ context.Context, u *url.URL) (store.Store, error) {
			return sftp.OpenURL(u, sftp.Options{Command: strings.Fields(a.store.sshCommand), Reader: limits.Reader, Writer: limits.Writer,
				Stall: limits.Stall(), Least: limits.Least()})
		}),
	}
}

// tellRetry warns that something is tried again: a backup that takes long should
// say why.
func (a *app) tellRetry(op, name string, err error, pause time.Duration) {
	a.log().Warn(fmt.Sprintf("%s; trying again in %s", oneLine(err.Error()), pause.Round(100*time.Millisecond)), "operation", op, "object", name)
}

// openStore opens the place the repository is in.
func (a *app) openStore(ctx context.Context) (store.Store, error) {
	if a.repo == "" {
		return nil, &codeError{exitNoRepository, &hintError{errors.New("no repository is named"),
			"give --repo DIR, or set SOMBRA_REPOSITORY, or repository: in the configuration"}}
	}
	return a.openStoreAt(ctx, a.repo)
}

// openStoreAt opens a place that a repository is, or will be, in.
func (a *app) openStoreAt(ctx context.Context, location string) (store.Store, error) {
	if word := otherStyle.FindString(location); word != "" && !strings.HasPrefix(location, word+"//") {
		shown, form := word+"...", urlForms[strings.ToLower(strings.TrimRight(word, ":/"))+":"]
		if s, f := rewritten(location); f != "" {
			shown, form = s, f
		}
		hint := "a repository is a directory, or a URL such as file:///srv/backup; a directory of that name is ./" + word + "..."
		if form != "" {
			hint = "such a place is written " + form
		}
		return nil, &hintError{fmt.Errorf("repository %s: no location begins with %q", shown, word), hint}
	}
	return a.stores().Open(ctx, location)
}

// urlForms are our forms of what others write with one colon.
var urlForms = map[string]string{
	"s3:":     "s3://BUCKET/PREFIX, with ?endpoint=https://HOST for services other than Amazon's",
	"gs:":     "gs://BUCKET/PREFIX",
	"azure:":  "azblob://CONTAINER/PREFIX",
	"azblob:": "azblob://CONTAINER/PREFIX",
	"sftp:":   "sftp://USER@HOST/PATH",
}

// rewritten gives a place of the form s3:https://host/bucket/prefix as it may be
// shown, without what may be a secret in it, and in our form; neither if it is no
// such place.
func rewritten(location string) (shown, form string) {
	scheme, rest, _ := strings.Cut(location, ":")
	if !strings.EqualFold(scheme, "s3") {
		return "", ""
	}
	full := rest
	if !strings.Contains(rest, "://") {
		if first, _, _ := strings.Cut(rest, "/"); !strings.ContainsAny(first, ".:") {
			return "", "" // a bucket's name rather than a host's
		}
		full = "https://" + rest
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") == "" {
		return "", ""
	}
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	shown = scheme + ":" + clean.String()
	if full != rest {
		shown = scheme + ":" + strings.TrimPrefix(clean.String(), "https://")
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	ours := url.URL{Scheme: "s3", Host: bucket, Path: prefix}
	if prefix != "" {
		ours.Path = "/" + prefix
	}
	if !strings.HasSuffix(u.Hostname(), ".amazonaws.com") {
		ours.RawQuery = "endpoint=" + u.Scheme + "://" + u.Host
	}
	return shown, ours.String()
}

// otherStyle is how other programs write the places of repositories: taken for
// a directory's name it would put the backups where nobody looks for them.
var otherStyle = regexp.MustCompile(`^(?:[A-Za-z0-9]{2,}:|(?:s3|gs|azblob|sftp)//)`)
