package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// number is a flag that takes a whole number within bounds.
type number struct {
	value       *int
	least, most int
	noun        string
}

// Set reads a flag.
func (n number) Set(text string) error {
	v, err := strconv.Atoi(text)
	if err != nil || v < n.least || v > n.most {
		return fmt.Errorf("%q is not a whole number from %d to %d", text, n.least, n.most)
	}
	*n.value = v
	return nil
}

func (n number) String() string {
	if n.value == nil {
		return "0"
	}
	return strconv.Itoa(*n.value)
}

// Type is the placeholder in a help text.
func (n number) Type() string { return n.noun }

// percent is a flag that takes a percentage.
type percent float64

// Set reads a flag.
func (p *percent) Set(text string) error {
	v, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !(v >= 0 && v <= 100) {
		return fmt.Errorf("%q is not a percentage from 0 to 100", text)
	}
	*p = percent(v)
	return nil
}

func (p *percent) String() string { return strconv.FormatFloat(float64(*p), 'g', -1, 64) }

// Type is the placeholder in a help text.
func (p *percent) Type() string { return "percent" }

// span is a duration in Go's notation, or in days, weeks or years of 365 days.
type span time.Duration

// spanUnits are those that Go's notation lacks.
var spanUnits = map[byte]time.Duration{'d': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'y': 365 * 24 * time.Hour}

// maxSpan is the longest one: of any more a time.Duration could not be made.
const maxSpan = 200 * 365 * 24 * time.Hour

// Set reads a flag.
func (s *span) Set(text string) error {
	d, err := parseSpan(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 36h, 14d, 8w or 1y", text)
	}
	if d < 0 || d > maxSpan {
		return fmt.Errorf("%q is not a duration from 0 to 200y", text)
	}
	*s = span(d)
	return nil
}

// parseSpan reads a duration; one that is far too long is given as negative.
func parseSpan(text string) (time.Duration, error) {
	if text == "" {
		return 0, strconv.ErrSyntax
	}
	unit := spanUnits[text[len(text)-1]]
	if unit == 0 {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, err
	}
	if n > uint64(math.MaxInt64/unit) {
		return -1, nil
	}
	return time.Duration(n) * unit, nil
}

func (s *span) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

// Type is the placeholder in a help text.
func (s *span) Type() string { return "duration" }

// flagError says in our words what is wrong with a flag's value: the flag, the
// value, and what it may be.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	return fmt.Errorf("--%s: %w", bad.GetFlag().Name, valueError(bad.GetFlag(), bad.GetValue(), bad.Unwrap()))
}

// valueError is the error of a flag's value; that of the flags whose reading is
// not ours says what the flag takes.
func valueError(f *pflag.Flag, value string, err error) error {
	switch f.Value.Type() {
	case "bool":
		return fmt.Errorf("%q is neither true nor false", value)
	case "count":
		return fmt.Errorf("%q is not a whole number", value)
	}
	return err
}
