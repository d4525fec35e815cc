package btrfs

import (
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providertest"
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
				v.Root = t.TempDir()
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
