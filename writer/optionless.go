package writer

// Optionless is implemented by a [Kind] whose writers know no restore option
// (SetRestoreOptions). No Writer Metadata Document can say that, and what a writer
// does not look at it ignores: so a requester asks the kinds, and tells the user who
// gives such an option.
type Optionless interface {
	Kind
	// Optionless is never called.
	Optionless()
}
