// Package xmldoc reads XML 1.0 documents into a tree that keeps every
// character, lets attributes be changed and elements be added, and writes the
// tree so that all that nobody touched comes back as it was: unknown elements
// and attributes, their order, comments, white space, the kind of quotation
// mark, line breaks inside attributes.
//
// encoding/xml is not used because it loses such things and does not normalise
// attribute values (XML 1.0 §3.3.3), which a value's meaning depends on.
//
// Input is bounded in size, depth, nodes and attributes before memory is taken
// for it; entities beyond the five predefined ones are refused, so nothing
// expands. Every error is a [*SyntaxError] with line and column, and is
// vss.ErrInvalidXMLDocument. A document may be read by several goroutines at
// once, and written by one alone.
package xmldoc
