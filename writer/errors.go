package writer

import (
	"context"
	"errors"
	"slices"

	"github.com/sombra-backup/sombra/vss"
)

// ErrNotMine is returned by [Kind].New for discovered data that on a closer
// look is not the kind's: a file named *.db that is no database.
var ErrNotMine = errors.New("writer: not data of this kind")

// FailureCode gives the code with which a handler's error makes a writer fail:
// vss.OK for nil, the code found in err if it is one a writer may use,
// VSS_E_WRITERERROR_TIMEOUT for a deadline that passed,
// VSS_E_WRITER_NOT_RESPONDING where the service gave it, and
// VSS_E_WRITERERROR_NONRETRYABLE for everything else.
func FailureCode(err error) vss.Code {
	var code vss.Code
	switch {
	case err == nil:
		return vss.OK
	case errors.As(err, &code) && isFailureCode(code):
		return code
	case errors.Is(err, context.DeadlineExceeded):
		return vss.ErrWriterErrorTimeout
	}
	return vss.ErrWriterErrorNonRetryable
}

func isFailureCode(c vss.Code) bool {
	return c == vss.ErrWriterErrorPartialFailure || c == vss.ErrWriterNotResponding ||
		slices.Contains(vss.WriterFailureCodes(), c)
}
