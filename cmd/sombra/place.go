package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

// styleOf is how the paths of a record's host are written.
func styleOf(rec *repository.Record) vss.PathStyle {
	if rec.Host.PathStyle == "windows" {
		return vss.Windows
	}
	return vss.POSIX
}

// placeOf is the place in the file table of a path of the record's host. One
// that is not absolute begins at the working directory.
func placeOf(rec *repository.Record, path string) (string, error) {
	style := styleOf(rec)
	if path != "" && style == vss.POSIX && !filepath.IsAbs(path) {
		var err error
		if path, err = filepath.Abs(path); err != nil {
			return "", err
		}
	}
	return requester.TablePath(style, path), nil
}

// under gives what a record has at a place and below it, in all its roots.
func under(ctx context.Context, rec *repository.Record, place string) iter.Seq2[*repository.Entry, error] {
	return func(yield func(*repository.Entry, error) bool) {
		for _, root := range rec.Roots {
			for e, err := range rec.Table().Under(ctx, root.ID, place) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// notInBackup is the error of a path that a record does not have.
func notInBackup(rec *repository.Record, path string) error {
	return &hintError{fmt.Errorf("%s: not in backup %s", path, rec.ID.Short()), "paths are as they were on the host: see sombra ls " + rec.ID.Short()}
}

// chosenRecords are flags that choose among the backups.
type chosenRecords struct {
	ids  []string
	host string
	tags []string
}

func (c *chosenRecords) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&c.ids, "backup", nil, "only this `BACKUP`; repeatable")
	f.StringVar(&c.host, "host", "", "only backups of this `host`")
	f.StringArrayVar(&c.tags, "tag", nil, "only backups with this `tag`; repeatable")
}

// warnNone warns that no backup is as the options --host, --tag and --path say:
// more often than not one is misspelt. Without any of them it says nothing.
func (a *app) warnNone(all []*repository.Record, host string, tags, paths []string) error {
	var asked []string
	add := func(flag string, values ...string) {
		for _, v := range values {
			asked = append(asked, fmt.Sprintf("--%s %q", flag, v))
		}
	}
	if host != "" {
		add("host", host)
	}
	add("tag", tags...)
	add("path", paths...)
	if len(asked) == 0 {
		return nil
	}
	hosts := map[string]bool{}
	for _, rec := range all {
		hosts[rec.Host.Name] = true
	}
	what := "; there is no backup at all"
	if names := slices.Sorted(maps.Keys(hosts)); len(names) > 0 {
		what = "; there are backups of " + strings.Join(head(names), ", ")
		if n := len(names) - len(head(names)); n > 0 {
			what += fmt.Sprintf(" and %d more hosts", n)
		}
	}
	return a.warn("no backup matches %s%s", strings.Join(asked, " "), what)
}

// of gives the records chosen, oldest first. If some cannot be read the others
// are returned with the error, which wraps repository.ErrDamaged.
func (c *chosenRecords) of(ctx context.Context, a *app, repo *repository.Repository) ([]*repository.Record, error) {
	var records []*repository.Record
	var damaged error
	if len(c.ids) == 0 {
		if records, damaged = repo.Records(ctx); damaged != nil && !errors.Is(damaged, repository.ErrDamaged) {
			return nil, damaged
		}
	}
	seen := map[repository.ID]bool{}
	for _, name := range c.ids {
		rec, err := repo.Record(ctx, name)
		if err != nil {
			return nil, recordError(err)
		}
		if !seen[rec.ID] {
			records = append(records, rec)
		}
		seen[rec.ID] = true
	}
	var chosen []*repository.Record
	for _, r := range records {
		if (c.host == "" || r.Host.Name == c.host) && hasTags(r.Tags, c.tags) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		damaged = errors.Join(damaged, a.warnNone(records, c.host, c.tags, nil))
	}
	return chosen, damaged
}

// parseWhen reads a point of time: a date, a date and time, or how long ago.
func parseWhen(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'y': 365 * 24 * time.Hour}
	if n := len(text) - 1; n > 0 {
		if count, err := strconv.ParseUint(text[:n], 10, 32); err == nil && units[text[n]] > 0 && count <= uint64(maxSpan/units[text[n]]) {
			return now.Add(-time.Duration(count) * units[text[n]]), nil
		}
	}
	return time.Time{}, &hintError{fmt.Errorf("%q is no time", text), `write a date as 2026-11-22, a time as "2026-11-22 14:30", or an age as 90m, 36h, 7d, 2w, 1y`}
}

// sizeRange are the sizes that an option asks for.
type sizeRange struct{ least, most int64 }

// parseSizes reads sizes as find(1) does: 10M exactly, +10M more, -10M less.
func parseSizes(text string) (sizeRange, error) {
	bad := &hintError{fmt.Errorf("%q is no size", text), "write 4096, 10K, 3M, 2G or 1T; +10M for more than that, -10M for less"}
	number := strings.TrimLeft(text, "+-")
	if len(text)-len(number) > 1 || number == "" {
		return sizeRange{}, bad
	}
	shift := 0
	if i := strings.IndexByte("kmgt", number[len(number)-1]|0x20); i >= 0 {
		shift, number = 10*(i+1), number[:len(number)-1]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return sizeRange{}, bad
	}
	n <<= shift
	switch text[0] {
	case '+':
		return sizeRange{n + 1, 1<<63 - 1}, nil
	case '-':
		return sizeRange{0, n - 1}, nil
	}
	return sizeRange{n, n}, nil
}
