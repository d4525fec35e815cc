package secondreader

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
	"golang.org/x/crypto/argon2"
)

// m is a CBOR map as the format has them.
type m = map[uint64]any

// reader holds what the first sections of the document speak of.
type reader struct {
	t                 *testing.T
	dir               string
	repo              []byte
	private           hpke.PrivateKey
	idKey, indexKey   []byte
	dataID, metaID    []byte
	writer, configKey []byte
	// lines are the index's: where each chunk is, or was.
	lines map[string][]line
	// gone counts the lines of packs that are not there.
	gone int
	// read are the packs that chunks were read of.
	read map[string]bool
}

type line struct {
	kind                        byte
	pack                        string
	packSize                    uint64
	offset, size, start, length uint32
}

// packName is how the store has the line's pack.
func (l line) packName() string {
	prefix := "data/"
	if l.kind == 'M' {
		prefix = "meta/"
	}
	return prefix + l.pack[:2] + "/" + l.pack
}

func (r *reader) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// object reads an object and checks its name and magic.
func (r *reader) object(name string, kind byte) []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	r.must(err)
	if !bytes.HasPrefix(b, []byte("SOMBRA"+string(kind)+"\x01")) {
		r.t.Fatalf("%s does not begin with its magic", name)
	}
	sum := blake3.Sum256(b)
	if name != "config" && filepath.Base(name) != hex.EncodeToString(sum[:]) {
		r.t.Fatalf("%s is not named by its hash", name)
	}
	return b
}

func (r *reader) names(prefix string) (names []string) {
	found, err := filepath.Glob(filepath.Join(r.dir, prefix))
	r.must(err)
	for _, f := range found {
		rel, err := filepath.Rel(r.dir, f)
		r.must(err)
		names = append(names, filepath.ToSlash(rel))
	}
	return names
}

func derive(purpose string, material ...[]byte) []byte {
	out := make([]byte, 32)
	blake3.DeriveKey("sombra-backup repository v1 "+purpose, bytes.Join(material, nil), out)
	return out
}

func keyed(key []byte, data []byte) []byte {
	h, err := blake3.NewKeyed(key)
	if err != nil {
		panic(err)
	}
	h.Write(data)
	return h.Sum(nil)
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	c, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return c
}

// box opens the box at [from, to) of an object.
func (r *reader) box(c cipher.AEAD, letter byte, object []byte, from, to int) []byte {
	r.t.Helper()
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce[4:], uint64(from))
	plain, err := c.Open(nil, nonce, object[from:to], []byte{letter})
	r.must(err)
	return plain
}

func (r *reader) decode(b []byte) (v m) {
	r.t.Helper()
	r.must(cbor.Unmarshal(b, &v))
	return v
}

// unlock is section 4.
func (r *reader) unlock(password string) {
	config := r.object("config", 'C')
	body := config[:len(config)-32]
	c := r.decode(body[8:])
	if c[1] != uint64(1) {
		r.t.Fatalf("version %v", c[1])
	}
	r.repo = c[2].([]byte)

	slot := r.object(r.names("keys/*")[0], 'K')
	end := 12 + int(binary.LittleEndian.Uint32(slot[8:]))
	h := r.decode(slot[12:end])
	key := argon2.IDKey([]byte(password), h[6].([]byte), uint32(h[3].(uint64)), uint32(h[4].(uint64)), uint8(h[5].(uint64)), 32)
	plain, err := gcm(key).Open(nil, make([]byte, 12), slot[end:], append([]byte{'K'}, slot[:end]...))
	r.must(err)
	keys := r.decode(plain)
	r.private, err = hpke.MLKEM768X25519().NewPrivateKey(keys[1].([]byte))
	r.must(err)
	r.idKey, r.indexKey = keys[3].([]byte), keys[4].([]byte)
	r.dataID, r.metaID = derive("data chunk id", r.idKey), derive("meta chunk id", r.idKey)
	r.writer, r.configKey = derive("writer", r.idKey), derive("config", r.idKey)
	if !bytes.Equal(keyed(r.configKey, body), config[len(body):]) {
		r.t.Fatal("the config does not authenticate")
	}
}

// sealed is section 3.2: the cipher of a sealed object.
func (r *reader) sealed(kind byte, object []byte) cipher.AEAD {
	r.t.Helper()
	info := append([]byte("sombra-backup repository v1 object key "+string(kind)), r.repo...)
	random, err := hpke.Open(r.private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, object[8:1176])
	r.must(err)
	return gcm(derive("object", random, r.writer, r.repo, []byte{kind}))
}

// trailer gives where the last box lies.
func trailer(object []byte) (from, to int) {
	to = len(object) - 12
	return to - int(binary.LittleEndian.Uint32(object[to:])), to
}

