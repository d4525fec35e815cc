package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
)

func newStats(a *app) *cobra.Command {
	s := statistician{app: a}
	cmd := &cobra.Command{
		Use:   "stats [BACKUP...]",
		Short: "Show what the repository and the backups take",
		Long: `Show what the repository takes in its storage, what deduplication and compression
save, what no backup uses, and what each backup is: all of them, or each BACKUP.

  --mode restore-size  what a restore of each would write (fast)
  --mode unique        what only that backup uses: its deletion would free it
  --mode raw           what all backups named use together, each chunk once

Without --mode all of it. Nothing but file tables and the index is read.

` + backupHelp,
		Args: takes("[BACKUP...]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.chosen.ids = args
			return s.run(cmd.Context())
		},
	}
	addChoice(cmd, &s.mode, "mode", "mode", "what to count: restore-size, unique or raw", "restore-size", "unique", "raw")
	cmd.Flags().StringVar(&s.chosen.host, "host", "", "only backups of this `host`")
	cmd.Flags().StringArrayVar(&s.chosen.tags, "tag", nil, "only backups with this `tag`; repeatable")
	return cmd
}

// backupStats is what one backup takes, as a JSON line.
type backupStats struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Host    string    `json:"host"`
	Entries int64     `json:"entries"`
	Files   int64     `json:"files"`
	// Restore is the bytes of all files, holes included.
	Restore int64                `json:"restore_size"`
	Unique  *repository.ChunkUse `json:"unique,omitempty"`
}

// repositoryStats is what all takes, as a JSON line.
type repositoryStats struct {
	Backups int                    `json:"backups"`
	Restore int64                  `json:"restore_size"`
	Store   *repository.StoreUsage `json:"store,omitempty"`
	Chunks  *repository.ChunkStats `json:"chunks,omitempty"`
	// Deduplication is restore size over the bytes of data chunks, compression
	// these over what they take.
	Deduplication float64 `json:"deduplication,omitempty"`
	Compression   float64 `json:"compression,omitempty"`
}

// statistician makes the statistics.
type statistician struct {
	*app
	chosen chosenRecords
	mode   string

	repo    *repository.Repository
	records []*repository.Record
	unique  map[repository.ID]repository.ChunkUse
}

