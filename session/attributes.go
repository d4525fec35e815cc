package session

import "strings"

// AttributeError says that an object was restored but that some of its
// attributes could not be given to it: its data and its name are right. It
// comes from [NewFile.Commit], and from Symlink, Mknod and SetAttributes of
// [Target].
type AttributeError struct {
	Name     string
	Problems []AttributeProblem
}

// AttributeProblem is one attribute that an object lacks.
type AttributeProblem struct {
	// Attribute is "owner", "group", "mode", "times" or the name of an
	// extended attribute.
	Attribute string
	Err       error
}

// Error names the object, and each attribute with the reason.
func (e *AttributeError) Error() string {
	var b strings.Builder
	b.WriteString(e.Name + ": restored without")
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(" " + p.Attribute + " (" + p.Err.Error() + ")")
	}
	return b.String()
}

// Unwrap gives the reasons.
func (e *AttributeError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p.Err
	}
	return errs
}
