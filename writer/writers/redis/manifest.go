package redis

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// manifest is what an append-only file is made of.
type manifest []part

// part is one file of an append-only file.
type part struct {
	name string
	seq  uint64
	kind byte // b base, i incremental, h history: to be removed
}

const (
	// maxManifest bounds a manifest, in bytes.
	maxManifest = 1 << 20
	partBase    = 'b'
	partIncr    = 'i'
)

var errManifest = errors.New("malformed manifest")

func readManifest(path string) (manifest, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxManifest {
		return nil, fmt.Errorf("%s: %w: it is no regular file of at most %d bytes", path, errManifest, maxManifest)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// parseManifest reads lines such as "file appendonly.aof.1.base.rdb seq 1 type b".
func parseManifest(text string) (manifest, error) {
	var m manifest
	if len(text) > maxManifest {
		return nil, fmt.Errorf("%w: more than %d bytes", errManifest, maxManifest)
	}
	for line := range strings.Lines(text) {
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		args, err := splitArgs(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errManifest, err)
		}
		var p part
		for i := 0; i+1 < len(args); i += 2 {
			switch strings.ToLower(args[i]) {
			case "file":
				p.name = args[i+1]
			case "seq":
				p.seq, err = strconv.ParseUint(args[i+1], 10, 63)
			case "type":
				p.kind = (args[i+1] + "\x00")[0]
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errManifest, err)
			}
		}
		if p.name == "" || p.kind == 0 || strings.ContainsAny(p.name, "/\\") || p.name == ".." || p.name == "." {
			return nil, fmt.Errorf("%w: line %.200q", errManifest, line)
		}
		m = append(m, p)
	}
	return m, nil
}

// check makes sure that all files are there.
func (m manifest) check(dir string) error {
	for _, p := range m {
		if p.kind != partBase && p.kind != partIncr {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, p.name)); err != nil {
			return fmt.Errorf("the append-only file lacks a part: %w", err)
		}
	}
	return nil
}

// tail gives the file that is appended to, and its size; empty if there is none.
func (m manifest) tail(dir string) (string, int64, error) {
	var last part
	for _, p := range m {
		if p.kind == partIncr && p.seq >= last.seq {
			last = p
		}
	}
	if last.name == "" {
		return "", 0, nil
	}
	st, err := os.Lstat(filepath.Join(dir, last.name))
	if err != nil {
		return "", 0, err
	}
	return last.name, st.Size(), nil
}

// has reports whether a file is a part.
func (m manifest) has(name string) bool {
	for _, p := range m {
		if p.name == name {
			return true
		}
	}
	return false
}
