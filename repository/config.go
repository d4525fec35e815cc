package repository

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// Chunking holds the sizes in bytes between which content is cut into chunks.
// All writers of a repository use the same, or they would not find each
// other's chunks.
type Chunking struct {
	// Min is the least, but for the last chunk of a file: at least 64.
	Min uint32
	// Average is about what chunks of random data have on average: a power
	// of two above Min.
	Average uint32
	// Max is the most: above Average and at most 4 MiB.
	Max uint32
}

// defaultChunking averages 1 MiB.
func defaultChunking() Chunking { return Chunking{Min: 256 << 10, Average: 1 << 20, Max: 4 << 20} }

// valid says whether the sizes keep the rules.
func (c Chunking) valid() bool {
	return c.Min >= minChunk && c.Min < c.Average && c.Average < c.Max && c.Max <= maxChunk && bits.OnesCount32(c.Average) == 1
}

// formatVersion is the version this program writes, and the only one it reads.
const formatVersion = 1

// configMACSize is the length of the keyed hash at the config's end.
const configMACSize = IDSize

// config is what the config object holds.
type config struct {
	Version  uint     `cbor:"1,keyasint"`
	Repo     []byte   `cbor:"2,keyasint"`
	Chunking []uint32 `cbor:"3,keyasint"`
	Created  int64    `cbor:"4,keyasint,omitempty"`
	// Features names what a reader or writer must know besides the version.
	Features []string `cbor:"5,keyasint,omitempty"`

	// signed and mac are the object's bytes, for authenticate.
	signed, mac []byte
}

func (c *config) chunking() Chunking {
	return Chunking{Min: c.Chunking[0], Average: c.Chunking[1], Max: c.Chunking[2]}
}

// encodeConfig makes the config object.
func encodeConfig(k *keyring, ch Chunking, created time.Time) []byte {
	b := []byte(magic(kindConfig))
	b = append(b, format.marshal(config{
		Version: formatVersion, Repo: k.repo[:], Chunking: []uint32{ch.Min, ch.Average, ch.Max}, Created: created.Unix(),
	})...)
	mac := keyedHash(k.config, b)
	return append(b, mac[:]...)
}

// decodeConfig reads the config object. What it says is not to be believed
// before authenticate.
func decodeConfig(object []byte) (*config, error) {
	if len(object) < magicSize+configMACSize || !bytes.HasPrefix(object, []byte(magic(kindConfig))) {
		return nil, damagef("it does not begin with %q", magic(kindConfig))
	}
	body := len(object) - configMACSize
	var c config
	if err := format.unmarshal(object[magicSize:body], &c); err != nil {
		return nil, err
	}
	if c.Version != formatVersion {
		return nil, wrapf(ErrUnsupported, "it was made by a newer program: the format is version %d, this program knows %d", c.Version, formatVersion)
	}
	if len(c.Features) > 0 {
		return nil, wrapf(ErrUnsupported, "it was made by a newer program: the repository needs %q", c.Features)
	}
	if len(c.Repo) != IDSize || len(c.Chunking) != 3 || !c.chunking().valid() {
		return nil, damagef("the repository's id or chunk sizes are impossible")
	}
	c.signed, c.mac = object[:body], object[body:]
	return &c, nil
}

// authenticate says whether the config was made by a holder of the keys.
func (c *config) authenticate(k *keyring) error {
	want := keyedHash(k.config, c.signed)
	if subtle.ConstantTimeCompare(want[:], c.mac) != 1 || !bytes.Equal(c.Repo, k.repo[:]) {
		return damagef("it does not authenticate")
	}
	return nil
}

// readConfig reads the config of the store: ErrNoRepository without one.
func readConfig(ctx context.Context, st store.Store) (*config, error) {
	object, err := readObject(ctx, st, configName, maxConfig)
	if errors.Is(err, store.ErrNotExist) {
		return nil, ErrNoRepository
	}
	if err != nil {
		return nil, err
	}
	c, err := decodeConfig(object)
	if err != nil {
		return nil, &ObjectError{"decode", configName, err}
	}
	return c, nil
}

// readObject reads a whole object of at most limit bytes.
func readObject(ctx context.Context, st store.Store, name string, limit int64) ([]byte, error) {
	info, err := st.Stat(ctx, name)
	if err != nil {
		return nil, &ObjectError{"read", name, missing(err)}
	}
	if info.Size > limit {
		return nil, &ObjectError{"read", name, damagef("%d bytes are more than the %d it may have", info.Size, limit)}
	}
	p := make([]byte, info.Size)
	if err := readFull(ctx, st, name, p, 0); err != nil {
		return nil, err
	}
	return p, nil
}

// readFull fills p from the object.
func readFull(ctx context.Context, st store.Store, name string, p []byte, offset int64) error {
	n, err := st.ReadAt(ctx, name, p, offset)
	if n == len(p) && (err == nil || err == io.EOF) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = damagef("it ends %d bytes after offset %d where %d are needed", n, offset, len(p))
	}
	return &ObjectError{"read", name, missing(err)}
}

// missing adds to the store's word for an absent object that this is damage:
// only what something refers to is looked for.
func missing(err error) error {
	if errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDamaged, store.ErrNotExist)
	}
	return err
}
