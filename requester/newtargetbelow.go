package requester

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// belowTarget sends the file sets at and below a directory to the same places below
// another one.
type belowTarget struct {
	// dirs are the directory's table paths: as the user gave it, and as it is on
	// this host.
	dirs []string
	// from and to are table paths on this host.
	from, to string
	// members are the full paths of those it is for; nil if it is for all.
	members []string
}

// maxBelow bounds the ways in which one text can be read.
const maxBelow = 100

// parseBelow reads `[component:]path=newpath`. Components and paths may have colons
// and equals signs in them, which makes several ways to read it.
func parseBelow(text string, style vss.PathStyle) (NewTargetWish, error) {
	bad := func(why string) (NewTargetWish, error) {
		return NewTargetWish{}, vss.Errorf(vss.ErrInvalidArgument, "read", "--new-target", "%.200q %s", text, why)
	}
	if strings.ContainsRune(text, 0) {
		return bad("holds a NUL")
	}
	var ways []NewTargetWish
	add := func(component, dir, path string) {
		if style.IsAbs(dir) || strings.HasPrefix(dir, "%") {
			ways = append(ways, NewTargetWish{Component: component, Below: style.Clean(dir), Path: style.Clean(path), text: text})
		}
	}
	for eq := range len(text) {
		if text[eq] != '=' || !style.IsAbs(text[eq+1:]) {
			continue
		}
		head := text[:eq]
		add("", head, text[eq+1:])
		for i := 1; i < len(head) && len(ways) < maxBelow; i++ {
			if head[i] == ':' {
				add(head[:i], head[i+1:], text[eq+1:])
			}
		}
		if len(ways) >= maxBelow {
			break
		}
	}
	if len(ways) == 0 {
		return bad("is neither path|pattern=newpath, nor path|pattern|recursive=newpath, nor directory=newdirectory with whole paths")
	}
	w := ways[0]
	w.others = ways[1:]
	return w, nil
}

// exactFirst puts wishes for single file sets first, and then those for directories,
// the lowest first.
func exactFirst(list []NewTargetWish, style vss.PathStyle) []NewTargetWish {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b NewTargetWish) int {
		if (a.Below == "") != (b.Below == "") {
			if a.Below == "" {
				return -1
			}
			return 1
		}
		return cmp.Compare(len(style.Clean(b.Below)), len(style.Clean(a.Below)))
	})
	return list
}

// newTargetBelow is R-RES-21 for each file set at and below a directory.
func (r *restore) newTargetBelow(ctx context.Context, flag string, w NewTargetWish) error {
	named, err := r.setsNamed(flag, w.Component, true)
	if err != nil {
		return err
	}
	b := &belowTarget{dirs: []string{TablePath(r.style, r.style.Clean(w.Below))}}
	if b.from, err = r.place(ctx, w.Below, probe); err == nil {
		b.to, err = r.place(ctx, w.Path, probe)
	}
	if err != nil {
		return fmt.Errorf("--%s %s: %w", flag, w, err)
	}
	b.from, b.to = above(b.from), above(b.to)
	b.dirs = append(b.dirs, b.from)
	some := false
	for _, s := range r.sets {
		if members, ok := named[s]; ok {
			has, err := r.setBelow(s, b, flag, members)
			if err != nil {
				return fmt.Errorf("--%s %s: %w", flag, w, err)
			}
			some = some || has
		}
	}
	if !some {
		return vss.Errorf(vss.ErrObjectNotFound, "restore", "--"+flag+" "+w.String(), "no component that is restored has a file set in %s, or below it; there are: %s", w.Below, someOf(r.fileSets(named))) // R-RES-21
	}
	return nil
}

// setBelow enters it for one component set; members are those that were named, nil
// for all. It reports whether there is anything below the directory.
func (r *restore) setBelow(s *setRun, b *belowTarget, flag string, members []*Component) (some bool, err error) {
	c, own := s.set.Component, *b
	for _, m := range members {
		own.members = append(own.members, m.FullPath())
	}
	for _, m := range c.Set() {
		if !s.set.Covers(m) || !own.has(m) || !own.concerns(m, r.style) {
			continue
		}
		if err := takesPart(c, flag); err != nil {
			return false, err
		}
		if err := lacksSchema(c, "--"+flag, vss.SchemaNewTarget); err != nil {
			return false, err
		}
		list := own.targets(m, r.style, s.told.newTargets)
		some = true
		s.told.newTargets = append(s.told.newTargets, list...)
	}
	if slices.ContainsFunc(s.told.below, func(o *belowTarget) bool { return some && o.from == own.from && slices.Equal(o.members, own.members) }) {
		return false, vss.Errorf(vss.ErrObjectAlreadyExists, "restore", c.Label(), "--%s: the directory %s has a new target already; give it one", flag, HostPath(r.style, own.from))
	}
	if some {
		s.told.below = append(s.told.below, &own)
	}
	return some, nil
}

// has reports whether it is for a member of the set.
func (b *belowTarget) has(m *Component) bool {
	return b.members == nil || slices.Contains(b.members, m.FullPath())
}

// rest gives the name of a directory below the one that is moved.
func (b *belowTarget) rest(dir string, style vss.PathStyle) (string, bool) {
	at := TablePath(style, style.Clean(dir))
	for _, d := range b.dirs {
		switch {
		case d == "" && at == "":
			return ".", true
		case d == "":
			return at, true
		case !withinName(d, at, style.Fold()):
		case len(at) == len(d):
			return ".", true
		default:
			return at[len(d)+1:], true
		}
	}
	return "", false
}

// concerns reports whether a member has a file set at or below the directory.
func (b *belowTarget) concerns(m *Component, style vss.PathStyle) bool {
	return slices.ContainsFunc(m.Files, func(f FileSet) bool {
		_, ok := b.rest(f.Spec.Path, style)
		return ok
	})
}

// targets are the new targets of a member's file sets that have none in have.
func (b *belowTarget) targets(m *Component, style vss.PathStyle, have []*newTarget) (out []*newTarget) {
	for i := range m.Files {
		f := &m.Files[i]
		rest, ok := b.rest(f.Spec.Path, style)
		if !ok || slices.ContainsFunc(have, func(t *newTarget) bool { return t.file == f }) {
			continue
		}
		to := tableName(b.to, rest)
		out = append(out, &newTarget{member: m, file: f, path: HostPath(style, to), from: tableName(b.from, rest), to: to, root: b.to, below: b})
	}
	return out
}
