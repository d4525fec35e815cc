package testwriter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/vss"
)

// maxEntries bounds how many files a component set may have where they are to
// be checked: what is known of them travels in the component's metadata.
const maxEntries = 50_000

// manifest is what a component set's backup must hold. It is kept as the
// component's backup metadata, so that the restore can be checked by another
// process, on another machine, at any later time.
type manifest struct {
	Version int     `json:"version"`
	Files   []entry `json:"files"`
}

// entry is one file that must be saved, whole or by ranges.
type entry struct {
	Component string `json:"component"` // the member's full path
	// The file set, as in the configuration.
	Path      string `json:"path"`
	Pattern   string `json:"filespec"`
	Recursive bool   `json:"recursive,omitempty"`

	Name   string       `json:"name,omitempty"` // relative to Path
	Raw    []byte       `json:"raw,omitempty"`  // instead of Name, if that is no UTF-8
	Size   int64        `json:"size"`
	Hash   string       `json:"sha256,omitempty"` // of a whole file; empty if only ranges are saved
	Ranges []rangedHash `json:"ranges,omitempty"`
}

type rangedHash struct {
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
	Hash   string `json:"sha256"`
}

func newEntry(member *Component, spec vss.FileSpec, name string) entry {
	e := entry{Component: member.FullPath(), Path: spec.Path, Pattern: spec.Pattern, Recursive: spec.Recursive, Name: name}
	if !utf8.ValidString(name) {
		e.Name, e.Raw = "", []byte(name)
	}
	return e
}

func (e *entry) spec() vss.FileSpec {
	return vss.FileSpec{Path: e.Path, Pattern: e.Pattern, Recursive: e.Recursive}
}

func (e *entry) name() string {
	if e.Raw != nil {
		return string(e.Raw)
	}
	return e.Name
}

// read fills in what the file at path holds now: all of it, or what lies in
// ranges if that is not nil.
func (e *entry) read(path string, ranges vss.Ranges) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	e.Size = info.Size()
	if ranges == nil {
		e.Hash, err = hashOf(f)
		return err
	}
	for _, r := range ranges.Clip(uint64(e.Size)) {
		h, err := hashOf(io.NewSectionReader(f, int64(r.Offset), int64(r.Length)))
		if err != nil {
			return err
		}
		e.Ranges = append(e.Ranges, rangedHash{r.Offset, r.Length, h})
	}
	return nil
}

func hashOf(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// compare tells what is wrong with the restored file at path, "" if nothing is.
func (e *entry) compare(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "was not restored: " + err.Error()
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "is no regular file"
	}
	if e.Hash != "" {
		switch h, err := hashOf(f); {
		case err != nil:
			return err.Error()
		case info.Size() != e.Size:
			return fmt.Sprintf("has %d bytes, and had %d", info.Size(), e.Size)
		case h != e.Hash:
			return "has other content than when it was saved"
		}
		return ""
	}
	for _, r := range e.Ranges {
		h, err := hashOf(io.NewSectionReader(f, int64(r.Offset), int64(r.Length)))
		if err != nil {
			return err.Error()
		}
		if h != r.Hash {
			return fmt.Sprintf("has other content in range %d:%d than when it was saved", r.Offset, r.Length)
		}
	}
	return ""
}

// encode gives the text for SetBackupMetadata.
func (m *manifest) encode() (string, error) {
	m.Version = 1
	text, err := json.Marshal(m)
	return string(text), err
}

// decodeManifest reads what encode gave. The text comes from a medium: names
// that lead out of their directory are refused.
func decodeManifest(text string) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("backup metadata: %w", err)
	}
	if m.Version != 1 || len(m.Files) > maxEntries {
		return nil, fmt.Errorf("backup metadata: version %d with %d files is not the test writer's", m.Version, len(m.Files))
	}
	for i := range m.Files {
		e := &m.Files[i]
		if !filepath.IsLocal(e.name()) || e.Size < 0 {
			return nil, fmt.Errorf("backup metadata: file %.100q of %d bytes cannot be", e.name(), e.Size)
		}
		for _, r := range e.Ranges {
			if r.Offset > 1<<62 || r.Length > 1<<62 {
				return nil, fmt.Errorf("backup metadata: range %d:%d of %.100q cannot be", r.Offset, r.Length, e.name())
			}
		}
	}
	return &m, nil
}
