package requester

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/repository"
)

// findBase finds the record whose unchanged files need not be read again: of
// those this host made, the newest of the same paths, else the newest of paths
// that these overlap, else the newest. So two trees that are backed up in turn
// have each a base of its own. Records that cannot be read are no bases.
func (b *backup) findBase(ctx context.Context) (*repository.Record, error) {
	if b.req.Reread {
		return nil, nil
	}
	if b.repo.WriteOnly() {
		return b.localBase(ctx), nil
	}
	records, err := b.repo.Records(ctx)
	if err != nil && !errors.Is(err, repository.ErrDamaged) {
		return nil, err
	}
	return nearest(records, b.host.ID, b.req.dataPaths()), nil
}

// nearest chooses among a repository's records, oldest first.
func nearest(records []*repository.Record, host string, paths []string) *repository.Record {
	var best *repository.Record
	score := -1
	for _, r := range slices.Backward(records) {
		if r.Host.ID != host || host == "" {
			continue
		}
		s, _ := ReadSummary(r) // without one it is of no paths
		n := 0
		switch {
		case samePaths(s.Paths, paths):
			return r
		case overlap(s, paths):
			n = 1
		}
		if n > score {
			best, score = r, n
		}
	}
	return best
}

// samePaths compares what two backups were asked for, in any order.
func samePaths(a, b []string) bool { return slices.Equal(pathSet(a), pathSet(b)) }

// pathSet is what backups of the same paths have in common.
func pathSet(list []string) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = clip(p, maxRootPath)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// overlap says whether data of the record can lie at, below or above a path.
func overlap(s Summary, paths []string) bool {
	holds := func(a, b string) bool {
		a = strings.TrimRight(a, `/\`)
		rest, ok := strings.CutPrefix(b, a)
		return ok && (rest == "" || rest[0] == '/' || rest[0] == '\\')
	}
	return slices.ContainsFunc(slices.Concat(s.Paths, s.Roots), func(root string) bool {
		return slices.ContainsFunc(paths, func(p string) bool { return holds(root, p) || holds(p, root) })
	})
}
