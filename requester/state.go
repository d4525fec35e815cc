package requester

import (
	"context"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// status reads every writer's state and takes those that failed out of the
// backup, with their components (D-7).
func (b *backup) status(ctx context.Context, after Phase) error {
	list, err := b.readStatus(ctx, after)
	if err != nil {
		return err
	}
	for _, s := range list {
		w := b.byInstance(s.Instance)
		if w == nil || !writerFailed(s) {
			continue
		}
		why := writerWords(s)
		if w.Info.Required && b.takesPart(w) {
			return vss.Errorf(failureCode(s), string(after), w.Label(), "a required writer failed: %s", why)
		}
		for _, c := range b.sel.Explicit {
			if c.Writer == w && b.failed[c] == "" {
				b.failed[c] = why
			}
		}
	}
	return nil
}

func (b *backup) readStatus(ctx context.Context, after Phase) ([]session.WriterStatus, error) {
	if err := b.sess.GatherWriterStatus(ctx, b.rep.Step); err != nil {
		return nil, err
	}
	list, err := b.sess.WriterStatus(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		b.rep.Status(after, s)
		b.res.Writers = recordState(b.res.Writers, after, s)
		// What a writer that goes on has to say (SetWriterFailure with success).
		if w := b.byInstance(s.Instance); w != nil && s.Failure == vss.OK && s.Message != "" && !s.State.Failed() {
			if text := w.Label() + ": " + s.Message; !slices.Contains(b.res.Warnings, text) {
				b.res.Warnings = append(b.res.Warnings, text)
				b.warnings = append(b.warnings, text) // of the record's result
				b.rep.Warning(text)
			}
		}
	}
	return list, b.sess.FreeWriterStatus(ctx)
}

// recordState appends a writer's state to its history.
func recordState(list []WriterResult, after Phase, s session.WriterStatus) []WriterResult {
	i := slices.IndexFunc(list, func(r WriterResult) bool { return r.Instance == s.Instance })
	if i < 0 {
		i = len(list)
		list = append(list, WriterResult{Name: s.Name, InstanceName: s.InstanceName, Instance: s.Instance})
	}
	st := WriterState{After: after, State: s.State.String(), Message: s.Message, Event: s.Event}
	if s.Failure != vss.OK {
		st.Code = s.Failure.Name()
	}
	list[i].States = append(list[i].States, st)
	return list
}

// writerFailed reports whether a writer is out. A failure reported by a writer
// that goes on (SetWriterFailure with success) is not one.
func writerFailed(s session.WriterStatus) bool {
	return s.State.Failed() || s.Failure == vss.ErrWriterNotResponding || s.Failure == vss.ErrWriterStatusNotAvailable
}

func failureCode(s session.WriterStatus) vss.Code {
	if s.Failure != vss.OK {
		return s.Failure
	}
	return vss.ErrUnexpectedWriterError
}

func writerWords(s session.WriterStatus) string {
	text := "its writer is in state " + s.State.String()
	if s.Event != "" {
		text += " since " + s.Event
	}
	if s.Failure != vss.OK && !strings.Contains(s.Message, s.Failure.Name()) {
		text += ", " + s.Failure.Name()
	}
	if s.Message != "" {
		text += ": " + s.Message
	}
	return text
}

func (a *attempt) byInstance(id vss.GUID) *Writer {
	for _, w := range a.writers {
		if w.Instance == id {
			return w
		}
	}
	return nil
}

func (a *attempt) takesPart(w *Writer) bool {
	return slices.ContainsFunc(a.sel.Explicit, func(c *Component) bool { return c.Writer == w })
}
