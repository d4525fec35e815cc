// Package writertest is the conformance suite for writers.
//
// An author of a writer describes how to start the application with its data
// and the writer, as a [Subject], and calls [Run]. The suite then plays the
// shadow copy service: it sends the events in the model's order and in orders
// that happen when things go wrong, with clients at work on the application, and
// checks what the interface [writer.Writer] promises. Above all it verifies the
// stillness a writer declares, by reading every file of its components twice
// while it is frozen. A writer whose stillness is less than that has the processes
// stopped that its Freeze named, as the service does, and its files must not change
// then.
//
// What an application or writer cannot do is declared by leaving a field of the
// Subject empty; the checks that need it are skipped, and say so. The suite
// never asks for a writer's name.
package writertest
