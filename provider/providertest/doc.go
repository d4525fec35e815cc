// Package providertest checks that a provider keeps the contract of package
// provider. A provider's own test makes a [Harness] and calls [Run]; its
// TestMain calls [Main], for the suite starts the test binary again as the
// program that writes while copies are made.
//
// What is asked of a provider depends on its [provider.Capabilities], never on
// its name: one that is atomic must keep the order of durable writes of a
// running program, another must show exactly the files of one that is stopped.
//
// The suite exists on Linux only.
package providertest
