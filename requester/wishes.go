package requester

import (
	"fmt"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// Wishes are what writers are told of a restore besides what is chosen. Each
// reaches only components of writers whose backup schema has it; asked for any
// other it is an error that names the component, before anything is done. All
// need the writers: a restore without them takes none.
type Wishes struct {
	// Options are restore options (R-RES-29 to R-RES-31). All those for one
	// component make one text.
	Options []OptionWish
	// Optionless are the classes of writers of which it is known that they know
	// no restore option. No document says so. An option for all components is
	// not told to theirs, and a warning names them; one for such a component
	// alone is an error.
	Optionless []vss.GUID
	// NewTargets send file sets to other directories (R-RES-21).
	NewTargets []NewTargetWish
	// Authoritative asks for an authoritative restore of what is chosen.
	Authoritative bool
	// RollForward says how far logs are to be replayed, and Point, with a
	// partial one, to where; undefined says nothing. Components of writers that
	// have no logs are restored as they were, beside one that is rolled
	// forward, and a warning names them.
	RollForward vss.RollForwardType
	Point       string
	// Names give components new names.
	Names []NameWish
	// Instance is the writer instance to restore into, by its GUID or its name
	// (R-SEL-30); empty for the components' own.
	Instance string
}

// Empty reports whether nothing is asked for.
func (w *Wishes) Empty() bool {
	return len(w.Options)+len(w.NewTargets)+len(w.Names) == 0 && !w.Authoritative && w.RollForward == vss.RollForwardUndefined && w.Instance == ""
}

// OptionWish is restore options for the components that a selector names, as
// [Selectors] describes them; an empty one means all that are chosen and may have
// options.
type OptionWish struct {
	Component string
	Options   []vss.RestoreOption
}

// ParseOptionWish reads `[component:]["sub":]"name"="value"`, in which the
// component may have its writer before it, and several options may stand beside
// each other, divided by commas.
func ParseOptionWish(text string) (OptionWish, error) {
	at := strings.IndexByte(text, '"')
	if at < 0 {
		return OptionWish{}, vss.Errorf(vss.ErrInvalidArgument, "read", "--restore-option",
			`%.100q is not "name"="value", with the quotation marks, such as --restore-option '"name"="value"'`, text)
	}
	var w OptionWish
	if at > 0 {
		var ok bool
		if w.Component, ok = strings.CutSuffix(strings.TrimRight(text[:at], " "), ":"); !ok || w.Component == "" {
			return OptionWish{}, vss.Errorf(vss.ErrInvalidArgument, "read", "--restore-option",
				`%.100q has no component and colon before its first quotation mark: --restore-option 'COMPONENT:"name"="value"'`, text)
		}
	}
	var err error
	if w.Options, err = vss.ParseRestoreOptions(text[at:]); err != nil {
		return OptionWish{}, fmt.Errorf("--restore-option %.200s: %w", text, err)
	}
	return w, nil
}

// NewTargetWish is a directory for the files of one file set.
type NewTargetWish struct {
	// Component names components as a selector does; empty for all that are
	// chosen and have the file set.
	Component string
	Spec      vss.FileSpec
	// Below, if it is not empty, takes the place of Spec: each file set of that
	// directory, and of those below it, goes to the same place below Path. File
	// sets with a wish of their own, and those of a longer Below, go there.
	Below string
	Path  string
	// text is what it was read from, others are the ways in which that can be
	// read, too: names of components may hold anything that a path has.
	text   string
	others []NewTargetWish
}

// String gives what the wish was read from.
func (w NewTargetWish) String() string {
	if w.text != "" {
		return w.text
	}
	text := specText(w.Spec) + "=" + w.Path
	if w.Below != "" {
		text = w.Below + "=" + w.Path
	}
	if w.Component != "" {
		text = w.Component + ":" + text
	}
	return text
}

// ParseNewTarget reads `[component:]path|pattern[|recursive]=newpath`, or for all
// file sets at and below a directory `[component:]path=newpath`, with paths of
// a style. The path is whole, or begins with a %NAME% as writers write it; the new
// one is whole.
func ParseNewTarget(text string, style vss.PathStyle) (NewTargetWish, error) {
	bad := func(format string, args ...any) (NewTargetWish, error) {
		return NewTargetWish{}, vss.Errorf(vss.ErrInvalidArgument, "read", "--new-target", "%.200q "+format, append([]any{text}, args...)...)
	}
	head, rest, ok := strings.Cut(text, "|")
	if !ok {
		return parseBelow(text, style)
	}
	set, path, ok := strings.Cut(rest, "=")
	if !ok {
		return bad("has no = and the new directory behind it")
	}
	if !style.IsAbs(path) || strings.ContainsRune(path, 0) {
		return bad("has %.100q for the new directory, which is no whole path", path)
	}
	pattern, depth, deep := strings.Cut(set, "|")
	if deep && depth != "recursive" {
		return bad("has %.40q where only recursive can stand", depth)
	}
	var ways []NewTargetWish
	add := func(component, dir string) {
		spec := vss.FileSpec{Path: dir, Pattern: pattern, Recursive: deep}
		if (style.IsAbs(dir) || strings.HasPrefix(dir, "%")) && spec.Validate(style) == nil {
			ways = append(ways, NewTargetWish{Component: component, Spec: spec, Path: style.Clean(path), text: text})
		}
	}
	add("", head)
	for i := range len(head) {
		if head[i] == ':' && i > 0 {
			add(head[:i], head[i+1:])
		}
	}
	if len(ways) == 0 {
		return bad("has no file specification: a whole path, | and a pattern of names")
	}
	w := ways[0]
	w.others = ways[1:]
	return w, nil
}

// NameWish is a new name for a component.
type NameWish struct {
	// Component names one; empty for the only one that is chosen.
	Component string
	Name      string
}

// ParseNameWish reads `[component=]name`. A name may not hold an equals sign.
func ParseNameWish(text string) (NameWish, error) {
	var w NameWish
	if i := strings.LastIndexByte(text, '='); i >= 0 {
		w.Component, w.Name = text[:i], text[i+1:]
		if w.Component == "" {
			return w, vss.Errorf(vss.ErrInvalidArgument, "read", "--new-name", "%.100q has no component before the equals sign: --new-name COMPONENT=NAME, or --new-name NAME", text)
		}
	} else {
		w.Name = text
	}
	if w.Name == "" || len(w.Name) > vss.MaxNameLength || strings.ContainsRune(w.Name, 0) {
		return w, vss.Errorf(vss.ErrInvalidArgument, "read", "--new-name", "%.100q gives no name that a component can have: --new-name COMPONENT=NAME", text)
	}
	return w, nil
}

// ParseRollForward reads how far logs are to be replayed: none, all, or a point,
// which means what the writer takes it for.
func ParseRollForward(text string) (t vss.RollForwardType, point string, err error) {
	switch text {
	case "":
		return 0, "", vss.Errorf(vss.ErrInvalidArgument, "read", "--roll-forward", "it is empty; say none, all or a point")
	case "none":
		return vss.RollForwardNone, "", nil
	case "all":
		return vss.RollForwardAll, "", nil
	}
	return vss.RollForwardPartial, text, nil
}

// lacksSchema is why a wish cannot reach a component.
func lacksSchema(c *Component, flag string, bit vss.BackupSchema) error {
	if c.Writer.Schema&bit != 0 {
		return nil
	}
	return vss.Errorf(vss.ErrNotSupported, "restore", c.Label(), "%s: its writer's schema lacks %v; leave it out, or choose other components with --component", flag, bit)
}