// index is section 7, and of section 10 that lines of packs that are not there,
// or not with their length, do not count.
func (r *reader) index() {
	r.lines = map[string][]line{}
	for _, name := range r.names("index/*") {
		object := r.object(name, 'X')
		c := gcm(derive("index object", r.indexKey, object[8:40], r.repo))
		from, to := trailer(object)
		tail := r.decode(r.box(c, 'T', object, from, to))
		packs := tail[2].([]any)
		count := int(tail[1].(uint64))
		for at := 40; count > 0; at += 13328 {
			n := min(count, 256)
			count -= n
			page := r.box(c, 'P', object, at, at+n*52+16)
			for ; len(page) > 0; page = page[52:] {
				num := func(i int) uint32 { return binary.LittleEndian.Uint32(page[32+4*i:]) }
				pack := packs[num(0)].([]any)
				l := line{byte(pack[0].(uint64)), hex.EncodeToString(pack[1].([]byte)), pack[2].(uint64), num(1), num(2), num(3), num(4)}
				id := string(page[:32])
				info, err := os.Stat(filepath.Join(r.dir, l.packName()))
				if err != nil || uint64(info.Size()) != l.packSize {
					r.gone++
				} else if !slices.Contains(r.lines[id], l) { // an object and one that supersedes it
					r.lines[id] = append(r.lines[id], l)
				}
			}
		}
	}
}

// chunk is sections 5.1 and 6.
func (r *reader) chunk(id []byte, length uint64) []byte {
	r.t.Helper()
	lines := r.lines[string(id)]
	if len(lines) == 0 || uint64(lines[0].length) != length {
		r.t.Fatalf("chunk %x of %d bytes: index says %+v", id, length, lines)
	}
	// Any place will do; that a pack is marked means nothing to who reads.
	l, key := lines[len(lines)-1], r.dataID
	if l.kind == 'M' {
		key = r.metaID
	}
	object := r.object(l.packName(), l.kind)
	if r.read == nil {
		r.read = map[string]bool{}
	}
	r.read[l.pack] = true
	frame := r.box(r.sealed(l.kind, object), 'F', object, int(l.offset), int(l.offset+l.size))
	data := frame[5:]
	if frame[0] == 1 {
		dec, err := zstd.NewReader(nil)
		r.must(err)
		defer dec.Close()
		data, err = dec.DecodeAll(data, nil)
		r.must(err)
	}
	if len(data) != int(binary.LittleEndian.Uint32(frame[1:])) {
		r.t.Fatal("the frame has another length than it says")
	}
	data = data[l.start : l.start+l.length]
	if !bytes.Equal(keyed(key, data), id) {
		r.t.Fatalf("chunk %x is another one", id)
	}
	return data
}

// shared is section 10.2: what is in an intent or a mark.
func (r *reader) shared(name string, kind byte) m {
	r.t.Helper()
	object := r.object(name, kind)
	c := gcm(derive("shared object", r.indexKey, object[8:40], r.repo, []byte{kind}))
	v := r.decode(r.box(c, kind, object, 40, len(object)))
	if !bytes.Equal(v[1].([]byte), r.repo) {
		r.t.Errorf("%s is of another repository", name)
	}
	return v
}

// marks is section 10.3: the packs that are marked, by marks that are confirmed.
func (r *reader) marks() map[string]bool {
	marked, confirmed := map[string][]byte{}, map[string]bool{}
	for _, name := range r.names("marks/*") {
		v := r.shared(name, 'L')
		data, _ := v[2].([]byte)
		meta, _ := v[3].([]byte)
		marked[filepath.Base(name)] = slices.Concat(data, meta)
		confirms, _ := v[4].([]byte)
		for id := range slices.Chunk(confirms, 32) {
			confirmed[hex.EncodeToString(id)] = true
		}
	}
	packs := map[string]bool{}
	for mark, ids := range marked {
		if len(ids) > 0 && !confirmed[mark] {
			r.t.Errorf("mark %s is confirmed by none", mark)
		}
		for id := range slices.Chunk(ids, 32) {
			packs[hex.EncodeToString(id)] = true
		}
	}
	return packs
}

// intents is section 10.2: it gives the records that intents name, and checks
// that those of one backup agree.
func (r *reader) intents() map[string]bool {
	records, counts := map[string]bool{}, map[string]bool{}
	for _, name := range r.names("intents/*") {
		v := r.shared(name, 'I')
		number, _ := v[3].(uint64)
		backup, valid := v[2].([]byte), v[4].(uint64)
		key := fmt.Sprintf("%x %d", backup, number)
		if len(backup) != 32 || valid == 0 || valid > 30*24*3600 || counts[key] {
			r.t.Errorf("%s: %v", name, v)
		}
		counts[key] = true
		if _, began := v[5]; began == (number == 0) {
			r.t.Errorf("%s is number %d, and that it has a beginning is %v", name, number, began)
		}
		if id, ok := v[7].([]byte); ok {
			records[hex.EncodeToString(id)] = true
		}
	}
	return records
}

