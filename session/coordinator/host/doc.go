// Package host runs built-in writers in processes of their own, with the rights
// of those who own the data.
//
// A writer host is this very program, started again with the uid, gid and groups
// of the owner of what its writers look after. It is confined to these: it can
// get no others (no_new_privs, no inherited capabilities). Thus a writer can be
// made to touch nothing that the owner of its data could not touch himself, and
// no other code in its process opens the database files, which would drop the
// locks on them.
//
// A host inherits nothing but one end of a socket pair: no other descriptors, no
// environment beyond search path, language and home directory, no working
// directory, no terminal. It gets the specifications of its writers over the
// socket, answers what became of each, and then serves them (package writer)
// until the connection ends. What a writer holds it then lets go.
//
// A host may not stop and start units of systemd. If a specification names one, it
// inherits a second socket pair, over which the process that started it does that
// for exactly the units of its specifications ([writer.Service]).
//
// A writer that died frozen is undone by starting a host with the same
// specification again and sending its writer Abort.
package host

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// maxSpecs bounds the writers of one host.
const maxSpecs = 256

// Options says how to start hosts.
type Options struct {
	// Exe is the program, which must call Main when it gets Args; empty means
	// the program that is running.
	Exe  string
	Args []string
	// Stderr is the host's standard error, where its writers log; nil means
	// nowhere.
	Stderr *os.File
	// StartLimit is how long a host may take until all its writers are made,
	// CloseLimit how long it may take to end. Zero means 30 s each.
	StartLimit time.Duration
	CloseLimit time.Duration
	// Service gives the unit of a specification that names one; nil means the
	// host's own units, by systemctl.
	Service func(writer.Spec) writer.ServiceHolder
}

func (o Options) withDefaults() Options {
	if o.StartLimit <= 0 {
		o.StartLimit = 30 * time.Second
	}
	if o.CloseLimit <= 0 {
		o.CloseLimit = 30 * time.Second
	}
	return o
}

// Writer is a writer in a host.
type Writer struct {
	*writer.Remote
	// Spec is what it was made from.
	Spec writer.Spec
}

// Group divides specifications into those that can share a host: they have the
// same kind and the same owner, and are not too many. Their order is kept.
func Group(specs []writer.Spec) [][]writer.Spec {
	var groups [][]writer.Spec
	open := make(map[string]int) // the group that is not full yet
	for _, s := range specs {
		key := fmt.Sprint(s.Kind, "\x00", s.Owner.UID, s.Owner.GID, groupSet(s.Owner))
		i, ok := open[key]
		if !ok || len(groups[i]) == maxSpecs {
			i = len(groups)
			open[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], s)
	}
	return groups
}

// groupSet returns the owner's supplementary groups in order, each once.
func groupSet(o writer.Owner) []uint32 {
	g := slices.Clone(o.Groups)
	slices.Sort(g)
	return slices.Compact(g)
}

// checkGroup checks that specifications may share a host.
func checkGroup(specs []writer.Spec) error {
	switch {
	case len(specs) == 0:
		return vss.Errorf(vss.ErrInvalidArgument, "start", "writer host", "no writers are named")
	case len(Group(specs)) != 1:
		return vss.Errorf(vss.ErrInvalidArgument, "start", "writer host",
			"writers of several kinds or owners, or more than %d", maxSpecs)
	}
	return nil
}

// report is a host's answer to its specifications: one element for each.
type report []outcome

// outcome is what became of one writer.
type outcome struct {
	// Served: it is there, the next in the order of those served.
	Served bool `json:"served,omitempty"`
	// Code and Text are the error if there was one. If the data turned out
	// not to be the kind's all three are empty.
	Code vss.Code `json:"code,omitempty"`
	Text string   `json:"text,omitempty"`
}

func (o outcome) error() error {
	if o.Text == "" {
		return nil
	}
	return &hostError{o.Text, o.Code}
}

// hostError is an error that was made in a host.
type hostError struct {
	text string
	code vss.Code
}

func (e *hostError) Error() string { return e.text }
func (e *hostError) Unwrap() error { return e.code }
