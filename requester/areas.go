package requester

import (
	"path"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// area is a part of one volume that was chosen: a file, or a directory and
// everything below it on that volume.
type area struct {
	volume string
	name   string // from the volume's root, "." for all of it
}

// has reports whether the name lies in the area.
func (a area) has(volume, name string, fold bool) bool {
	return a.volume == volume && withinName(a.name, name, fold)
}

// withinName reports whether name is top or lies below it.
func withinName(top, name string, fold bool) bool {
	if top == "." {
		return true
	}
	if len(name) < len(top) || len(name) > len(top) && name[len(top)] != '/' {
		return false
	}
	head := name[:len(top)]
	return head == top || fold && strings.EqualFold(head, top)
}

// addArea enters an area; one that lies in another is no area of its own, so
// that what is reachable by two mounts is taken once.
func addArea(areas []area, a area, fold bool) []area {
	for _, b := range areas {
		if b.has(a.volume, a.name, fold) {
			return areas
		}
	}
	kept := areas[:0]
	for _, b := range areas {
		if !a.has(b.volume, b.name, fold) {
			kept = append(kept, b)
		}
	}
	return append(kept, a)
}

func inAreas(areas []area, volume, name string, fold bool) bool {
	for _, a := range areas {
		if a.has(volume, name, fold) {
			return true
		}
	}
	return false
}

// TablePath gives the file table's path for a path of the host: names divided
// by slashes, on Windows with the drive first.
func TablePath(style vss.PathStyle, hostPath string) string {
	clean := style.Clean(hostPath)
	names := style.Names(clean)
	if v := style.VolumeName(clean); v != "" {
		v = strings.Trim(strings.NewReplacer(`\`, "/", `?`, "", ":", "").Replace(v), "/.")
		names = append(strings.FieldsFunc(v, func(r rune) bool { return r == '/' }), names...)
	}
	return strings.Join(names, "/")
}

// HostPath is the reverse of TablePath, for people to read.
func HostPath(style vss.PathStyle, table string) string {
	if style != vss.Windows {
		return "/" + table
	}
	first, rest, _ := strings.Cut(table, "/")
	if len(first) == 1 {
		return first + `:\` + strings.ReplaceAll(rest, "/", `\`)
	}
	return `\\?\` + strings.ReplaceAll(table, "/", `\`)
}

// tableName joins the table path of a volume's root and a name on the volume.
func tableName(root, name string) string {
	if name == "." {
		return root
	}
	if root == "" {
		return name
	}
	return root + "/" + name
}

// volumePath joins a volume's root and a name on it as a path of the host.
func volumePath(style vss.PathStyle, v session.Volume, name string) string {
	if name == "." {
		return style.Clean(v.Root)
	}
	if style == vss.Windows {
		name = strings.ReplaceAll(name, "/", `\`)
	}
	return style.Join(v.Root, name)
}

// parentsOf lists the directories above a table path, topmost first.
func parentsOf(table string) []string {
	var out []string
	for dir := path.Dir(table); dir != "." && dir != "/"; dir = path.Dir(dir) {
		out = append(out, dir)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}
