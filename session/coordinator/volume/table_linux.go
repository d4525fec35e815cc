package volume

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
)

// Table is the mounts this process sees. It may be used by several goroutines.
// It reads the mounts again when it meets one that it does not know; what else
// changes is seen by a new Table.
type Table struct {
	mu    sync.Mutex
	state *mounts
	// hints remember where a subvolume was seen, by its id.
	hints map[string]string
}

// Load reads the mounts of this process.
func Load(ctx context.Context) (*Table, error) {
	t := &Table{hints: map[string]string{}}
	return t, t.reload(ctx)
}

func (t *Table) reload(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	list, err := parseMountinfo(string(text))
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.state = newMounts(list)
	t.mu.Unlock()
	return nil
}

func (t *Table) now() *mounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

func (t *Table) hint(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hints[id]
}

// maxHints bounds what is remembered.
const maxHints = 1 << 16

func (t *Table) remember(id, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.hints) >= maxHints {
		clear(t.hints)
	}
	t.hints[id] = path
}

// mounts is one reading of mountinfo. Everything but the UUIDs, which are asked
// for once when first needed, stays as it is.
type mounts struct {
	all      []mount
	byID     map[int]*mount
	children map[int][]*mount
	visible  []*mount // those that no other hides, in order of their ids

	once  sync.Once
	uuids map[device]string
}

// device names a file system as mountinfo does. For btrfs it is not what stat
// gives.
type device struct{ major, minor uint32 }

func (m *mount) device() device { return device{m.major, m.minor} }

func newMounts(list []mount) *mounts {
	s := &mounts{all: list, byID: map[int]*mount{}, children: map[int][]*mount{}}
	for i := range list {
		m := &list[i]
		s.byID[m.id] = m
		if m.parent != m.id {
			s.children[m.parent] = append(s.children[m.parent], m)
		}
	}
	for i := range list {
		if s.at(list[i].point) == &list[i] {
			s.visible = append(s.visible, &list[i])
		}
	}
	slices.SortFunc(s.visible, func(a, b *mount) int { return cmp.Compare(a.id, b.id) })
	return s
}

// at finds the mount that a path without links is on, by following what is
// mounted on what from the root on; nil if the root is no mount point.
func (s *mounts) at(path string) *mount {
	var cur *mount
	for i := range s.all {
		if m := &s.all[i]; m.point == "/" && (s.byID[m.parent] == nil || m.parent == m.id) {
			cur = m
			break
		}
	}
	// Each step goes to a mount on the one before; a table read while mounts
	// change could go round.
	for range s.all {
		var next *mount
		if cur == nil {
			break
		}
		for _, c := range s.children[cur.id] {
			if isBelow(path, c.point) && (next == nil || len(c.point) < len(next.point)) {
				next = c
			}
		}
		if next == nil {
			break
		}
		cur = next
	}
	return cur
}

// uuid is the UUID that a mount's file system goes by, empty if it has none or
// another file system has it.
func (s *mounts) uuid(m *mount) string {
	s.once.Do(s.readUUIDs)
	return s.uuids[m.device()]
}

func (s *mounts) readUUIDs() {
	s.uuids = map[device]string{}
	owner := map[string]device{}
	for _, m := range s.visible {
		dev := m.device()
		if s.uuids[dev] != "" || !m.hasUUID() || pseudo[m.fsType] {
			continue
		}
		u := m.readUUID()
		if _, taken := owner[u]; u == "" || taken {
			continue
		}
		owner[u], s.uuids[dev] = dev, u
	}
}

func (m *mount) readUUID() string {
	// What is mounted may be a pipe or a device that was bound.
	fd, err := unix.Open(m.point, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fsUUID(-1, m.fsType, m.major, m.minor)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&unix.S_IFMT == unix.S_IFREG) {
		open, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(open)
			return fsUUID(open, m.fsType, m.major, m.minor)
		}
	}
	return fsUUID(-1, m.fsType, m.major, m.minor)
}

// sameFS are the visible mounts of m's file system, those that show most first.
func (s *mounts) sameFS(m *mount) []*mount {
	var list []*mount
	for _, c := range s.visible {
		if c.device() == m.device() && c.fsType == m.fsType {
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(a, b *mount) int {
		return cmp.Or(cmp.Compare(len(a.root), len(b.root)), cmp.Compare(btoi(a.readOnly), btoi(b.readOnly)))
	})
	return list
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// byMount begins the ids of volumes without a UUID.
const byMount = "mount:"

// describe makes the volume seen at the directory root of mount m. The base id
// is that of its whole, empty if it has none; dir is what of it is seen.
func (m *mount) describe(base, dir, root string) provider.Volume {
	v := provider.Volume{ID: base, Root: root, FSType: m.fsType, Source: m.source, ReadOnly: m.readOnly}
	if base == "" {
		v.ID = byMount + strconv.Itoa(m.id)
		return v
	}
	v.Persistent = !strings.HasPrefix(base, byMount)
	if dir != "/" {
		v.ID = base + ":" + dir
	}
	return v
}
