// Package testwriter is a writer driven by the XML configuration of the VSS
// Test Writer: it declares what the configuration says, does with its files
// what that says (copies them aside, deletes them, fails, hangs), and after a
// restore checks that the requester put back what belongs and nothing else. It
// is how a requester is proven; docs/writers/testwriter.md describes every
// element and attribute, and which are this project's own.
//
// It works on the host it runs on, with paths in that host's style.
package testwriter