// records lists the records. A void in the place of one is passed over.
func (r *reader) records() (records, voids []string) {
	for _, name := range r.names("records/*") {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		r.must(err)
		if string(b) == "SOMBRAV\x01" {
			voids = append(voids, filepath.Base(name))
		} else {
			records = append(records, name)
		}
	}
	return records, voids
}

// directories checks that the packs say of themselves what the index says.
func (r *reader) directories() {
	seen := 0
	for _, name := range append(r.names("data/*/*"), r.names("meta/*/*")...) {
		kind := map[byte]byte{'d': 'D', 'm': 'M'}[name[0]]
		object := r.object(name, kind)
		from, to := trailer(object)
		dir := r.box(r.sealed(kind, object), 'D', object, from, to)
		next := func() uint32 { n := binary.LittleEndian.Uint32(dir); dir = dir[4:]; return n }
		at := uint32(1176)
		for frames := next(); frames > 0; frames-- {
			size, start := next(), uint32(0)
			for chunks := next(); chunks > 0; chunks-- {
				id := string(dir[:32])
				dir = dir[32:]
				length := next()
				if want := (line{kind, filepath.Base(name), uint64(len(object)), at, size, start, length}); !slices.Contains(r.lines[id], want) {
					r.t.Errorf("chunk %x: index %+v, directory %+v", id, r.lines[id], want)
				}
				start += length
				seen++
			}
			at += size
		}
		if len(dir) != 0 || int(at) != from {
			r.t.Errorf("%s: frames end at %d of %d, %d bytes left over", name, at, from, len(dir))
		}
	}
	lines := 0
	for _, places := range r.lines {
		lines += len(places)
	}
	if seen != lines {
		r.t.Errorf("the directories have %d chunks, the index %d", seen, lines)
	}
}

// content is section 5.3.
func (r *reader) content(c any) []byte {
	if c == nil {
		return nil
	}
	fields := toMap(c)
	data := r.node(toMap(fields[2]))
	if size, _ := fields[1].(uint64); size != uint64(len(data)) {
		r.t.Errorf("content of %d bytes has %d", size, len(data))
	}
	return data
}

func (r *reader) node(n m) (data []byte) {
	ids, _ := n[2].([]byte)
	lengths, _ := n[3].([]any)
	ref := func(i uint64) []byte { return r.chunk(ids[32*i:32*i+32], lengths[i].(uint64)) }
	if level, _ := n[1].(uint64); level > 0 {
		for i, span := range n[5].([]any) {
			part := r.node(r.decode(ref(uint64(i))))
			if uint64(len(part)) != span.(uint64) {
				r.t.Errorf("a block of %d bytes covers %d", span, len(part))
			}
			data = append(data, part...)
		}
		return data
	}
	extents, _ := n[4].([]any)
	for ; len(extents) > 0; extents = extents[3:] {
		length, reference, offset := extents[0].(uint64), extents[1].(uint64), extents[2].(uint64)
		if reference == 0 {
			data = append(data, make([]byte, length)...)
			continue
		}
		data = append(data, ref(reference - 1)[offset:offset+length]...)
	}
	return data
}

// toMap turns a map that was decoded inside another into ours.
func toMap(v any) m {
	out := m{}
	for k, x := range v.(map[any]any) {
		out[k.(uint64)] = x
	}
	return out
}

// table is section 8.
func (r *reader) table(id []byte, length, level uint64, visit func(m)) (entries uint64) {
	block := r.chunk(id, length)
	if uint64(block[0]) != level {
		r.t.Fatalf("a block of level %d has level %d", level, block[0])
	}
	var err error
	for rest := block[1:]; len(rest) > 0; {
		if level == 0 {
			var e m
			rest, err = cbor.UnmarshalFirst(rest, &e)
			r.must(err)
			visit(e)
			entries++
			continue
		}
		var ref []any
		rest, err = cbor.UnmarshalFirst(rest, &ref)
		r.must(err)
		if n := r.table(ref[2].([]byte), ref[3].(uint64), level-1, visit); n != ref[4].(uint64) {
			r.t.Errorf("a block of %d entries has %d", ref[4], n)
		} else {
			entries += n
		}
	}
	return entries
}

// want is what the repository was made of.
func want() map[string][]byte {
	large := make([]byte, 30_000)
	rand.NewChaCha8([32]byte{42}).Read(large)
	changed := bytes.Clone(large)
	copy(changed[5000:], "changed in place")
	copy(changed[20_000:], "and here")
	sparse := make([]byte, 120_000)
	for at := 0; at < len(sparse); at += 400 {
		copy(sparse[at:], fmt.Sprintf("%0100d", at))
	}
	files := map[string][]byte{"empty": nil, "small": []byte("a small file\n"), "large": large, "changed": changed, "sparse": sparse}
	for i := range 400 {
		files[fmt.Sprintf("many/%03d", i)] = []byte(fmt.Sprintf("file %d", i))
	}
	return files
}

