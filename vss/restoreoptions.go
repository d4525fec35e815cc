package vss

import "strings"

// RestoreOption is one option of a restore options text (R-RES-29), such as
// "Authoritative"="Item:x". Sub, if not empty, is a path below the component;
// the option then holds for it and what is below it.
type RestoreOption struct {
	Sub   string
	Name  string
	Value string
}

// Is reports whether the option has this name; names and subs know no case.
func (o RestoreOption) Is(name string) bool { return strings.EqualFold(o.Name, name) }

// MaxRestoreOptions bounds the number of options in one text.
const MaxRestoreOptions = 1 << 16

// ParseRestoreOptions reads the grammar of R-RES-29: options separated by
// commas, blanks allowed after a comma and at both ends; the empty text has no
// options. A quoted part ends at the next quotation mark, there is no way to
// quote one. The error is [ErrInvalidArgument] with the offset in bytes.
func ParseRestoreOptions(text string) ([]RestoreOption, error) {
	p := optionParser{text: text}
	p.blanks()
	if p.at == len(text) {
		return nil, nil
	}
	var options []RestoreOption
	for {
		o, err := p.option()
		if err != nil {
			return nil, err
		}
		if options = append(options, o); len(options) > MaxRestoreOptions {
			return nil, p.error("more than %d options", MaxRestoreOptions)
		}
		p.blanks()
		if p.at == len(text) {
			return options, nil
		}
		if !p.take(",") {
			return nil, p.error("a comma is wanted")
		}
		p.blanks()
	}
}

type optionParser struct {
	text string
	at   int
}

func (p *optionParser) blanks() {
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
}

func (p *optionParser) take(s string) bool {
	if strings.HasPrefix(p.text[p.at:], s) {
		p.at += len(s)
		return true
	}
	return false
}

func (p *optionParser) error(format string, args ...any) error {
	return Errorf(ErrInvalidArgument, "read", "restore options", "at offset %d: "+format, append([]any{p.at}, args...)...)
}

func (p *optionParser) quoted() (string, error) {
	if !p.take(`"`) {
		return "", p.error("a quotation mark is wanted")
	}
	end := strings.IndexByte(p.text[p.at:], '"')
	if end < 0 {
		return "", p.error("the quotation mark is not closed")
	}
	s := p.text[p.at : p.at+end]
	p.at += end + 1
	return s, nil
}

// option reads `"name"="value"` or `"sub":"name"="value"`.
func (p *optionParser) option() (o RestoreOption, err error) {
	if o.Name, err = p.quoted(); err != nil {
		return o, err
	}
	if p.take(":") {
		o.Sub = o.Name
		if o.Name, err = p.quoted(); err != nil {
			return o, err
		}
	}
	if o.Name == "" {
		return o, p.error("the option has no name")
	}
	if !p.take("=") {
		return o, p.error("an equals sign is wanted")
	}
	o.Value, err = p.quoted()
	return o, err
}

// FormatRestoreOptions gives the text of R-RES-29. A part with a quotation mark
// or a missing name cannot be written and is [ErrInvalidArgument].
func FormatRestoreOptions(options []RestoreOption) (string, error) {
	var b strings.Builder
	for i, o := range options {
		if o.Name == "" {
			return "", Errorf(ErrInvalidArgument, "write", "restore options", "option %d has no name", i+1)
		}
		if strings.Contains(o.Sub+o.Name+o.Value, `"`) {
			return "", Errorf(ErrInvalidArgument, "write", "restore options", "option %q holds a quotation mark", o.Name)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		if o.Sub != "" {
			b.WriteString(`"` + o.Sub + `":`)
		}
		b.WriteString(`"` + o.Name + `"="` + o.Value + `"`)
	}
	return b.String(), nil
}
