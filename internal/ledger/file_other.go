//go:build !unix

package ledger

import (
	"errors"
	"os"
)

func lockShared(*os.File) error { return errors.ErrUnsupported }

func unlock(*os.File) error { return errors.ErrUnsupported }
