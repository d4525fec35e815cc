package precopy

import (
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providertest"
)

func TestMain(m *testing.M) { providertest.Main(m) }

func TestConformance(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs", "tmpfs", "overlay"} {
		t.Run(fstype, func(t *testing.T) {
			voltest.Need(t, "ext4", "xfs", "btrfs")
			providertest.Run(t, providertest.Harness{
				New:      func() provider.Provider { return New() },
				Volume:   func(t *testing.T) providertest.Volume { return volume(t, fstype) },
				Unserved: map[string]func(*testing.T) providertest.Volume{"a network file system": network},
			})
		})
	}
}

func volume(t *testing.T, fstype string) providertest.Volume {
	const size = 448 << 20
	switch fstype {
	case "tmpfs":
		return providertest.FromVoltest(voltest.Tmpfs(t, size))
	case "overlay":
		return providertest.FromVoltest(voltest.Overlay(t, voltest.Ext4(t, size)))
	}
	return providertest.FromVoltest(voltest.Make(t, fstype, size))
}

// network is a directory that says it is on NFS: what counts is what the
// mount table has, and a server to mount from is not at hand.
func network(t *testing.T) providertest.Volume {
	root := t.TempDir()
	return providertest.Volume{
		Volume: provider.Volume{ID: "mount-1", Root: root, FSType: "nfs4", Source: "server:/export"},
		Area:   filepath.Join(root, provider.AreaName),
	}
}

// TestConformanceInADirectory needs no volumes, and so no privilege.
func TestConformanceInADirectory(t *testing.T) {
	providertest.Run(t, providertest.Harness{
		New: func() provider.Provider { return New() },
		Volume: func(t *testing.T) providertest.Volume {
			root := t.TempDir()
			return providertest.Volume{
				Volume: provider.Volume{ID: "mount-1", Root: root, FSType: "ext4"},
				Area:   filepath.Join(t.TempDir(), "area"),
			}
		},
		Unserved: map[string]func(*testing.T) providertest.Volume{"a network file system": network},
	})
}

func TestConformanceAsOrdinaryUser(t *testing.T) {
	if providertest.Ordinary(t) {
		TestConformanceInADirectory(t)
	}
}
