package s3

import (
	"context"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/sombra-backup/sombra/repository/store"
)

// Locked is a Store in a bucket with object lock: what it puts cannot be
// deleted before its time. The mode is governance, which those with a right of
// its own can lift, or compliance, which nobody can.
type Locked struct{ *Store }

// Period is for how long what is put is locked.
func (s Locked) Period() time.Duration { return s.location.Lock }

// Retain implements store.Retainer. An object that is locked in compliance mode
// stays so.
func (s Locked) Retain(ctx context.Context, name string, until time.Time) error {
	if err := before(ctx, "retain", name); err != nil {
		return err
	}
	o, err := s.stat(ctx, name, "")
	if err != nil {
		return err
	}
	mode := s.location.Mode
	has, since, err := s.core.GetObjectRetention(ctx, s.bucket, s.key(name), o.VersionID)
	switch {
	case err == nil && since != nil && !since.Before(until):
		return nil
	case err == nil && has != nil && *has == minio.Compliance:
		mode = minio.Compliance
	case err != nil && minio.ToErrorResponse(err).Code != "NoSuchObjectLockConfiguration":
		return s.fail(ctx, "retain", name, err)
	}
	// Whole seconds, and never less than was asked for.
	until = until.UTC().Add(time.Second - 1).Truncate(time.Second)
	err = s.core.PutObjectRetention(ctx, s.bucket, s.key(name), minio.PutObjectRetentionOptions{
		Mode: &mode, RetainUntilDate: &until, VersionID: o.VersionID,
	})
	return s.fail(ctx, "retain", name, err)
}

// checkLocked says whether the service has locked what it was told to lock: one
// that knows nothing of object lock may have taken the order for nothing.
func (s *Store) checkLocked(ctx context.Context, name string) error {
	_, until, err := s.core.GetObjectRetention(ctx, s.bucket, s.key(name), "")
	switch {
	case err != nil:
		return store.Permanent(fmt.Errorf("put %s: whether it was locked as lock= in the URL asks cannot be seen: %w", name, s.fail(ctx, "look at the lock of", name, err)))
	case until == nil || time.Until(*until) < s.location.Lock-time.Hour:
		return store.Permanent(fmt.Errorf("put %s: the service did not lock it, as lock= in the URL asks", name))
	}
	return nil
}
