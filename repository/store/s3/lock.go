package s3

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/sombra-backup/sombra/repository/store"
)

// Locked is a Store in a bucket with object lock: what it puts cannot be
// deleted before its time. The mode is governance, which those with a right of
// its own can lift, or compliance, which nobody can.
type Locked struct{ *Store }

// Period implements store.Retainer: it is for how long what is put is locked.
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
	has, since := retention(o)
	if !since.Before(until) {
		return nil
	}
	if has == minio.Compliance {
		mode = has
	}
	// Whole seconds, and never less than was asked for.
	until = until.UTC().Add(time.Second - 1).Truncate(time.Second)
	err = s.core.PutObjectRetention(ctx, s.bucket, s.key(name), minio.PutObjectRetentionOptions{
		Mode: &mode, RetainUntilDate: &until, VersionID: o.VersionID,
	})
	return s.fail(ctx, "retain", name, err)
}

// retention is how an object is locked, and until when: the zero time if it is
// not.
func retention(o minio.ObjectInfo) (mode minio.RetentionMode, until time.Time) {
	until, err := time.Parse(time.RFC3339, o.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		return "", time.Time{}
	}
	return minio.RetentionMode(o.Metadata.Get("X-Amz-Object-Lock-Mode")), until
}

// errNotLocked is why a service is refused.
var errNotLocked = errors.New("the service did not lock it, as lock= in the URL asks, or does not show that it did (the right s3:GetObjectRetention)")

// checkLocked says whether the service has locked what it was told to lock: one
// that knows nothing of object lock may have taken the order for nothing.
func (s *Store) checkLocked(ctx context.Context, name string) error {
	o, err := s.stat(ctx, name, "")
	if err != nil {
		return err
	}
	if _, until := retention(o); time.Until(until) < s.location.Lock-time.Hour {
		return store.Permanent(fmt.Errorf("put %s: %w", name, errNotLocked))
	}
	return nil
}
