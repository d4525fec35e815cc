// Package secondreader holds a test and nothing else: a reader of repositories
// that was written from docs/format.md and shares no code with package
// repository. It fails when the document and the program part ways.
package secondreader
