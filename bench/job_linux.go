package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/internal/heap"
)

// measureJob has a job done in a process of its own, so that its time and memory
// can be measured. The role names what runs there, which must call jobMain. The
// job and what is told of it pass through files in dir.
func measureJob[Told any](ctx context.Context, role, dir string, job any) (u usage, told Told, err error) {
	in, out := filepath.Join(dir, "job.json"), filepath.Join(dir, "told.json")
	text, err := json.Marshal(job)
	if err == nil {
		err = errors.Join(os.RemoveAll(out), os.WriteFile(in, text, 0o600))
	}
	if err != nil {
		return u, told, err
	}
	if u, err = measure(ctx, proc{args: []string{"/proc/self/exe", role, in, out}}); err != nil {
		return u, told, err
	}
	if text, err = os.ReadFile(out); err == nil {
		err = json.Unmarshal(text, &told)
	}
	return u, told, err
}

// jobMain is that process: it reads the job from the first file, runs it, and
// writes what it tells to the second.
func jobMain[Job, Told any](args []string, run func(*Job, context.Context) (Told, error)) error {
	if len(args) != 2 {
		return fmt.Errorf("a job wants two files, not %d", len(args))
	}
	heap.SaveMemory() // as the program itself
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var job Job
	if err := json.Unmarshal(text, &job); err != nil {
		return err
	}
	told, err := run(&job, context.Background())
	if err != nil {
		return err
	}
	if text, err = json.Marshal(told); err != nil {
		return err
	}
	return os.WriteFile(args[1], text, 0o600)
}
