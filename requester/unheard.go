package requester

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// missingWriters notes the writers that are there and did not say what they have:
// their data is taken as data of no writer, if it is, and the backup is not
// complete. Where writers or components alone are chosen, those that are surely
// not named are no loss.
func (a *attempt) missingWriters(ctx context.Context) error {
	for _, err := range a.broken {
		l := a.unheard(LeftOut{Writer: "?"}, "", "the writer takes no part", err.Error())
		if a.leave(l); l.Asked {
			a.warn("a writer takes no part: %v", err)
		}
	}
	if err := a.sess.GatherWriterStatus(ctx, nil); err != nil {
		return err
	}
	list, err := a.sess.WriterStatus(ctx)
	if err != nil {
		return err
	}
	for _, st := range list {
		if st.State != vss.WriterFailedAtIdentify {
			continue
		}
		a.absent = append(a.absent, st)
		a.leave(a.unheard(LeftOut{Writer: st.InstanceName}, st.Name, "the writer did not identify itself", st.Message))
	}
	return a.sess.FreeWriterStatus(ctx)
}

// unheard says what it means for the backup that a writer's components are not
// known: whether it is a loss, and what would make it none. Of a writer whose
// document cannot be read the kind is unknown as well.
func (a *attempt) unheard(l LeftOut, kind, what, why string) LeftOut {
	s := a.req.Selectors
	if kind != "" && s.excludes(kind, l.Writer) {
		l.Asked, l.Reason = true, what+": "+why
		return l
	}
	if len(a.req.Paths) > 0 {
		l.Reason = what + ", so that its data is taken as that of none: " + why
		return l
	}
	if name, as := s.doubtful(a.writers, a.style, l.Writer); name != "" {
		out := ""
		if kind != "" {
			out = ", or leave this one out: --exclude-writer " + quoted(l.Writer)
		}
		l.Reason = fmt.Sprintf("%s, so that nobody can tell whether it has %s, too (name the writer that is meant: --component %s%s): %s",
			what, quoted(name), quoted(as), out, why)
		return l
	}
	named := !s.Includes() || kind != "" && s.unsettled(a.writers).mayMean(kind, l.Writer)
	l.Asked, l.Reason = !named && !a.req.SystemState, what+": "+why
	return l
}

// doubtful gives the first component chosen by a name that any writer's may have, also
// those of an instance of which nothing else is known, and the same with the name of a
// writer that has it; empty if there is none. Where a component is called by a place on
// the host there is no doubt whose data is meant.
func (s Selectors) doubtful(writers []*Writer, style vss.PathStyle, instance string) (name, as string) {
	for _, name := range s.Components {
		if len(matchWriters(writers, name)) > 0 || len(matchQualified(writers, name)) > 0 {
			continue
		}
		found := matchComponents(writers, name)
		if style.IsAbs(name) && !strings.Contains(instance, name) &&
			slices.ContainsFunc(found, func(c *Component) bool { return c.FullPath() == vss.NormalizeLogicalPath(name) }) {
			continue
		}
		as = "WRITER:" + name
		if len(found) > 0 {
			w := found[0].Writer
			as = firstOf(w.InstanceName, w.Name) + ":" + name
		}
		return name, as
	}
	return "", ""
}

// unsettled are the selectors less those that name a writer by the name of its instance,
// which is no other's, also if it has a word in it that others are called by.
func (s Selectors) unsettled(writers []*Writer) Selectors {
	settled := func(name string) bool {
		return slices.ContainsFunc(writers, func(w *Writer) bool {
			n := w.InstanceName
			return n != "" && len(name) >= len(n) && strings.EqualFold(name[:len(n)], n) && (len(name) == len(n) || name[len(n)] == ':')
		})
	}
	s.Writers = slices.DeleteFunc(slices.Clone(s.Writers), settled)
	s.Components = slices.DeleteFunc(slices.Clone(s.Components), settled)
	return s
}

func firstOf(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}

// mayHave names, to whoever asks in vain for something, the writers that may have it
// and did not say what they have.
func (s Selectors) mayHave(flag, name string, absent []session.WriterStatus) string {
	var of []string
	for _, st := range absent {
		if s.excludes(st.Name, st.InstanceName) || flag == "writer" && !(Selectors{Writers: []string{name}}).mayMean(st.Name, st.InstanceName) {
			continue
		}
		of = append(of, fmt.Sprintf("%s did not identify itself: %s", st.InstanceName, strings.ReplaceAll(st.Message, "\n", "; ")))
	}
	if len(of) == 0 {
		return ""
	}
	text := "it may be that of a writer of which nothing is known: " + of[0]
	if len(of) > 1 {
		text += fmt.Sprintf("; and of %d more, which sombra writers names", len(of)-1)
	}
	return text
}
