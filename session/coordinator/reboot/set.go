package reboot

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// format is the version of the journal.
const format = 1

// maxFiles bounds the files of one set, maxJournal a file of the journal.
const (
	maxFiles   = 100_000
	maxJournal = 256 << 20
)

// state is how far a set has come.
type state string

const (
	pending   state = "pending"
	swapping  state = "swapping"
	swapped   state = "swapped"
	failed    state = "failed"
	withdrawn state = "withdrawn"
)

// waits reports whether the next start has something to do for a set.
func (s state) waits() bool { return s != failed }

// set is one file of the journal.
type set struct {
	Format    int       `json:"format"`
	ID        vss.GUID  `json:"id"`
	Created   time.Time `json:"created"`
	What      string    `json:"what"`
	State     state     `json:"state"`
	Error     string    `json:"error,omitempty"`
	Attempted time.Time `json:"attempted,omitzero"`
	Files     []file    `json:"files"`
}

// directories are those of the files, some often.
func (s *set) directories() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range s.Files {
			if !yield(string(s.Files[i].Directory)) {
				return
			}
		}
	}
}

// file is one object of a set. Directory is absolute and has no links in it.
type file struct {
	Directory name   `json:"directory"`
	Name      name   `json:"name"`
	Staged    name   `json:"staged"`
	Type      string `json:"type"`
	Size      int64  `json:"size"`
	// SHA256 is of a file's content or a link's target.
	SHA256 string `json:"sha256,omitempty"`
	Device uint64 `json:"device,omitempty"`
	Mode   uint32 `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Inode  uint64 `json:"inode"`
	// Replaces is the inode of what was in its place when it was begun with; 0
	// if nothing was.
	Replaces uint64 `json:"replaces,omitempty"`
}

func (f *file) path() string { return path.Join(string(f.Directory), string(f.Name)) }

// name is a path or an element of one, of any bytes.
type name string

type encodedName struct {
	Base64 string `json:"base64"`
}

// MarshalJSON implements [json.Marshaler].
func (n name) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(n)) {
		return json.Marshal(string(n))
	}
	return json.Marshal(encodedName{base64.StdEncoding.EncodeToString([]byte(n))})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (n *name) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*n = name(text)
		return nil
	}
	var e encodedName
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(e.Base64)
	*n = name(raw)
	return err
}

// parseSet reads a file of the journal and checks all that is done by it.
func parseSet(data []byte) (*set, error) {
	s := new(set)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, err
	}
	switch {
	case s.Format != format:
		return nil, fmt.Errorf("its format is %d, and this version knows %d", s.Format, format)
	case s.ID.IsZero():
		return nil, errors.New("it has no id")
	case len(s.Files) == 0 || len(s.Files) > maxFiles:
		return nil, fmt.Errorf("it names %d files", len(s.Files))
	}
	switch s.State {
	case pending, swapping, swapped, failed, withdrawn:
	default:
		return nil, fmt.Errorf("its state is %q", s.State)
	}
	for i := range s.Files {
		if err := s.Files[i].check(); err != nil {
			return nil, fmt.Errorf("file %d: %w", i, err)
		}
	}
	return s, nil
}

func (f *file) check() error {
	dir := string(f.Directory)
	if !path.IsAbs(dir) || path.Clean(dir) != dir || strings.ContainsRune(dir, 0) {
		return fmt.Errorf("%q is no directory's path", dir)
	}
	if !isElement(string(f.Name)) || !isElement(string(f.Staged)) || !session.IsStagedName(string(f.Staged)) || f.Name == f.Staged {
		return fmt.Errorf("%q and %q are not names of a file and of one staged for it", f.Name, f.Staged)
	}
	if f.Size < 0 {
		return fmt.Errorf("its size is %d", f.Size)
	}
	switch f.Type {
	case typeFile, typeLink:
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != 32 {
			return fmt.Errorf("%q is no SHA-256", f.SHA256)
		}
	case typeFIFO, typeSocket, typeDevice:
	default:
		return fmt.Errorf("its type is %q", f.Type)
	}
	return nil
}

func isElement(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}

// The types of objects.
const (
	typeFile   = "file"
	typeLink   = "symlink"
	typeFIFO   = "fifo"
	typeSocket = "socket"
	typeDevice = "device"
)

// shown is a set as a session tells of it.
func (s *set) shown() session.PendingReboot {
	out := session.PendingReboot{ID: s.ID.String(), Created: s.Created, What: s.What, Error: s.Error, Attempted: s.Attempted}
	switch s.State {
	case pending, withdrawn:
		out.State = session.RebootPending
	case swapping:
		out.State = session.RebootHalf
	case swapped:
		out.State = session.RebootSwapped
	case failed:
		out.State = session.RebootFailed
	}
	for i := range s.Files {
		f := &s.Files[i]
		out.Files = append(out.Files, session.PendingFile{Path: f.path(), Staged: path.Join(string(f.Directory), string(f.Staged)), Type: f.Type, Size: f.Size})
	}
	return out
}
