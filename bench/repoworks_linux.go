package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/repository"
)

// The goals.
const (
	goalFirst, goalTar, goalStored = 0.55, 1.25, 1.05
	goalUnchanged, goalSmall       = 0.5, 0.6
	goalChanged, goalRanges        = 0.6, 0.05
	goalRead, goalRangesStored     = 1.2, 1.5
	goalRestore                    = 0.7
	goalMemory                     = 250 << 20
)

func describe(what string, s treeSize) string {
	return fmt.Sprintf("%s: %d files, %.1f MB\n", what, s.files, float64(s.bytes)/1e6)
}

// Every source lies in a directory of its own, which is what is backed up: some
// tools restore a directory's content and others the directory.
func (r *rig) place(name string) (string, error) {
	dir := filepath.Join(r.dir, "data-"+name)
	return filepath.Join(dir, name), os.MkdirAll(dir, 0o755)
}

// treeGroup is (a), (b), (c) and their restore.
func (r *rig) treeGroup() *group {
	return &group{name: "tree",
		make: func(g *group) (about string, err error) {
			if g.src, err = r.place("tree"); err != nil {
				return "", err
			}
			fmt.Fprintf(os.Stderr, "copying %s\n", r.o.tree)
			if err := command("cp", "-a", r.o.tree+"/.", g.src); err != nil {
				return "", err
			}
			s, err := sizeOf(g.src)
			return describe("The tree, a copy of "+r.o.tree, s), err
		},
		steps: []*step{
			{id: "a", work: "a", title: "(a) a real tree", run: backUp, yardsticks: true, wallGoal: goalFirst, tarGoal: goalTar, storedGoal: goalStored},
			{id: "b", work: "b", title: "(b) again, nothing changed", run: backUp, wallGoal: goalUnchanged},
			{id: "fa", work: "f", title: "(f) restore of the tree", run: r.putBack, restore: true, wallGoal: goalRestore},
			{id: "c", work: "c", title: "(c) again, 1 % of the files changed", run: backUp,
				prepare: func(g *group, round int) (string, error) {
					s, err := changeFiles(g.src, uint64(round+1))
					return describe("Changed", s), err
				}},
		}}
}

// databaseGroup is (d) and its restore.
func (r *rig) databaseGroup() *group {
	var changed []repository.Range
	var bytes, read int64 // of the last round; the rounds are alike
	return &group{name: "database",
		make: func(g *group) (about string, err error) {
			if g.src, err = r.place("database.db"); err != nil {
				return "", err
			}
			fmt.Fprintln(os.Stderr, "making a database's file")
			err = makeDatabase(g.src, max(int64(r.o.size*(4<<30))/pageSize, 512))
			if err != nil {
				return "", err
			}
			s, err := sizeOf(g.src)
			return describe("The database, of 8 KiB pages with header, rows of numbers and text, and free space", s), err
		},
		steps: []*step{
			{id: "d", work: "d", title: "(d) a database's file", run: backUp, yardsticks: true},
			{id: "dr", work: "d", title: "(d) 1 % of its pages changed, ranges known", oursOnly: true, apart: true, against: "dc", wallGoal: goalRanges,
				prepare: func(g *group, round int) (about string, err error) {
					bytes = 0
					if changed, err = changePages(g.src, uint64(round+1)); err != nil {
						return "", err
					}
					for _, c := range changed {
						bytes += c.Length
					}
					return fmt.Sprintf("Changed: %d pages, %.1f MB\n", len(changed), float64(bytes)/1e6), nil
				},
				run: func(ctx context.Context, g *group, t *tool, dir string, _ int) (u usage, err error) {
					u, read, err = backUpRanges(ctx, dir, rangesJob{Repo: repoOf(dir), Source: g.src, Changed: changed})
					return u, err
				},
				tell: func(out io.Writer) {
					io.WriteString(out, ratioVerdict("bytes read to bytes changed", float64(read)/float64(bytes), goalRead))
					stored := spreadOf(r.results["dr"][r.tools[0].name], storedOf)
					io.WriteString(out, ratioVerdict("bytes stored to bytes changed", stored.median*1e6/float64(bytes), goalRangesStored))
				}},
			{id: "fr", work: "f", title: "(f) restore of the database backed up by ranges", run: r.putBack, restore: true, oursOnly: true, apart: true, needs: "d"},
			{id: "dc", work: "d", title: "(d) 1 % of its pages changed, ranges not known", run: backUp, wallGoal: goalChanged},
			{id: "fd", work: "f", title: "(f) restore of the database", run: r.putBack, restore: true, wallGoal: goalRestore},
		}}
}

// smallGroup is (e) and its restore.
func (r *rig) smallGroup() *group {
	return &group{name: "small",
		make: func(g *group) (about string, err error) {
			if g.src, err = r.place("small"); err != nil {
				return "", err
			}
			fmt.Fprintln(os.Stderr, "making small files")
			if err := makeSmallFiles(g.src, max(int64(r.o.size*500_000), 200)); err != nil {
				return "", err
			}
			s, err := sizeOf(g.src)
			return describe("The small files, 100 in a directory", s), err
		},
		steps: []*step{
			{id: "e", work: "e", title: "(e) small files", run: backUp, yardsticks: true, wallGoal: goalSmall},
			{id: "er", work: "e", title: "(e) small files again, nothing changed", run: backUp, wallGoal: goalSmall},
			{id: "fe", work: "f", title: "(f) restore of the small files", run: r.putBack, restore: true, wallGoal: goalRestore},
		}}
}

// backUpRanges measures the process that knows the ranges.
func backUpRanges(ctx context.Context, dir string, job rangesJob) (u usage, read int64, err error) {
	u, told, err := measureJob[rangesTold](ctx, roleRanges, dir, job)
	return u, told.Read, err
}