func TestADifferentProgramReadsTheRepository(t *testing.T) {
	r := &reader{t: t, dir: "../testdata/v1"}
	r.whole()
	if _, voids := r.records(); len(voids) != 0 || len(r.marks()) != 0 || len(r.intents()) != 0 || r.gone != 0 {
		t.Errorf("a repository that was never pruned has %v, %v, %v, %d lines of absent packs", voids, r.marks(), r.intents(), r.gone)
	}
}

// TestADifferentProgramReadsAPrunedRepository: the same repository, when packs
// are marked, also one that records use; when they were copied and deleted and
// the index names them still; and when all was finished. A backup goes on in
// each, and a record is void.
func TestADifferentProgramReadsAPrunedRepository(t *testing.T) {
	for _, c := range []struct {
		name string
		// marked says that packs are there which are marked, used that records
		// use one of them; gone that the index names packs that are not there.
		marked, used, gone bool
	}{{"marked", true, true, false}, {"deleted", false, false, true}, {"finished", false, false, false}} {
		t.Run(c.name, func(t *testing.T) {
			r := &reader{t: t, dir: "../testdata/v1-pruned/" + c.name}
			r.whole()
			marks, there, used := r.marks(), 0, 0
			for _, name := range append(r.names("data/*/*"), r.names("meta/*/*")...) {
				if marks[filepath.Base(name)] {
					there++
				}
			}
			for _, places := range r.lines {
				if !slices.ContainsFunc(places, func(l line) bool { return !marks[l.pack] }) && r.read[places[0].pack] {
					used++
				}
			}
			if len(marks) == 0 || (there > 0) != c.marked || (used > 0) != c.used || (r.gone > 0) != c.gone {
				t.Errorf("%d packs are marked, %d of them there, %d chunks used of them only; %d lines are of absent packs", len(marks), there, used, r.gone)
			}
			_, voids := r.records()
			if intents := r.intents(); len(voids) != 1 || !intents[voids[0]] {
				t.Errorf("voids %v, intents name %v", voids, intents)
			}
		})
	}
}

// whole reads everything, and compares it.
func (r *reader) whole() {
	t := r.t
	r.unlock("correct horse")
	r.index()
	r.directories()
	records, _ := r.records()
	if len(records) != 2 {
		t.Fatalf("%d records", len(records))
	}
	for _, name := range records {
		object := r.object(name, 'R')
		rec := r.decode(r.box(r.sealed('R', object), 'R', object, 1176, len(object)))
		top := toMap(rec[15])
		level, _ := top[1].(uint64)
		files, other, last := map[string][]byte{}, map[string]uint64{}, ""
		n := r.table(top[2].([]byte), top[3].(uint64), level, func(e m) {
			path := string(e[2].([]byte))
			order := strings.ReplaceAll(path, "/", "\x00")
			if last != "" && order <= last {
				t.Errorf("%q comes after %q", order, last)
			}
			last = order
			if e[3] == uint64(1) {
				files[path] = r.content(e[26])
			} else {
				other[path] = e[3].(uint64)
			}
		})
		if n != top[4].(uint64) || n != rec[16].([]any)[0].(uint64) {
			t.Errorf("%d entries, the record says %v", n, top[4])
		}
		if _, ok := rec[12]; !ok {
			// The first of the two has one file.
			if !bytes.Equal(files["large"], want()["large"]) || len(files) != 1 {
				t.Errorf("the first record has %d files", len(files))
			}
			continue
		}
		if len(files) != len(want()) || other[""] != 2 || other["many"] != 2 || other["link"] != 3 {
			t.Errorf("%d files and %v, want %d files", len(files), other, len(want()))
		}
		for path, data := range want() {
			if !bytes.Equal(files[path], data) {
				t.Errorf("%s differs", path)
			}
		}
		for doc, c := range rec[12].(map[any]any) {
			if got := r.content(c); doc != "bcd.xml" || string(got) != "<document/>" {
				t.Errorf("document %v: %q", doc, got)
			}
		}
		r.note(filepath.Base(name))
	}
}

// note is section 9.
func (r *reader) note(record string) {
	names := r.names("notes/" + record + "/*")
	if len(names) != 1 {
		r.t.Fatalf("%d notes", len(names))
	}
	object := r.object(names[0], 'N')
	note := r.decode(r.box(r.sealed('N', object), 'N', object, 1176, len(object)))
	if hex.EncodeToString(note[1].([]byte)) != record || note[3] != "outcome" || string(note[4].([]byte)) != "noted" {
		r.t.Errorf("note %v", note)
	}
}
