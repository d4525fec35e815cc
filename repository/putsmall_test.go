package repository

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// TestASmallFileIsStoredAsIfItWasCut: up to the least size of a chunk nothing is
// cut, and what comes of it is what the chunker would have made.
func TestASmallFileIsStoredAsIfItWasCut(t *testing.T) {
	b := begin(t, newTestRepository(t, mem.New()), nil)
	least := int(b.r.chunking.Min)
	for _, n := range []int{1, 100, least - 1, least, least + 1, 3 * least} {
		for _, data := range [][]byte{randomData(n, uint64(n)), make([]byte, n)} {
			direct, err := b.PutFile(t.Context(), Source{At: bytes.NewReader(data), Size: int64(n)})
			if err != nil {
				t.Fatal(err)
			}
			cut, err := b.PutStream(t.Context(), bytes.NewReader(data))
			if err != nil || !direct.Equal(cut) {
				t.Errorf("%d bytes: stored as %+v, cut as %+v, %v", n, direct, cut, err)
			}
			if read := b.read.Swap(0); read != 2*int64(n) {
				t.Errorf("%d bytes read twice are counted as %d", n, read)
			}
		}
	}
}

// failing gives some bytes and then an error.
type failing struct {
	data []byte
	err  error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) { return copy(p, f.data[off:]), f.err }

func TestASmallFileThatCannotBeReadIsNotStored(t *testing.T) {
	b := begin(t, newTestRepository(t, mem.New()), nil)
	for _, c := range []struct{ err, want error }{{io.EOF, ErrSourceChanged}, {nil, ErrSourceChanged}, {fs.ErrPermission, fs.ErrPermission}} {
		_, err := b.PutFile(t.Context(), Source{At: failing{make([]byte, 10), c.err}, Size: 20})
		if !errors.Is(err, c.want) {
			t.Errorf("a source that ends with %v: %v", c.err, err)
		}
	}
	if n := b.added.Load(); n != 0 {
		t.Errorf("%d chunks were added", n)
	}
	putFile(t, b, make([]byte, 20)) // the backup goes on
}
