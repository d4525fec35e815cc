package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// messages is a log handler that prints for people, one line each, or JSON
// lines of type "log".
type messages struct {
	w     io.Writer
	level slog.Level
	json  bool
	attrs []slog.Attr
}

// Enabled implements [slog.Handler].
func (m *messages) Enabled(_ context.Context, l slog.Level) bool { return l >= m.level }

// Handle implements [slog.Handler].
func (m *messages) Handle(_ context.Context, r slog.Record) error {
	r = r.Clone()
	r.AddAttrs(m.attrs...)
	var line []byte
	if m.json {
		f := fields{"level": strings.ToLower(r.Level.String()), "message": r.Message}
		r.Attrs(func(a slog.Attr) bool {
			if _, ok := f[a.Key]; !ok {
				f[a.Key] = fmt.Sprint(a.Value.Any())
			}
			return true
		})
		var err error
		if line, err = jsonLine("log", f); err != nil {
			return err
		}
	} else {
		line = []byte(m.text(r))
	}
	_, err := m.w.Write(line) // one call a line, which the system keeps whole
	return err
}

// text is a record as people read it: the error, or what somebody says, last.
func (m *messages) text(r slog.Record) string {
	word := ""
	if r.Level >= slog.LevelWarn {
		word = "warning: "
	}
	var about []string
	last := ""
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "error":
			last = ": " + oneLine(fmt.Sprint(a.Value.Any()))
		case "says":
			last = " says: " + printable(fmt.Sprint(a.Value.Any()))
		default:
			about = append(about, a.Key+" "+printable(fmt.Sprint(a.Value.Any())))
		}
		return true
	})
	text := "sombra: " + word + r.Message
	if len(about) > 0 {
		text += " (" + strings.Join(about, ", ") + ")"
	}
	return text + last + "\n"
}

// WithAttrs implements [slog.Handler].
func (m *messages) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *m
	n.attrs = append(slices.Clone(m.attrs), attrs...)
	return &n
}

// WithGroup implements [slog.Handler]. A group's name adds nothing to a line.
func (m *messages) WithGroup(string) slog.Handler { return m }
