package store

import (
	"context"
	"fmt"
	"strings"
)

// Listing watches a listing by a service that may be hostile: one whose pages
// lead round in a circle would never end. Services list in the order of the
// names, so an entry that does not come after the last one is an error, and so
// are many pages on end that bring nothing. A Listing is used by one goroutine.
type Listing struct {
	service, prefix string
	last            string
	// bytes and tree say that the entries so far came in the order of their
	// bytes, and in that of a tree, where a slash sorts before all else. The
	// two differ in names such as a-b and a/b; who lists folders has the second.
	bytes, tree bool
	pages       int
	versions    int
}

// Bounds of a listing. Some services give pages without entries for what was
// deleted lately.
const (
	maxEmptyPages = 1000
	maxVersions   = 1 << 20
)

type listingKey struct{}

// Watch begins a listing of the names that begin with prefix by a service, whose
// name is for errors. The context is to be that of the requests that are made for
// pages with a client of [Client], which counts them.
func Watch(ctx context.Context, service, prefix string) (context.Context, *Listing) {
	l := &Listing{service: service, prefix: prefix, bytes: true, tree: true}
	return context.WithValue(ctx, listingKey{}, l), l
}

// Entry takes in the next name, valid or not. The error is final.
func (l *Listing) Entry(name string) error {
	l.pages = 0
	l.versions = 1
	if l.last != "" {
		l.bytes = l.bytes && name > l.last
		l.tree = l.tree && treeLess(l.last, name)
	}
	if !l.bytes && !l.tree || name == "" {
		return l.fail(fmt.Errorf("lists %q after %q, although names come in increasing order: its pages may lead round in a circle", short(name), short(l.last)))
	}
	l.last = name
	return nil
}

// Version takes in the next version of a name: of one name there may be several.
func (l *Listing) Version(name string) error {
	if name != l.last || name == "" {
		return l.Entry(name)
	}
	l.pages = 0
	if l.versions++; l.versions > maxVersions {
		return l.fail(fmt.Errorf("lists more than %d versions of %q", maxVersions, short(name)))
	}
	return nil
}

// page counts a request for a page.
func (l *Listing) page() error {
	if l.pages++; l.pages > maxEmptyPages {
		return l.fail(fmt.Errorf("gives %d pages on end without an entry", maxEmptyPages))
	}
	return nil
}

func (l *Listing) fail(err error) error {
	return Permanent(fmt.Errorf("list %s: the service %s %w", l.prefix, l.service, err))
}

// treeLess says whether a comes before b in a tree.
func treeLess(a, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	switch {
	case i == len(a) || i == len(b):
		return len(a) < len(b)
	case a[i] == '/' || b[i] == '/':
		return a[i] == '/'
	}
	return a[i] < b[i]
}

// short is a name of any length for an error.
func short(name string) string {
	const most = 80
	if len(name) > most {
		return strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}
