package repository

import (
	"bufio"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// localWriter writes the state file that goes with the record being made, block
// by block as they are stored. Its first error ends it and is kept for finish:
// what cannot be written costs the next backup its speed, not this one its life.
type localWriter struct {
	all   string // the repository's directory
	name  string // of the state
	dir   string
	local secret

	mu     sync.Mutex
	file   *os.File
	w      *bufio.Writer
	cipher cipher.AEAD
	enc    *zstd.Encoder
	offset int64
	have   map[ID]struct{}
	list   stateDirectory
	buf    []byte
	err    error
}

// newLocalWriter begins a state file of that name in the repository's directory.
func newLocalWriter(k *keyring, dir, name string) *localWriter {
	all := dir
	dir = filepath.Join(dir, name)
	w := &localWriter{all: all, name: name, dir: dir, have: map[ID]struct{}{}, enc: newEncoder(zstd.SpeedFastest)}
	rand.Read(w.local[:])
	w.cipher = k.stateCipher(w.local)
	if w.err = makePrivateDir(dir, depthOf(name)); w.err != nil {
		return w
	}
	if w.file, w.err = createPrivate(filepath.Join(dir, stateName(w.local))); w.err != nil {
		return w
	}
	w.w = bufio.NewWriterSize(w.file, 256<<10)
	_, w.err = w.w.WriteString(magic(kindState))
	w.offset = magicSize
	return w
}

// add takes in a block.
func (w *localWriter) add(id ID, block []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.have[id]; ok || w.err != nil {
		return
	}
	if len(w.list.lines) == maxStateBlocks {
		w.err = fmt.Errorf("more than %d blocks", maxStateBlocks)
		return
	}
	w.buf = appendFrame(w.buf[:0], w.enc, block)
	w.have[id] = struct{}{}
	w.list.lines = append(w.list.lines, w.boxLocked(boxBlock, id, w.buf, uint32(len(block))))
}

// boxLocked writes a box and says where it is. Offsets are nonces: they only
// grow, and an error ends the file.
func (w *localWriter) boxLocked(kind boxKind, id ID, plain []byte, length uint32) stateLine {
	nonce := nonceAt(w.offset)
	box := w.cipher.Seal(nil, nonce[:], plain, []byte{byte(kind)})
	l := stateLine{id, w.offset, uint32(len(box)), length}
	if _, err := w.w.Write(box); err != nil && w.err == nil {
		w.err = err
	}
	w.offset += int64(len(box))
	return l
}

// has says whether the block is there, and all that it refers to with it:
// blocks of lists come after those below them.
func (w *localWriter) has(id ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.have[id]
	return ok
}

func (w *localWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *localWriter) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err != nil
}

// finish makes the state that of the record, which is in the repository. The
// key file is replaced last: until then the old state is the one that counts.
func (w *localWriter) finish(record ID, plain []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil || w.err != nil {
		return w.endLocked(w.err)
	}
	w.list.record = record
	w.list.at = w.boxLocked(boxRecord, ID{}, plain, 0)
	at := w.boxLocked(boxDirectory, ID{}, w.list.encode(), 0)
	trailer := binary.LittleEndian.AppendUint64(nil, uint64(at.offset))
	trailer = binary.LittleEndian.AppendUint32(trailer, at.size)
	trailer = append(trailer, magic(kindState)...)
	if _, err := w.w.Write(trailer); err != nil && w.err == nil {
		w.err = err
	}
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err == nil {
		w.err = w.file.Sync()
	}
	if w.err != nil {
		return w.endLocked(w.err)
	}
	if err := w.file.Close(); err != nil {
		return w.endLocked(err)
	}
	w.file = nil
	if err := w.publish(); err != nil {
		return err
	}
	w.sweep()
	w.dropOld()
	return nil
}

// publish puts the key file in its place, which names the state.
func (w *localWriter) publish() error {
	// The name of the state must be durable before the key that leads to it.
	if err := syncDir(w.dir); err != nil {
		return err
	}
	temp := filepath.Join(w.dir, strings.TrimSuffix(stateName(w.local), ".state")+".key")
	f, err := createPrivate(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(append([]byte(magic(kindStateKey)), w.local[:]...))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(w.dir, stateKeyName))
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(w.dir)
}

