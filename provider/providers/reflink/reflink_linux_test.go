package reflink

import (
	"os"
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

// volumeVariable names a directory of an XFS volume for an ordinary user's test.
const volumeVariable = "SOMBRA_TEST_VOLUME"

func TestConformanceAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() == 0 {
		v := voltest.XFS(t, 2<<30)
		must(t, os.Chmod(v.Root, 0o777))
		providertest.Ordinary(t, volumeVariable+"="+v.Root)
		return
	}
	base := os.Getenv(volumeVariable)
	if base == "" {
		voltest.Skip(t, "not root: volumes cannot be mounted")
	}
	providertest.Run(t, providertest.Harness{
		New: func() provider.Provider { return New() },
		Volume: func(t *testing.T) providertest.Volume {
			root, err := os.MkdirTemp(base, "v")
			must(t, err)
			return providertest.Volume{
				Volume: provider.Volume{ID: "mount-1", Root: root, FSType: "xfs"},
				Area:   filepath.Join(root, provider.AreaName),
			}
		},
		Unserved: map[string]func(*testing.T) providertest.Volume{
			"area of somebody else": func(t *testing.T) providertest.Volume {
				root, err := os.MkdirTemp(base, "v")
				must(t, err)
				must(t, os.Chmod(root, 0o500))
				return providertest.Volume{
					Volume: provider.Volume{ID: "mount-1", Root: root, FSType: "xfs"},
					Area:   filepath.Join(root, provider.AreaName),
				}
			},
		},
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
