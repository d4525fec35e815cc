// Package vss holds the words of the Volume Shadow Copy model: enumerations
// with Microsoft's values and names, identifiers, error codes, file
// specifications, logical paths, byte ranges, file times and restore options.
//
// Everything here is pure: no file is opened, no host is asked, and a path is
// a string in the style of the host it came from (see [PathStyle]), which need
// not be the host the program runs on. All values are safe for concurrent use
// as long as nobody writes to them.
//
// Rules named R-SEL, R-SET, R-TYPE and R-RES, and readings named D-n, are
// those of the model as this project wrote them down; the tests name them too.
package vss