// sweep removes what earlier backups left: the state before this one, and
// what those left that were killed. One that goes on keeps its own.
func (w *localWriter) sweep() {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		if name == stateKeyName || name == stateName(w.local) || !strings.HasSuffix(name, ".state") && !strings.HasSuffix(name, ".key") {
			continue
		}
		info, err := e.Info()
		if err == nil && (isWholeState(filepath.Join(w.dir, name)) || time.Since(info.ModTime()) > sweepAge) {
			os.Remove(filepath.Join(w.dir, name))
		}
	}
}

// dropOld removes the oldest states if there are too many. The key goes first:
// without it a state is none.
func (w *localWriter) dropOld() {
	named := slices.DeleteFunc(localStates(w.all), func(name string) bool { return name == "" || name == w.name })
	for i, name := range named {
		if i < MaxLocalStates-1 {
			continue
		}
		dir := filepath.Join(w.all, name)
		if os.Remove(filepath.Join(dir, stateKeyName)) == nil {
			old := localWriter{dir: dir}
			old.sweep()
			os.Remove(dir) // stays if another backup writes in it
		}
	}
}

// isWholeState says whether a state file was ended: then it is no longer being
// written.
func isWholeState(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < magicSize+stateTrailer {
		return false
	}
	tail := make([]byte, magicSize)
	return readState(f, tail, info.Size()-magicSize) == nil && string(tail) == magic(kindState)
}

// abort gives up the file.
func (w *localWriter) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = ErrClosed
	}
	w.endLocked(w.err)
}

// endLocked removes the file.
func (w *localWriter) endLocked(err error) error {
	clear(w.local[:])
	if w.file != nil {
		name := w.file.Name()
		w.file.Close()
		os.Remove(name)
		w.file = nil
	}
	return err
}

// carry takes the blocks of an extent list over from the state before. Those
// that this backup made itself are there already.
func (b *Backup) carry(ctx context.Context, n *listNode) {
	if n.level == 0 || b.local.failed() {
		return
	}
	for i, ref := range n.refs {
		if b.local.has(ref.id) {
			continue
		}
		block, err := b.r.chunk(ctx, ref.id, ref.length)
		if err == nil {
			var child *listNode
			if child, err = decodeNode(block, n.level-1, n.spans[i]); err == nil {
				b.carry(ctx, child)
			}
		}
		if err != nil {
			b.local.fail(err)
			return
		}
		b.local.add(ref.id, block)
	}
}

// abortLocal gives up the local state if it was not finished.
func (b *Backup) abortLocal() {
	if b.local != nil {
		b.local.abort()
	}
}

// keepLocal makes the local state that of the record just made. If it cannot be
// kept, the earlier ones go too: they would pass for all that this machine has
// made.
func (b *Backup) keepLocal(rec *Record) {
	if b.local == nil {
		return
	}
	err := b.local.finish(rec.ID, rec.plain)
	if err == nil {
		return
	}
	b.localErr = fmt.Errorf("keep local state in %s: %w", b.local.dir, err)
	if err := b.local.dropAll(); err != nil {
		b.localErr = fmt.Errorf("%w; and the states before it are not removed: %w", b.localErr, err)
	}
}

// dropAll makes every state none.
func (w *localWriter) dropAll() (err error) {
	for _, name := range localStates(w.all) {
		dir := filepath.Join(w.all, name)
		if rerr := os.Remove(filepath.Join(dir, stateKeyName)); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		err = errors.Join(err, syncDir(dir))
		(&localWriter{dir: dir}).sweep()
	}
	return err
}

// LocalState says, after Commit, whether what the next backup of this machine
// needs was kept: nil if so, or if the key can read the repository and nothing
// needs to be kept. With an error no earlier state is left either, as far as they
// can be removed: the next backup reads every file, and knows of none before it.
func (b *Backup) LocalState() error { return b.localErr }
