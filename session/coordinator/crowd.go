package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// How many of the writers of one kind that nobody configured are taken: of one
// user's, who may have made them in order to keep everybody busy, and in all.
const (
	maxFoundOfUser = 64
	maxFound       = 256
)

// maxNamed bounds the users that a message names.
const maxNamed = 5

// crowd takes away what is too many of what a kind has found. All that is configured
// stays. Users come in the order of their ids, as services have lower ones than
// people and what people's processes run as.
func crowd(found []writer.Spec) (kept []writer.Spec, over map[uint32]int) {
	of := make(map[uint32]int)
	for _, s := range found {
		if s.Discovered {
			of[s.Owner.UID]++
		}
	}
	over = make(map[uint32]int)
	room, left := make(map[uint32]int), maxFound
	for _, uid := range slices.Sorted(maps.Keys(of)) {
		room[uid] = min(of[uid], maxFoundOfUser, left)
		left -= room[uid]
		if n := of[uid] - room[uid]; n > 0 {
			over[uid] = n
		}
	}
	for _, s := range found {
		if s.Discovered {
			if room[s.Owner.UID] == 0 {
				continue
			}
			room[s.Owner.UID]--
		}
		kept = append(kept, s)
	}
	return kept, over
}

// few takes no more of a kind's writers than crowd does, and says so once. In a
// restore the backup says how many there are.
func (g *gathering) few(k writer.Kind, found []writer.Spec) []writer.Spec {
	if _, many := k.(writer.Numerous); many || !g.has(inBackup) {
		return found
	}
	kept, over := crowd(found)
	if len(over) == 0 {
		return kept
	}
	var users []string
	n := 0
	for _, uid := range slices.Sorted(maps.Keys(over)) {
		n += over[uid]
		if len(users) < maxNamed {
			users = append(users, fmt.Sprintf("user id %d (%d)", uid, over[uid]))
		}
	}
	if more := len(over) - len(users); more > 0 {
		users = append(users, fmt.Sprintf("%d more", more))
	}
	text := fmt.Sprintf("too many were found: %d are left out, of %s; no more than %d of one user and %d in all are taken that nobody configured: name under writers: those that are to take part, or exclude what only looks like one",
		n, strings.Join(users, ", "), maxFoundOfUser, maxFound)
	g.log.Warn("writers left out", "kind", k.Name(), "count", n, "reason", text)
	g.missing(session.WriterStatus{Name: k.Name(), InstanceName: k.Name(), State: vss.WriterFailedAtIdentify,
		Failure: vss.ErrWriterInfrastructure, Message: text, Event: writer.EventIdentify.String()})
	return kept
}
