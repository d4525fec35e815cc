package btrfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providertest"
	"github.com/sombra-backup/sombra/vss"
)

func TestMain(m *testing.M) { providertest.Main(m) }

func TestConformance(t *testing.T) {
	voltest.Need(t, "btrfs", "ext4")
	providertest.Run(t, providertest.Harness{
		New: func() provider.Provider { return New() },
		Volume: func(t *testing.T) providertest.Volume {
			return providertest.FromVoltest(voltest.Btrfs(t, 384<<20))
		},
		Unserved: map[string]func(*testing.T) providertest.Volume{
			"another file system": func(t *testing.T) providertest.Volume {
				return providertest.FromVoltest(voltest.Ext4(t, 0))
			},
			"read-only": func(t *testing.T) providertest.Volume {
				v := voltest.Btrfs(t, 0)
				v.Remount(t, true)
				return providertest.FromVoltest(v)
			},
			"a directory, not a subvolume": func(t *testing.T) providertest.Volume {
				v := providertest.FromVoltest(voltest.Btrfs(t, 0))
				v.Root = filepath.Join(v.Root, "dir")
				must(t, os.Mkdir(v.Root, 0o755))
				v.Area = filepath.Join(v.Root, provider.AreaName)
				return v
			},
			"a read-only subvolume": func(t *testing.T) providertest.Volume {
				v := providertest.FromVoltest(voltest.Btrfs(t, 0))
				v.Root = filepath.Join(v.Root, "subvolume")
				voltest.Subvolume(t, v.Root)
				v.Area = filepath.Join(v.Root, provider.AreaName)
				fd, err := unix.Open(v.Root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
				must(t, err)
				defer unix.Close(fd)
				flags := uint64(subvolReadOnly)
				must(t, ioctl(fd, iocSubvolSetFlags, &flags))
				return v
			},
			"area elsewhere": func(t *testing.T) providertest.Volume {
				v := providertest.FromVoltest(voltest.Btrfs(t, 0))
				v.Area = filepath.Join(t.TempDir(), "area")
				return v
			},
		},
	})
}

// volumeVariable names a directory on btrfs for an ordinary user's test.
const volumeVariable = "SOMBRA_TEST_VOLUME"

func TestConformanceAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() == 0 {
		v := voltest.Btrfs(t, 2<<30, "user_subvol_rm_allowed")
		must(t, os.Chmod(v.Root, 0o777))
		providertest.Ordinary(t, volumeVariable+"="+v.Root)
		return
	}
	base := os.Getenv(volumeVariable)
	if base == "" {
		voltest.Skip(t, "not root: volumes cannot be mounted")
	}
	volume := func(t *testing.T, root string) providertest.Volume {
		return providertest.Volume{
			Volume: provider.Volume{ID: "subvolume", Root: root, FSType: "btrfs"},
			Area:   filepath.Join(root, provider.AreaName),
		}
	}
	providertest.Run(t, providertest.Harness{
		New: func() provider.Provider { return New() },
		Volume: func(t *testing.T) providertest.Volume {
			dir, err := os.MkdirTemp(base, "v")
			must(t, err)
			root := filepath.Join(dir, "subvolume")
			voltest.Subvolume(t, root)
			return volume(t, root)
		},
		Unserved: map[string]func(*testing.T) providertest.Volume{
			"subvolume of root": func(t *testing.T) providertest.Volume { return volume(t, base) },
		},
	})
}

// TestNobodyMakesWhatHeCannotDelete: making a snapshot is allowed to a
// subvolume's owner, deleting it only with a mount option.
func TestNobodyMakesWhatHeCannotDelete(t *testing.T) {
	if os.Geteuid() == 0 {
		v := voltest.Btrfs(t, 0)
		must(t, os.Chmod(v.Root, 0o777))
		providertest.Ordinary(t, volumeVariable+"="+v.Root)
		return
	}
	base := os.Getenv(volumeVariable)
	if base == "" {
		voltest.Skip(t, "not root: volumes cannot be mounted")
	}
	root := filepath.Join(base, "mine")
	voltest.Subvolume(t, root)
	v := provider.Volume{ID: "x", Root: root, FSType: "btrfs"}
	_, err := New().Supports(t.Context(), v, filepath.Join(root, provider.AreaName))
	if !errors.Is(err, vss.ErrVolumeNotSupportedByProvider) || !strings.Contains(err.Error(), "user_subvol_rm_allowed") {
		t.Fatalf("%v; want VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER that names the mount option", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
