// Package unit finds out which unit of systemd runs a process.
package unit

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxCgroup bounds what is read of a process's control groups, in bytes.
const maxCgroup = 64 << 10

// OfProcess gives the system's service that a process was started by, such as
// "mariadb.service", from the control group it is in. It is empty if none was: the
// process belongs to somebody's session, to a user's own service manager, to a
// container, or systemd does not run here. The error is about /proc alone, such as
// a process that has ended.
//
// A process in a group below that of a service is not taken for the service's: that
// is how container managers keep what is not their own.
func OfProcess(pid int) (string, error) {
	name := "/proc/" + strconv.Itoa(pid) + "/cgroup"
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCgroup))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return fromGroups(string(data)), nil
}

// fromGroups finds the service in the content of a process's file cgroup. The
// unified hierarchy's group goes before the one of systemd's own hierarchy.
func fromGroups(content string) string {
	var own string
	for line := range strings.Lines(content) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case id == "0" && controllers == "" && path != "/":
			return fromPath(path)
		case controllers == "name=systemd":
			own = path
		}
	}
	return fromPath(own)
}

// fromPath finds the service a control group belongs to: the first element that is
// not a slice, and the last.
func fromPath(path string) string {
	elements := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for len(elements) > 1 && strings.HasSuffix(elements[0], ".slice") {
		elements = elements[1:]
	}
	if len(elements) != 1 {
		return ""
	}
	// systemd puts an underscore before names that could be taken for the
	// kernel's own files.
	name := strings.TrimPrefix(elements[0], "_")
	if !strings.HasSuffix(name, ".service") || name == ".service" || len(name) > 255 || strings.HasPrefix(name, "-") {
		return ""
	}
	if strings.HasPrefix(name, "user@") || strings.ContainsFunc(name, notUnit) {
		return ""
	}
	return name
}

// notUnit reports whether a character cannot be in the name of a unit.
func notUnit(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`:-_.\@`, r))
}
