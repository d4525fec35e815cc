package reflink

import (
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providertest"
)

func TestMain(m *testing.M) { providertest.Main(m) }

func TestConformance(t *testing.T) {
	for _, fstype := range []string{"xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			voltest.Need(t, fstype, "ext4")
			providertest.Run(t, harness(fstype))
		})
	}
}

func harness(fstype string) providertest.Harness {
	return providertest.Harness{
		New: func() provider.Provider { return New() },
		Volume: func(t *testing.T) providertest.Volume {
			return providertest.FromVoltest(voltest.Make(t, fstype, 448<<20))
		},
		Unserved: map[string]func(*testing.T) providertest.Volume{
			"no shared blocks": func(t *testing.T) providertest.Volume {
				return providertest.FromVoltest(voltest.Ext4(t, 0))
			},
			"read-only": func(t *testing.T) providertest.Volume {
				v := voltest.Make(t, fstype, voltest.SmallXFS)
				v.Remount(t, true)
				return providertest.FromVoltest(v)
			},
			"area elsewhere": func(t *testing.T) providertest.Volume {
				v := providertest.FromVoltest(voltest.Make(t, fstype, voltest.SmallXFS))
				v.Area = filepath.Join(t.TempDir(), "area")
				return v
			},
		},
	}
}
