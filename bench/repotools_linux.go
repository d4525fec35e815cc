package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kind is how a tool counts in the comparison.
type kind int

const (
	ours kind = iota
	peer
	yardstick
)

// tool is a program that is measured. Its functions give what to run; dir is
// the tool's own directory, in which repo is its repository.
type tool struct {
	name    string
	kind    kind
	path    string
	version string
	env     func(dir string) []string
	// create makes a repository; it is not measured.
	create func(t *tool, dir string) [][]string
	backup func(t *tool, dir, src string) []proc
	// restore puts the newest backup of src below dst. It may look the backup
	// up first, which is not measured.
	restore func(ctx context.Context, t *tool, dir, src, dst string) (proc, error)
	// below is where in dst the restored copy of src is.
	below func(src string) string
}

const password = "bench"

func repoOf(dir string) string { return filepath.Join(dir, "repo") }

func whole(src string) string { return src }
func bare(string) string      { return "" }

// sombra is ours, without writers: what is compared is the repository.
func sombra(path string) *tool {
	return &tool{name: "sombra", kind: ours, path: path,
		env: func(dir string) []string {
			return []string{"HOME=" + dir, "SOMBRA_CONFIG=" + os.DevNull, "SOMBRA_REPOSITORY=" + repoOf(dir), "SOMBRA_PASSWORD=" + password,
				"SOMBRA_STATE_DIR=" + filepath.Join(dir, "state")}
		},
		create: func(t *tool, dir string) [][]string { return [][]string{{t.path, "-q", "init"}} },
		backup: func(t *tool, dir, src string) []proc {
			return []proc{{args: []string{t.path, "-q", "backup", "--no-writers", src}}}
		},
		restore: func(_ context.Context, t *tool, dir, src, dst string) (proc, error) {
			return proc{args: []string{t.path, "-q", "extract", "latest", dst}}, nil
		},
		below: whole}
}

// findSombra finds ours, which must tell its version.
func findSombra(ctx context.Context, name string) (*tool, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (scripts/bench builds it)", err)
	}
	t := sombra(path)
	if t.version = versionOf(ctx, t); t.version == "" {
		return nil, fmt.Errorf("%s does not tell its version", path)
	}
	return t, nil
}

func restic(path string) *tool {
	return &tool{name: "restic", kind: peer, path: path,
		env: func(dir string) []string {
			return []string{"HOME=" + dir, "RESTIC_REPOSITORY=" + repoOf(dir), "RESTIC_PASSWORD=" + password, "RESTIC_CACHE_DIR=" + filepath.Join(dir, "cache")}
		},
		create: func(t *tool, dir string) [][]string { return [][]string{{t.path, "-q", "init"}} },
		backup: func(t *tool, dir, src string) []proc { return []proc{{args: []string{t.path, "-q", "backup", src}}} },
		restore: func(_ context.Context, t *tool, dir, src, dst string) (proc, error) {
			return proc{args: []string{t.path, "-q", "restore", "latest", "--target", dst}}, nil
		},
		below: whole}
}

// kopia compresses with zstd-fastest, the nearest to what the others do; by
// default it does not compress. It is told to take all files, as the others do.
func kopia(path string) *tool {
	return &tool{name: "kopia", kind: peer, path: path,
		env: func(dir string) []string {
			return []string{"HOME=" + dir, "KOPIA_CONFIG_PATH=" + filepath.Join(dir, "kopia.config"), "KOPIA_PASSWORD=" + password,
				"KOPIA_CACHE_DIRECTORY=" + filepath.Join(dir, "cache"), "KOPIA_LOG_DIR=" + filepath.Join(dir, "log"), "KOPIA_CHECK_FOR_UPDATES=false"}
		},
		create: func(t *tool, dir string) [][]string {
			return [][]string{
				{t.path, "repository", "create", "filesystem", "--path", repoOf(dir), "--cache-directory", filepath.Join(dir, "cache")},
				{t.path, "policy", "set", "--global", "--compression", "zstd-fastest", "--ignore-cache-dirs", "false"},
			}
		},
		backup: func(t *tool, dir, src string) []proc {
			return []proc{{args: []string{t.path, "snapshot", "create", "--no-progress", src}}}
		},
		restore: func(ctx context.Context, t *tool, dir, src, dst string) (proc, error) {
			cmd := exec.CommandContext(ctx, t.path, "snapshot", "list", "--json", src)
			cmd.Env = append(environment(), t.env(dir)...)
			out, err := cmd.Output()
			var list []struct {
				RootEntry struct {
					Obj string `json:"obj"`
				} `json:"rootEntry"`
			}
			if err == nil {
				err = json.Unmarshal(out, &list)
			}
			if err != nil || len(list) == 0 {
				return proc{}, fmt.Errorf("kopia: list snapshots: %d of them, %w", len(list), errors.Join(err))
			}
			return proc{args: []string{t.path, "restore", "--no-progress", list[len(list)-1].RootEntry.Obj, dst}}, nil
		},
		below: bare}
}

