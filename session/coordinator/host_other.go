//go:build !linux

package coordinator

import (
	"context"
	"io/fs"

	"github.com/sombra-backup/sombra/vss"
)

func hostID() (string, error) { return "", fs.ErrNotExist }

func isSelf(uint32) bool { return false }

func foreignBelow(_ uint32, dir string, _ bool, _ string, _ func(string) bool) (string, error) {
	return "", vss.Errorf(vss.ErrNotSupported, "check the owner of", dir, "")
}

func foreignProcess(_ uint32, pids []int) (int, error) {
	return pids[0], vss.Errorf(vss.ErrNotSupported, "check the owner of", "processes", "")
}

func checkArea(string) error { return nil }

func openArea(dir, _ string) (string, func(), error) {
	return "", nil, vss.Errorf(vss.ErrNotSupported, "open area", dir, "")
}

func countsAlike(int) bool { return false }

func expose(_, at string) error {
	return vss.Errorf(vss.ErrNotSupported, "ExposeSnapshot", at, "")
}

func unexpose(at string) error {
	return vss.Errorf(vss.ErrNotSupported, "UnexposeSnapshot", at, "")
}

func flushDirs(context.Context, []string) error {
	return vss.Errorf(vss.ErrNotSupported, "flush", "", "volumes are flushed on Linux only")
}
