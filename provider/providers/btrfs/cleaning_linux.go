package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sombra-backup/sombra/provider/extents"
	"github.com/sombra-backup/sombra/vss"
)

// A deleted subvolume goes in the background: the file system's cleaner, woken
// every 30 seconds, takes its tree apart, and each step of that joins the running
// transaction, which a snapshot has to commit. Whoever writes durably waits for the
// same. A hold beside it takes ten to thirty times as long
// (docs/decisions/hold-of-several-volumes.md), so that it is better over before
// anything is frozen: also for the subvolumes that earlier copies were.
const (
	maxCleaning = 30 * time.Second // is waited for it, in all steps of a copy
	noProgress  = 2 * time.Second  // after which it is not waited for: it is open somewhere
	wakeCleaner = noProgress / 2   // after which it is woken again
	minLook     = 5 * time.Millisecond
	maxLook     = 100 * time.Millisecond
)

// cleaning is what a copy knows of the file system's deleted subvolumes.
type cleaning struct {
	patience time.Duration   // for which it may still be waited
	idle     extents.Removal // with which the cleaner did not get on
	note     string
}

// await waits until nothing that can be removed is left of the deleted subvolumes of
// a file system, or patience or half of the step's time is at its end, which is noted.
// Only root is told of them; for others it does nothing.
func (c *cleaning) await(ctx context.Context, root *os.File) error {
	begin := time.Now()
	limit := c.patience
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2) // the rest is for the flush
	}
	defer func() { c.patience -= min(c.patience, time.Since(begin)) }()
	var last extents.Removal
	var since, woken time.Time
	for look := minLook; ; look = min(2*look, maxLook) {
		now, err := extents.RemovalOf(root)
		if errors.Is(err, vss.ErrNotSupported) {
			return nil
		}
		c.note = ""
		if err != nil || now.Subvolumes == 0 || now == c.idle {
			return err
		}
		left := limit - time.Since(begin)
		if left <= 0 {
			c.note = fmt.Sprintf("%s still being removed from the file system, which lengthens the hold", deleted(now.Subvolumes))
			return nil
		}
		switch {
		case now != last:
			last, since = now, time.Now()
		case time.Since(since) > noProgress:
			c.idle = now
			return nil
		}
		if time.Since(woken) > wakeCleaner {
			asked := time.Now()
			if err := wake(root); err != nil {
				return err
			}
			woken = time.Now()
			since = since.Add(woken.Sub(asked)) // it writes back what is dirty first, and wakes the cleaner last
		}
		select {
		case <-time.After(min(look, left)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake makes the cleaner of a file system look for work: whoever commits
// transactions wakes it, and is woken himself by time and this request only.
func wake(root *os.File) error {
	return os.NewSyscallError("BTRFS_IOC_SYNC", ioctl[byte](int(root.Fd()), iocSync, nil))
}

func deleted(n int) string {
	if n == 1 {
		return "a deleted subvolume was"
	}
	return fmt.Sprintf("%d deleted subvolumes were", n)
}
