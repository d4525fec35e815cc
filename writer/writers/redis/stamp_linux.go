package redis

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// stamp is what a backup is known by: how far the file that is appended to went,
// in the life of the server in which it did.
type stamp struct {
	Run  string `json:"run"`
	Incr string `json:"incr,omitempty"`
	Size int64  `json:"size,omitempty"`
	// Keys is how many keys there were that never expire: a restore that
	// brings a server up without any has failed.
	Keys int64 `json:"keys"`
}

// maxStamp bounds what is read: it comes back from a medium.
const maxStamp = 4096

func (s stamp) encode() string {
	b, _ := json.Marshal(s) // text and numbers only
	return string(b)
}

func parseStamp(text string) (stamp, error) {
	var s stamp
	if len(text) > maxStamp {
		return s, fmt.Errorf("a stamp of %d bytes", len(text))
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("stamp %.60q: %w", text, err)
	}
	if s.Size < 0 || s.Keys < 0 {
		return s, fmt.Errorf("stamp %.60q: a negative number", text)
	}
	return s, nil
}

var _ writer.PostSnapshotter = (*redisWriter)(nil)

// PostSnapshot implements [writer.PostSnapshotter]. It stamps the backup, and in
// one that builds upon another lists what need not be read whole.
func (w *redisWriter) PostSnapshot(ctx context.Context, e *writer.Event) error {
	const event = "PostSnapshot"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	shot := w.frozen
	c := w.component(e.Components)
	if c == nil || shot == nil {
		return nil
	}
	now := stamp{Run: shot.runID, Incr: shot.incr, Size: shot.incrSize, Keys: shot.keys}
	err := c.SetBackupStamp(vss.BackupStamp(now.encode()))
	if err == nil {
		err = w.list(c, e, now)
	}
	if err != nil {
		return w.failure(ctx, vss.ErrWriterErrorNonRetryable, event, err)
	}
	return nil
}

func (w *redisWriter) component(parts *metadata.WriterComponents) *metadata.Component {
	if parts == nil {
		return nil
	}
	c, ok := parts.Component("", w.conf.Directory)
	if !ok {
		return nil
	}
	return c
}

// list lists what is saved only if it has changed. The server replaces its files
// by new ones and appends to one; it changes none in place, so their times tell.
// Of the one that it appends to, only the end is new, as long as it is the same
// server that goes on: one that starts may cut off a torn end.
func (w *redisWriter) list(c *metadata.Component, e *writer.Event, now stamp) error {
	text, ok := c.PreviousBackupStamp()
	if t := e.State.Type; !ok || t != vss.BackupTypeIncremental && t != vss.BackupTypeDifferential {
		return nil
	}
	dir := w.conf.Directory
	if !w.facts.aof {
		return c.AddDifferencedFilesByLastModifyTime(metadata.DifferencedFile{FileSpec: vss.FileSpec{Path: dir, Pattern: w.facts.names.rdb}})
	}
	before, err := parseStamp(string(text))
	if err != nil {
		return err
	}
	grown := e.State.PartialFileSupport && now.Incr != "" && before.Run == now.Run && before.Incr == now.Incr && before.Size < now.Size
	for _, set := range w.facts.aofSets(dir) {
		if set.log && grown {
			r := vss.Ranges{{Offset: uint64(before.Size), Length: uint64(now.Size - before.Size)}}
			err = c.AddPartialFile(metadata.PartialFile{Path: set.spec.Path, Name: now.Incr, Ranges: r.Format()})
		} else {
			err = c.AddDifferencedFilesByLastModifyTime(metadata.DifferencedFile{FileSpec: set.spec})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
