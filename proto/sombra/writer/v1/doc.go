// Package writerv1 is the protocol between the shadow copy service and writers
// in other processes, as it is made from writer.proto. The rules that a program
// of any language must keep stand there; package writer serves a writer of this
// language by it.
package writerv1
