package coordinator

import (
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/openfiles"
)

// Obstacles implements [session.Obstructions].
func (t *hostTarget) Obstacles(ctx context.Context, names []string) ([]session.Obstacle, error) {
	list, present, err := t.InTheWay(ctx, names)
	if err != nil || len(present) == 0 {
		return list, err
	}
	byPath := make(map[string]string, len(present))
	paths := make([]string, 0, len(present))
	for _, name := range present {
		_, dir, last, err := t.Beside(name, session.NewStagedName())
		if err != nil {
			return nil, err
		}
		host := path.Join(dir, last)
		byPath[host] = name
		paths = append(paths, host)
	}
	r, err := openfiles.FindPaths(ctx, paths, os.Getpid())
	if err != nil {
		return nil, err
	}
	for _, f := range r.Busy {
		if ours(f.PID) || len(list) >= session.MaxObstacles {
			continue
		}
		list = append(list, session.Obstacle{Name: byPath[f.Path], Used: true,
			Why: fmt.Sprintf("process %d (%s) uses it, and would go on with the old one", f.PID, f.Command)})
	}
	return list, nil
}

// ours reports whether a process is a child of this one: a writer's or the keeper's,
// which know of the restore.
func ours(pid int) bool {
	data, err := os.ReadFile(path.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), "\nPPid:\t")
	parent, _, _ := strings.Cut(rest, "\n")
	return parent == strconv.Itoa(os.Getpid())
}
