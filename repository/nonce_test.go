package repository

import (
	"bytes"
	"context"
	"crypto/hpke"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// witness is a store that keeps the bytes of every Put, those that fail
// included. The Put that left counts down to fails, before the object is there or
// after.
type witness struct {
	store.Store
	mu    sync.Mutex
	puts  [][]byte
	left  int
	after bool
}

func (w *witness) Put(ctx context.Context, name string, data []byte) error {
	w.mu.Lock()
	w.puts = append(w.puts, bytes.Clone(data))
	w.left--
	fails := w.left == 0
	w.mu.Unlock()
	if fails {
		if w.after {
			w.Store.Put(ctx, name, data)
		}
		return errInjected
	}
	return w.Store.Put(ctx, name, data)
}

// nonces keeps under which key, with which nonce, what was encrypted.
type nonces struct {
	t    *testing.T
	k    *keyring
	seen map[string]string
	keys map[string]bool
}

// use says that a box lies at the offset of an object with the key. Bytes that
// are put again are the same bytes.
func (n *nonces) use(key []byte, offset int64, box []byte) {
	n.t.Helper()
	id := fmt.Sprintf("%x at %d", key, offset)
	if was, ok := n.seen[id]; ok && was != string(box) {
		n.t.Errorf("key and nonce were used twice: %s", id)
	}
	n.seen[id] = string(box)
	n.keys[string(key)] = true
}

// object takes an object apart into its boxes.
func (n *nonces) object(object []byte) {
	n.t.Helper()
	kind := objectKind(object[6])
	switch kind {
	case kindConfig:
	case kindDataPack, kindMetaPack:
		key := n.fresh(kind, object)
		frames, _, err := (&Repository{keys: n.k}).openPack(kind, bytes.Clone(object))
		if err != nil {
			n.t.Fatal(err)
		}
		at := int64(headerSize)
		for _, f := range frames {
			if int64(f.offset) != at {
				n.t.Errorf("a frame at %d, not at %d", f.offset, at)
			}
			at += int64(f.size)
			n.use(key, int64(f.offset), object[f.offset:at])
		}
		n.use(key, at, object[at:])
	case kindRecord, kindNote:
		n.use(n.fresh(kind, object), headerSize, object[headerSize:])
	case kindSlot:
		s, err := decodeSlot(object)
		if err != nil {
			n.t.Fatal(err)
		}
		n.use(s.Salt, 0, s.box)
	case kindIndex:
		// Boxes of pages have one size, and the tail follows: the places are
		// as many as the nonces. What decides is the salt.
		if _, err := decodeIndex(n.k, object); err != nil {
			n.t.Fatal(err)
		}
		n.use(object[magicSize:indexHeaderSize], indexHeaderSize, object[indexHeaderSize:])
	default:
		// What every machine can read is sealed with a salt.
		n.use(object[magicSize:magicSize+saltSize], magicSize+saltSize, object[magicSize+saltSize:])
	}
}

// fresh opens the random key of a sealed object.
func (n *nonces) fresh(kind objectKind, object []byte) []byte {
	n.t.Helper()
	key, err := hpke.Open(n.k.private, hpke.HKDFSHA256(), hpke.AES256GCM(), n.k.hpkeInfo(kind), object[magicSize:headerSize])
	if err != nil {
		n.t.Fatal(err)
	}
	return key
}

// TestNoKeyAndNonceComeTwice makes backups with full and write-only keys, while
// each Put in turn fails, until they succeed, changes passwords and adds notes; of
// everything that was sent to the store, and of every local state, no key is used
// with one nonce for two things. See docs/format.md, 3.4.
func TestNoKeyAndNonceComeTwice(t *testing.T) {
	ctx := t.Context()
	st := &witness{Store: mem.New()}
	full := newTestRepository(t, st)
	open := writeOnlyMachine(t, full, st)
	n := &nonces{t, full.keys, map[string]string{}, map[string]bool{}}
	states := map[string]bool{}
	keepState := func(dir string) {
		for name, data := range dirFiles(t, dir) {
			if name != stateKeyName {
				continue
			}
			local := secret(data[magicSize:])
			f := filepath.Join(dir, stateName(local))
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s, err := openStateFile(bytes.NewReader(data), int64(len(data)), full.keys.stateCipher(local))
			if err != nil {
				t.Fatal(err)
			}
			at := int64(magicSize)
			for _, l := range s.byOffset() {
				if l.offset != at {
					t.Errorf("a box at %d, not at %d", l.offset, at)
				}
				at += int64(l.size)
				n.use(local[:], l.offset, data[l.offset:at])
			}
			n.use(local[:], at, data[at:])
			states[hex.EncodeToString(local[:])] = true
		}
	}
	failed := 0
	for round := range 10 {
		r := full
		if round%2 == 1 {
			r = open()
		}
		for try := 0; ; try++ {
			st.mu.Lock()
			st.left, st.after = 1+try, round%4 > 1
			st.mu.Unlock()
			b, err := r.Begin(ctx, BeginOptions{})
			if err == nil {
				// The same content again and again: nothing but the keys differs.
				for i := range 20 {
					if err = storeFile(ctx, b, fmt.Sprint(i), randomData(5000, uint64(round*3+i))); err != nil {
						break
					}
				}
			}
			var rec *Record
			if err == nil {
				rec, err = b.Commit(ctx, testInfo())
			}
			if b != nil {
				b.Abort()
			}
			st.mu.Lock()
			st.left = 0
			st.mu.Unlock()
			if err == nil {
				if _, err := r.AddNote(ctx, rec.ID, Note{Kind: "same", Body: []byte("same")}); err != nil {
					t.Fatal(err)
				}
				break
			}
			if failed++; try > 30 {
				t.Fatal(err)
			}
		}
		if r != full {
			keepState(r.localDir())
		}
		if _, err := full.ChangePassword(ctx, fmt.Appendf(nil, "password %d", round)); err != nil {
			t.Fatal(err)
		}
	}
	for _, object := range st.puts {
		n.object(object)
	}
	if len(n.keys) < 60 || len(states) != 5 || failed < 6 {
		t.Fatalf("%d keys, %d states, %d failures: too few to show anything", len(n.keys), len(states), failed)
	}
	t.Logf("%d objects sent, %d keys, %d boxes, %d backups failed on the way", len(st.puts), len(n.keys), len(n.seen), failed)
}
