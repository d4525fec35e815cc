package systemd

import (
	"context"
	"slices"
	"strings"
)

// Reload has systemd read its unit files again.
func Reload(ctx context.Context) error {
	path, err := available("reload", "systemd", "nothing is to be done")
	if err != nil {
		return err
	}
	_, err = run(ctx, path, "daemon-reload")
	return err
}

// MountedLate says why a mount point may not be there yet before services start;
// empty if nothing is known that speaks against it.
func MountedLate(ctx context.Context, point string) (why string, err error) {
	path, err := available("look at mount", point, "nothing is to be done")
	if err != nil {
		return "", err
	}
	out, err := run(ctx, path, "show", "--no-pager", "--property=Before,After", "--", MountUnit(point))
	if err != nil {
		return "", err
	}
	for _, p := range parseShow(out) {
		if slices.Contains(p.list("Before"), "remote-fs.target") {
			return "it is mounted with the network (_netdev), which is not there so early in a start", nil
		}
		for _, u := range p.list("After") {
			if strings.HasSuffix(u, ".service") && !strings.HasPrefix(u, "systemd-") {
				return "it is mounted after " + u + ", which is not there so early in a start", nil
			}
		}
	}
	return "", nil
}

// MountUnit is the unit of a mount point, an absolute path without dots
// (systemd-escape --path --suffix=mount).
func MountUnit(point string) string {
	trimmed := strings.Trim(point, "/")
	if trimmed == "" {
		return "-.mount"
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := range len(trimmed) {
		c := trimmed[i]
		switch {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0, !isPlain(c):
			b.WriteString(`\x`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + ".mount"
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ':' || c == '_' || c == '.'
}
