package writer

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// Limits of what either side takes from the other.
const (
	// MaxMessage is the largest message, and so the largest document, in bytes.
	MaxMessage   = 32 << 20
	maxWriters   = 1024
	maxSnapshots = 64 // the model's limit of volumes in a set
	maxFiles     = 1 << 16
	maxProcesses = 1 << 16
	maxText      = 64 << 10
	maxDuration  = 24 * time.Hour
	// maxDocuments bounds the documents of all writers of one program, in
	// bytes, and maxIdentifying how many of them are on their way at a time.
	maxDocuments   = 256 << 20
	maxIdentifying = 4
	// maxHeaders bounds what comes with a message besides it, in bytes.
	maxHeaders = 256 << 10
)

// wireError is an error that came over the wire: it reads as it did where it
// was made, and errors.Is finds its code.
type wireError struct {
	text string
	code vss.Code
}

func (e *wireError) Error() string { return e.text }
func (e *wireError) Unwrap() error { return e.code }

// errorToWire and errorFromWire are the one pair of functions through which
// errors cross. The code is the first in the chain, or what [FailureCode] makes
// of an error without any.
func errorToWire(err error) *writerv1.Error {
	if err == nil {
		return nil
	}
	var code vss.Code
	if !errors.As(err, &code) || code.Succeeded() {
		code = FailureCode(err)
	}
	return &writerv1.Error{Code: uint32(code), Text: boundText(err.Error())}
}

func errorFromWire(e *writerv1.Error) error {
	if e == nil {
		return nil
	}
	code := vss.Code(e.GetCode())
	if code.Succeeded() {
		code = vss.ErrWriterErrorNonRetryable
	}
	text := boundText(e.GetText())
	if text == "" {
		text = code.Error()
	}
	return &wireError{text: text, code: code}
}

// statusOf makes the status of a call that fails otherwise than by a veto.
func statusOf(c codes.Code, err error) error {
	s := status.New(c, boundText(err.Error()))
	if detailed, derr := s.WithDetails(errorToWire(err)); derr == nil {
		s = detailed
	}
	return s.Err()
}

// errorOfCall turns the error of a call into one with a code. What a peer that
// is gone or silent did not say is VSS_E_WRITER_NOT_RESPONDING.
func errorOfCall(ctx context.Context, op, object string, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	for _, d := range s.Details() {
		if e, ok := d.(*writerv1.Error); ok {
			return fmt.Errorf("%s %s: %w", op, object, errorFromWire(e))
		}
	}
	switch s.Code() {
	case codes.DeadlineExceeded:
		return vss.Errorf(vss.ErrWriterNotResponding, op, object, "no answer in time: %w", context.DeadlineExceeded)
	case codes.Canceled:
		if ctx.Err() != nil {
			return vss.Errorf(vss.ErrWriterNotResponding, op, object, "the call was given up: %w", context.Cause(ctx))
		}
	case codes.ResourceExhausted:
		return vss.Errorf(vss.ErrWriterErrorOutOfResources, op, object, "a message is too large or calls are too many: %s", boundText(s.Message()))
	case codes.Unimplemented:
		return vss.Errorf(vss.ErrNotSupported, op, object, "the writer's program speaks another version of the protocol: %s", boundText(s.Message()))
	}
	return vss.Errorf(vss.ErrWriterNotResponding, op, object, "%s", boundText(s.Message()))
}

// boundText makes text that may be sent, or shown, whatever it was.
func boundText(s string) string {
	const cut = " (cut)"
	if len(s) > maxText {
		s = s[:maxText-len(cut)] + cut
	}
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

func guidToWire(g vss.GUID) string {
	if g.IsZero() {
		return ""
	}
	return g.String()
}

func guidFromWire(s string) (vss.GUID, error) {
	if s == "" {
		return vss.GUID{}, nil
	}
	return vss.ParseGUID(s)
}

func durationToWire(d time.Duration) *durationpb.Duration {
	if d <= 0 {
		return nil
	}
	return durationpb.New(d)
}

// durationFromWire takes no duration, or one that makes no sense, for zero.
func durationFromWire(d *durationpb.Duration) time.Duration {
	if d == nil || !d.IsValid() {
		return 0
	}
	return min(max(d.AsDuration(), 0), maxDuration)
}

func failureToWire(f *Failure) *writerv1.Failure {
	if f == nil {
		return nil
	}
	return &writerv1.Failure{Code: uint32(f.Code), Application: f.Application, Message: boundText(f.Message)}
}

// failureFromWire keeps a code only if it is one that SetWriterFailureEx takes.
func failureFromWire(f *writerv1.Failure) *Failure {
	if f == nil {
		return nil
	}
	code := vss.Code(f.GetCode())
	if code != vss.OK && !isFailureCode(code) {
		code = vss.ErrWriterErrorNonRetryable
	}
	return &Failure{Code: code, Application: f.GetApplication(), Message: boundText(f.GetMessage())}
}

func descriptionToWire(d Description) *writerv1.Description {
	return &writerv1.Description{
		Level:           int32(d.Level),
		FreezeTimeout:   durationToWire(d.FreezeTimeout),
		Stillness:       writerv1.Stillness(d.Stillness),
		NamesProcesses:  d.NamesProcesses,
		ReadsPaused:     d.ReadsPaused,
		OutlivesProcess: d.OutlivesProcess,
		Weak:            boundText(d.Weak),
		CrashConsistent: d.CrashConsistent,
	}
}

// descriptionFromWire takes an unknown level for the model's default and an
// unknown stillness for the weakest one.
func descriptionFromWire(d *writerv1.Description) Description {
	out := Description{
		FreezeTimeout:   durationFromWire(d.GetFreezeTimeout()),
		NamesProcesses:  d.GetNamesProcesses(),
		ReadsPaused:     d.GetReadsPaused(),
		OutlivesProcess: d.GetOutlivesProcess(),
		Weak:            boundText(d.GetWeak()),
		CrashConsistent: d.GetCrashConsistent(),
	}
	switch l := vss.ApplicationLevel(d.GetLevel()); l {
	case vss.LevelSystem, vss.LevelBackEnd, vss.LevelFrontEnd:
		out.Level = l
	}
	switch d.GetStillness() {
	case writerv1.Stillness_STILLNESS_COMMITS_HELD:
		out.Stillness = CommitsHeld
	case writerv1.Stillness_STILLNESS_FILES_STILL:
		out.Stillness = FilesStill
	default:
		out.Stillness = NothingHeld
	}
	return out
}
