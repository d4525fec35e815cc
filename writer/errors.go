package writer

import "errors"

// ErrNotMine is returned by [Kind].New for discovered data that on a closer
// look is not the kind's: a file named *.db that is no database.
var ErrNotMine = errors.New("writer: not data of this kind")
