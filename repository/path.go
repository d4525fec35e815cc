package repository

import (
	"fmt"
	"strings"
)

// ComparePaths orders entries as the file table has them: by root, byte by
// byte, then by path with the slash before every other byte, so that a
// directory is followed by everything below it, in the order of a walk that
// sorts each directory by name. It gives -1, 0 or 1.
func ComparePaths(rootA, pathA, rootB, pathB string) int {
	if c := strings.Compare(rootA, rootB); c != 0 {
		return c
	}
	n := min(len(pathA), len(pathB))
	for i := range n {
		a, b := pathA[i], pathB[i]
		if a == b {
			continue
		}
		if b != '/' && (a == '/' || a < b) {
			return -1
		}
		return 1
	}
	switch {
	case len(pathA) < len(pathB):
		return -1
	case len(pathA) > len(pathB):
		return 1
	}
	return 0
}

// isBelow says whether path lies below dir, which is not below itself.
func isBelow(path, dir string) bool {
	if dir == "" {
		return path != ""
	}
	return len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}

// checkPlace says whether root and path keep the rules that Entry states.
func checkPlace(root, path string) error {
	if err := checkRoot(root); err != nil {
		return err
	}
	if path == "" {
		return nil
	}
	if len(path) > MaxPath {
		return fmt.Errorf("the path has %d bytes", len(path))
	}
	if strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("the path has a NUL")
	}
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "":
			return fmt.Errorf("the path has an empty component")
		case ".", "..":
			return fmt.Errorf("the path has a component %q", part)
		}
	}
	return nil
}

// checkRoot says whether the text may be a root's id.
func checkRoot(root string) error {
	if root == "" || len(root) > MaxName || strings.IndexByte(root, 0) >= 0 {
		return fmt.Errorf("the root %q is empty, too long or has a NUL", root[:min(len(root), MaxName)])
	}
	return nil
}

// printable names an entry in errors, whatever bytes it has.
func printable(root, path string) string {
	const most = 512
	if len(path) > most {
		path = path[:most] + "…"
	}
	return fmt.Sprintf("%q in root %q", path, root[:min(len(root), MaxName)])
}
