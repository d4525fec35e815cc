package requester

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// maxRootPath bounds the length of one of a record's roots.
const maxRootPath = 1000

// fewRoots makes a list of places that all the places given lie at or below, as
// [copier.tops] gives them. There are at most maxSummaryList of them: where there
// were more, those that lie in others go, and then the directories above stand
// for the deepest.
func fewRoots(tops []string) []string {
	known := map[string]bool{}
	for _, top := range tops {
		if path.Base(top) == probe { // stands for the directory's files
			top = strings.TrimSuffix(strings.TrimSuffix(top, probe), "/")
		}
		for len(top) > maxRootPath {
			top = above(top)
		}
		known[top] = true
	}
	if len(known) > maxSummaryList {
		known = outermost(known)
	}
	for len(known) > maxSummaryList {
		deepest := 0
		for root := range known {
			deepest = max(deepest, strings.Count(root, "/"))
		}
		lifted := map[string]bool{}
		for root := range known {
			if strings.Count(root, "/") == deepest {
				root = above(root)
			}
			lifted[root] = true
		}
		known = outermost(lifted)
	}
	list := make([]string, 0, len(known))
	for root := range known {
		list = append(list, root)
	}
	slices.Sort(list)
	return list
}

// above gives the directory above a table path, "" for the topmost.
func above(table string) string {
	dir := path.Dir(table)
	if dir == "." {
		return ""
	}
	return dir
}

// outermost leaves out what lies below another one.
func outermost(known map[string]bool) map[string]bool {
	kept := map[string]bool{}
	for root := range known {
		inner := false
		for dir := root; dir != "" && !inner; {
			dir = above(dir)
			inner = known[dir]
		}
		if !inner {
			kept[root] = true
		}
	}
	return kept
}

// declared are the places, as table paths, that the record says it is of. A
// restore in place writes nowhere else: what people are shown of a record is
// what it may do.
func (r *restore) declared() (out []string, err error) {
	for _, rec := range r.records() {
		list, err := r.declaredBy(rec)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

func (r *restore) declaredBy(rec *repository.Record) ([]string, error) {
	var s Summary
	if err := json.Unmarshal(rec.Summary, &s); err != nil || len(s.Roots) == 0 || len(s.Roots) > maxSummaryList {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "restore", rec.ID.String(),
			"it does not say which paths it is of, so that nothing can be put back in place; extract it to a directory instead")
	}
	var out []string
	for _, root := range s.Roots {
		if r.origin.IsAbs(root) && r.origin.Clean(root) == root && !strings.ContainsRune(root, 0) {
			out = append(out, TablePath(r.origin, root))
		}
	}
	return out, nil
}

// declares reports whether a table path lies in one of the places.
func declares(places []string, table string, fold bool) bool {
	return slices.ContainsFunc(places, func(root string) bool {
		return root == "" || table != "" && withinName(root, table, fold)
	})
}