// borg has its default compression, and the encryption its documentation
// recommends.
func borg(path string) *tool {
	return &tool{name: "borg", kind: peer, path: path,
		env: func(dir string) []string {
			return []string{"HOME=" + dir, "BORG_REPO=" + repoOf(dir), "BORG_PASSPHRASE=" + password, "BORG_BASE_DIR=" + dir}
		},
		create: func(t *tool, dir string) [][]string { return [][]string{{t.path, "init", "-e", "repokey-blake2"}} },
		backup: func(t *tool, dir, src string) []proc {
			return []proc{{args: []string{t.path, "create", "::{now:%Y-%m-%dT%H:%M:%S.%f}", src}}}
		},
		restore: func(ctx context.Context, t *tool, dir, src, dst string) (proc, error) {
			cmd := exec.CommandContext(ctx, t.path, "list", "--short")
			cmd.Env = append(environment(), t.env(dir)...)
			out, err := cmd.Output()
			names := strings.Fields(string(out))
			if err != nil || len(names) == 0 {
				return proc{}, fmt.Errorf("borg: list archives: %d of them, %w", len(names), errors.Join(err))
			}
			return proc{args: []string{t.path, "extract", "::" + names[len(names)-1]}, dir: dst}, nil
		},
		below: whole}
}

// yardsticks show what the machine can do. They neither encrypt nor find what
// they have already.
func yardsticks() (list []*tool) {
	none := func(string) []string { return nil }
	create := func(*tool, string) [][]string { return nil }
	if cp, err := exec.LookPath("cp"); err == nil {
		list = append(list, &tool{name: "cp -a", kind: yardstick, path: cp, env: none, create: create,
			backup: func(t *tool, dir, src string) []proc { return []proc{{args: []string{t.path, "-a", src, repoOf(dir)}}} }})
	}
	tar, err := exec.LookPath("tar")
	zstd, err2 := exec.LookPath("zstd")
	if errors.Join(err, err2) == nil {
		list = append(list, &tool{name: tarZstd, kind: yardstick, path: tar, env: none, create: create,
			backup: func(t *tool, dir, src string) []proc {
				return []proc{
					{args: []string{t.path, "-c", "-f", "-", "-C", filepath.Dir(src), filepath.Base(src)}},
					{args: []string{zstd, "-q", "-1", "-T0"}, out: filepath.Join(repoOf(dir), "tar.zst")},
				}
			}})
	}
	return list
}

// tarZstd is tar through zstd -1 -T0; a bar would end the table's column.
const tarZstd = "tar+zstd"

var peerKinds = map[string]func(path string) *tool{"restic": restic, "kopia": kopia, "borg": borg}

// findPeers gives, of each peer, the newest there is in the directories.
func findPeers(ctx context.Context, dirs []string) (list []*tool) {
	for _, name := range []string{"restic", "kopia", "borg"} {
		var best *tool
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); dir == "" || err != nil || info.IsDir() {
				continue
			}
			t := peerKinds[name](path)
			if t.version = versionOf(ctx, t); t.version == "" {
				fmt.Fprintf(os.Stderr, "bench: %s does not tell its version and is left out\n", path)
				continue
			}
			if best == nil || slices.Compare(numbers(t.version), numbers(best.version)) > 0 {
				best = t
			}
		}
		if best != nil {
			list = append(list, best)
		}
	}
	return list
}

var versionPattern = regexp.MustCompile(`\bv?(\d+\.\d+(?:\.\d+)?[-.\w]*)`)

// versionOf asks a tool for its version.
func versionOf(ctx context.Context, t *tool) string {
	arg := "--version"
	if t.name == "restic" || t.name == "sombra" {
		arg = "version"
	}
	cmd := exec.CommandContext(ctx, t.path, arg)
	cmd.Env = append(environment(), "HOME="+os.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	if t.name == "sombra" {
		return strings.TrimPrefix(strings.TrimSpace(string(line)), "sombra ")
	}
	if m := versionPattern.FindSubmatch(line); m != nil {
		return string(m[1])
	}
	return ""
}

// numbers are the parts of a version that compare.
func numbers(version string) (n []int) {
	for _, part := range regexp.MustCompile(`\d+`).FindAllString(version, 3) {
		v, _ := strconv.Atoi(part)
		n = append(n, v)
	}
	return n
}

// claimable says why no ratio to the fastest peer may be claimed, or nothing:
// it takes the two that are fast, and not in versions of years ago.
func claimable(tools []*tool) string {
	need := map[string][]int{"kopia": {0, 20}, "restic": {0, 18}}
	for _, t := range tools {
		if n, ok := need[t.name]; ok && slices.Compare(numbers(t.version), n) >= 0 {
			delete(need, t.name)
		}
	}
	if len(need) == 0 {
		return ""
	}
	return "kopia 0.20 and restic 0.18, or newer, must both be there"
}
