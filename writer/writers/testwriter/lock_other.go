//go:build !unix

package testwriter

import (
	"context"
	"errors"
	"os"
)

func takeLock(context.Context, string) (*os.File, error) {
	return nil, errors.New("the attribute lockFile does not work on this system, which has no flock; leave it out")
}
