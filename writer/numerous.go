package writer

// Numerous is implemented by a [Kind] that finds what a host may well have thousands
// of, as database files, and bounds their number by itself. Of the writers that other
// kinds find the service takes a limited number, since any user can make things that
// look like a server or its data.
type Numerous interface {
	Kind
	// Numerous is never called.
	Numerous()
}
