package writertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

func identifyValid(ctx context.Context, s *Subject) error {
	doc, err := s.Writer.Identify(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range doc.Validate(vss.POSIX) {
		errs = append(errs, errors.New(p.String()))
	}
	id := doc.Identity()
	if id.ClassID.IsZero() || id.InstanceID.IsZero() {
		errs = append(errs, errors.New("the document lacks a class id or an instance id"))
	}
	if id.InstanceName == "" {
		errs = append(errs, errors.New("the instance has no name, so a later backup could not find this one's components"))
	}
	return errors.Join(errs...)
}

// identifySame asks between all events, and also while frozen.
func identifySame(ctx context.Context, s *Subject) error {
	first, err := s.Writer.Identify(ctx)
	if err != nil {
		return err
	}
	ask := func(when string) error {
		again, err := s.Writer.Identify(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		if !bytes.Equal(first.SaveAsXML(), again.SaveAsXML()) {
			return fmt.Errorf("%s the document is another one:\n%s\nit was\n%s", when, again.SaveAsXML(), first.SaveAsXML())
		}
		return nil
	}
	if err := ask("asked again,"); err != nil {
		return err
	}
	return underLoad(ctx, s, func(ses *session, _ Load) error {
		for _, kind := range append(append([]writer.EventKind(nil), untilFrozen...), fromThaw...) {
			err := ses.send(ctx, kind)
			if err == nil {
				err = ask("after " + kind.String())
			}
			if err != nil {
				return errors.Join(err, ses.send(ctx, writer.EventAbort))
			}
		}
		return nil
	})
}

func identifyAgain(ctx context.Context, s *Subject) error {
	first, err := s.Writer.Identify(ctx)
	if err != nil {
		return err
	}
	w, _, err := s.Again()
	if err != nil {
		return err
	}
	second, err := w.Identify(ctx)
	if err != nil {
		return err
	}
	a, b := first.Identity(), second.Identity()
	switch {
	case a.InstanceID == b.InstanceID:
		return errors.New("the instance id is the same after a restart; it is to be new at every start")
	case a.InstanceName != b.InstanceName || a.ClassID != b.ClassID:
		return fmt.Errorf("after a restart it is %s %q, and was %s %q; class and name are to survive", b.ClassID, b.InstanceName, a.ClassID, a.InstanceName)
	}
	return nil
}