func (s *statistician) run(ctx context.Context) error {
	repo, err := s.openRepository(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	s.repo = repo
	// A record that cannot be read uses what nobody knows: then only what needs
	// not be known of all is said.
	all, damaged := repo.Records(ctx)
	if damaged != nil && !errors.Is(damaged, repository.ErrDamaged) {
		return damaged
	}
	if s.records, err = s.chosen.of(ctx, s.app, repo); err != nil && !errors.Is(err, repository.ErrDamaged) {
		return err
	}
	total := repositoryStats{Backups: len(s.records)}
	for _, r := range s.records {
		total.Restore += r.Totals.Bytes
	}
	narrowed := len(s.records) < len(all)
	if damaged == nil && s.mode != "restore-size" {
		if err := s.count(ctx, all, narrowed, &total); err != nil {
			return err
		}
	}
	if s.mode == "" && !narrowed {
		u, err := repo.StoreUsage(ctx)
		if err != nil {
			return err
		}
		total.Store = &u
	}
	if err := s.print(total, narrowed); err != nil {
		return err
	}
	return damaged
}

// count goes through the chunks.
func (s *statistician) count(ctx context.Context, all []*repository.Record, narrowed bool, total *repositoryStats) error {
	if s.mode != "raw" || !narrowed {
		c, err := s.repo.ChunkStats(ctx, all)
		if err != nil {
			return err
		}
		s.unique = map[repository.ID]repository.ChunkUse{}
		for i, r := range all {
			s.unique[r.ID] = c.Unique[i]
		}
		total.Chunks = c
	}
	if narrowed && s.mode != "unique" {
		c, err := s.repo.ChunkStats(ctx, s.records)
		if err != nil {
			return err
		}
		total.Chunks = c
	}
	if s.mode == "unique" {
		total.Chunks = nil
	}
	if c := total.Chunks; c != nil {
		total.Deduplication, total.Compression = ratio(total.Restore, c.Data.Bytes), ratio(c.Data.Bytes, c.Data.Stored)
	}
	return nil
}

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func (s *statistician) print(total repositoryStats, narrowed bool) error {
	if s.json {
		if s.mode != "raw" {
			for _, r := range s.records {
				if err := s.printJSON("backup_stats", s.of(r)); err != nil {
					return err
				}
			}
		}
		return s.printJSON("stats", total)
	}
	if s.mode != "raw" {
		if err := s.printBackups(); err != nil {
			return err
		}
	}
	w := s.stdout
	fmt.Fprintf(w, "%s, %s if all were restored\n", plural(total.Backups, "backup"), size(total.Restore))
	if c := total.Chunks; c != nil {
		fmt.Fprintf(w, "data used: %s in %s, %s stored; deduplication %.2f, compression %.2f\n",
			size(c.Data.Bytes), plural(c.Data.Chunks, "chunk"), size(c.Data.Stored), total.Deduplication, total.Compression)
		fmt.Fprintf(w, "file tables and documents used: %s in %s, %s stored\n", size(c.Meta.Bytes), plural(c.Meta.Chunks, "chunk"), size(c.Meta.Stored))
		if !narrowed {
			fmt.Fprintf(w, "unused: %s in %s", size(c.Unused.Stored), plural(c.Unused.Chunks, "chunk"))
			if c.UnusedPacks.Objects > 0 {
				fmt.Fprintf(w, ", %s of it in %s of which nothing is used", size(c.UnusedPacks.Bytes), plural(c.UnusedPacks.Objects, "pack"))
			}
			fmt.Fprintln(w)
			if c.Unindexed.Objects > 0 {
				fmt.Fprintf(w, "of interrupted or running backups: %s in %s\n", size(c.Unindexed.Bytes), plural(c.Unindexed.Objects, "pack"))
			}
		}
		if c.Missing > 0 {
			fmt.Fprintf(w, "MISSING: %s; see: sombra check\n", plural(c.Missing, "chunk"))
		}
	}
	if u := total.Store; u != nil {
		return s.printStore(u)
	}
	return nil
}

func (s *statistician) printStore(u *repository.StoreUsage) error {
	fmt.Fprintln(s.stdout)
	return table(s.stdout, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "STORED AS\tOBJECTS\tSIZE")
		for _, k := range []struct {
			name string
			repository.Usage
		}{{"data packs", u.Data}, {"meta packs", u.Meta}, {"index", u.Index}, {"records", u.Records}, {"notes", u.Notes}, {"keys", u.Keys}, {"other", u.Other}, {"in all", u.Total}} {
			fmt.Fprintf(t, "%s\t%d\t%s\n", k.name, k.Objects, size(k.Bytes))
		}
	})
}

// of gives the figures of one backup.
func (s *statistician) of(r *repository.Record) backupStats {
	b := backupStats{ID: r.ID.String(), Time: r.Time, Host: r.Host.Name, Entries: r.Totals.Entries, Files: r.Totals.Files, Restore: r.Totals.Bytes}
	if u, ok := s.unique[r.ID]; ok {
		b.Unique = &u
	}
	return b
}

func (s *statistician) printBackups() error {
	err := table(s.stdout, func(t *tabwriter.Writer) {
		if len(s.records) == 0 {
			return
		}
		fmt.Fprint(t, "ID\tTIME\tHOST\tENTRIES\tFILES\tRESTORE SIZE")
		if s.unique != nil {
			fmt.Fprint(t, "\tONLY ITS OWN\tSTORED")
		}
		fmt.Fprintln(t)
		for _, r := range s.records {
			b := s.of(r)
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s", r.ID.Short(), r.Time.Local().Format(time.DateTime), printable(b.Host), b.Entries, b.Files, size(b.Restore))
			if b.Unique != nil {
				fmt.Fprintf(t, "\t%s\t%s", size(b.Unique.Bytes), size(b.Unique.Stored))
			}
			fmt.Fprintln(t)
		}
	})
	if err == nil && len(s.records) > 0 {
		fmt.Fprintln(s.stdout)
	}
	return err
}
