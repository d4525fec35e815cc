// Package metadata holds the two documents everything else is decided from:
// the Writer Metadata Document, in which a writer says what it has and how it
// wants it saved and restored, and the Backup Components Document, in which the
// requester writes what it chose and both sides write what came of it.
//
// Documents made by Windows load here, and those made here have the same
// elements and namespaces. A document nobody changed is saved byte for byte as
// it was read; in a changed one all that is unknown survives. Values are what a
// conforming XML 1.0 reader reports; see package xmldoc. Which names were seen
// in Microsoft's documents and which are this project's own stands in
// docs/documents.md.
//
// Documents know nothing of time: who may write which part when is the
// business of the session. What they do check is form and identity, with the
// model's codes. A document may be read by several goroutines at once and
// written by one alone.
package metadata

import "github.com/sombra-backup/sombra/metadata/xmldoc"

// SyntaxError says at which line and column a document is broken. errors.As
// finds it in what the Parse functions return.
type SyntaxError = xmldoc.SyntaxError
