package staging

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/vss"
)

func copyPath(ref provider.Ref) string {
	return filepath.Join(ref.Area, ref.SnapshotID.String())
}

// TreePath is where the files of a copy lie.
func TreePath(ref provider.Ref) string { return filepath.Join(copyPath(ref), treeName) }

// Delete is [provider.Provider]'s Delete for copies made file by file.
func Delete(ctx context.Context, ref provider.Ref) error {
	a, err := area.Open(ref.Area)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer area.Retire(ref.Area)
	defer a.Close()
	if err := a.RemoveAll(ctx, ref.SnapshotID.String()); err != nil {
		return area.Failure("delete", copyPath(ref), err)
	}
	return nil
}

// Locate is [provider.Provider]'s Locate for copies made file by file.
func Locate(ctx context.Context, ref provider.Ref) (provider.Copied, error) {
	if err := ctx.Err(); err != nil {
		return provider.Copied{}, err
	}
	a, err := area.Open(ref.Area)
	if errors.Is(err, fs.ErrNotExist) {
		return provider.Copied{}, vss.Errorf(vss.ErrObjectNotFound, "locate", copyPath(ref), "")
	}
	if err != nil {
		return provider.Copied{}, err
	}
	a.Close()
	_, err = os.Lstat(filepath.Join(copyPath(ref), provider.ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return provider.Copied{}, vss.Errorf(vss.ErrObjectNotFound, "locate", copyPath(ref), "")
	}
	if err != nil {
		return provider.Copied{}, area.Failure("locate", copyPath(ref), err)
	}
	return provider.Copied{Root: filepath.Join(copyPath(ref), treeName)}, nil
}
