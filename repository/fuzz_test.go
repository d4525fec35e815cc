package repository

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// seeds gives the plaintexts and objects that a real backup writes.
type seeds struct {
	r       *Repository
	config  []byte
	slots   [][]byte
	packs   map[string][]byte
	indexes [][]byte
	records [][]byte
	notes   [][]byte
}

func newSeeds(f *testing.F) *seeds {
	r, st, _ := smallRepository(f)
	s := &seeds{r: r, packs: map[string][]byte{}}
	for name, size := range objects(f, st) {
		object, err := readObject(f.Context(), st, name, size)
		if err != nil {
			f.Fatal(err)
		}
		switch {
		case name == configName:
			s.config = object
		case strings.HasPrefix(name, prefixKeys):
			s.slots = append(s.slots, object)
		case strings.HasPrefix(name, prefixIndex):
			s.indexes = append(s.indexes, object)
		case strings.HasPrefix(name, prefixRecords):
			s.records = append(s.records, s.open(f, kindRecord, boxRecord, object))
		case strings.HasPrefix(name, prefixNotes):
			s.notes = append(s.notes, s.open(f, kindNote, boxNote, object))
		default:
			s.packs[name] = object
		}
	}
	return s
}

func (s *seeds) open(f *testing.F, kind objectKind, box boxKind, object []byte) []byte {
	c, err := s.r.keys.openObject(kind, object)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := openBox(c, box, headerSize, bytes.Clone(object[headerSize:]))
	if err != nil {
		f.Fatal(err)
	}
	return plain
}

// eachFrame gives every chunk of the seeds' packs of a kind, with the frame and
// the pack it is in.
func (s *seeds) eachPack(f *testing.F, each func(kind objectKind, object []byte, frames []packedFrame, plain [][]byte)) {
	for name, object := range s.packs {
		o, _ := parseName(name)
		frames, c, err := s.r.openPack(o.kind, bytes.Clone(object))
		if err != nil {
			f.Fatal(err)
		}
		var plain [][]byte
		for _, fr := range frames {
			p, err := openBox(c, boxFrame, int64(fr.offset), bytes.Clone(object[fr.offset:fr.offset+fr.size]))
			if err != nil {
				f.Fatal(err)
			}
			plain = append(plain, p)
		}
		each(o.kind, object, frames, plain)
	}
}

func FuzzConfig(f *testing.F) {
	s := newSeeds(f)
	f.Add(s.config)
	f.Fuzz(func(t *testing.T, object []byte) {
		c, err := decodeConfig(object)
		if err != nil {
			return
		}
		if !c.chunking().valid() || len(c.Repo) != IDSize {
			t.Errorf("an impossible config was accepted: %+v", c)
		}
		if c.authenticate(s.r.keys) == nil && !bytes.Equal(object, s.config) {
			t.Error("another config than the real one authenticates")
		}
	})
}

func FuzzKeySlot(f *testing.F) {
	s := newSeeds(f)
	for _, object := range s.slots {
		f.Add(object)
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		slot, err := decodeSlot(object)
		if err != nil {
			return
		}
		if !slot.kdf().valid() || len(slot.clear)+len(slot.box) != len(object) {
			t.Errorf("an impossible slot was accepted: %+v", slot.slotHeader)
		}
	})
}

func FuzzSlotKeys(f *testing.F) {
	s := newSeeds(f)
	private, err := s.r.keys.private.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(format.marshal(slotKeys{Private: private, Public: s.r.keys.public.Bytes(), ID: make([]byte, 32), Index: make([]byte, 32)}), uint(slotFull))
	f.Add(format.marshal(slotKeys{Public: s.r.keys.public.Bytes(), ID: make([]byte, 32), Index: make([]byte, 32)}), uint(slotWriteOnly))
	f.Fuzz(func(t *testing.T, plain []byte, kind uint) {
		var keys slotKeys
		if format.unmarshal(plain, &keys) != nil {
			return
		}
		sl := &slot{slotHeader: slotHeader{Kind: kind, Repo: make([]byte, IDSize)}}
		if k, err := sl.keyring(&keys); err == nil && (k.public == nil || kind == slotFull && k.private == nil) {
			t.Error("keys were accepted that are none")
		}
	})
}

func FuzzPackDirectory(f *testing.F) {
	newSeeds(f).eachPack(f, func(_ objectKind, object []byte, frames []packedFrame, _ [][]byte) {
		last := frames[len(frames)-1]
		f.Add(encodeDirectory(frames), int64(last.offset+last.size))
	})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, int64(headerSize))
	f.Fuzz(func(t *testing.T, b []byte, end int64) {
		frames, err := decodeDirectory(b, end)
		if err != nil {
			return
		}
		if !bytes.Equal(encodeDirectory(frames), b) {
			t.Error("a directory does not encode to what it was decoded from")
		}
		at := int64(headerSize)
		for _, fr := range frames {
			if int64(fr.offset) != at || fr.plainSize() > maxChunk {
				t.Errorf("a frame at %d, want %d, of %d bytes", fr.offset, at, fr.plainSize())
			}
			at += int64(fr.size)
		}
		if at != end {
			t.Errorf("the frames end at %d, not %d", at, end)
		}
	})
}

// FuzzPack has whole objects, so that what lies before the cryptography is
// fuzzed: header, trailer, lengths.
func FuzzPack(f *testing.F) {
	s := newSeeds(f)
	for _, object := range s.packs {
		f.Add(object)
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		for _, kind := range []objectKind{kindDataPack, kindMetaPack} {
			frames, c, err := s.r.openPack(kind, bytes.Clone(object))
			if err != nil {
				continue
			}
			for _, fr := range frames {
				s.r.checkFrame(kind, c, bytes.Clone(object), fr, func(packedChunk) {})
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	s := newSeeds(f)
	s.eachPack(f, func(_ objectKind, _ []byte, _ []packedFrame, plain [][]byte) {
		for _, p := range plain {
			f.Add(p)
		}
	})
	enc := newEncoder(1)
	f.Add(appendFrame(nil, enc, make([]byte, 100_000)))
	f.Add([]byte{methodZstd, 0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		data, err := decodeFrame(s.r.decoder, frame)
		if err == nil && len(data) > maxChunk {
			t.Errorf("a frame gave %d bytes", len(data))
		}
	})
}

func FuzzIndexTail(f *testing.F) {
	s := newSeeds(f)
	for _, object := range s.indexes {
		x, err := decodeIndex(s.r.keys, object)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(format.marshal(x.indexTail), x.pagesEnd)
	}
	f.Fuzz(func(t *testing.T, tail []byte, pagesEnd int64) {
		x := &index{pagesEnd: pagesEnd}
		if x.readTail(tail) != nil {
			return
		}
		if x.Lines > maxIndexEntries || len(x.Fences) != 8*x.pages() {
			t.Errorf("an impossible tail was accepted: %d lines", x.Lines)
		}
	})
}

func FuzzIndexPage(f *testing.F) {
	s := newSeeds(f)
	for _, object := range s.indexes {
		x, err := decodeIndex(s.r.keys, object)
		if err != nil {
			f.Fatal(err)
		}
		if err := x.eachPage((&indexReader{memory: bytes.Clone(object), whole: true}).take, func(_ int, page []byte) error { f.Add(bytes.Clone(page)); return nil }); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, page []byte) {
		lines := len(page) / lineSize
		if lines == 0 || lines > pageLines || len(page)%lineSize != 0 {
			return
		}
		x := &index{indexTail: indexTail{Fences: page[:8], Packs: []indexPack{{Size: 1 << 20}, {Size: 1 << 14}}}}
		if x.checkPage(0, page, lines) != nil {
			return
		}
		for i := range lines {
			line := readLine(page[i*lineSize:])
			if !bytes.Equal(line.append(nil), page[i*lineSize:][:lineSize]) {
				t.Error("a line does not encode to what it was decoded from")
			}
			if int64(line.offset)+int64(line.size) > 1<<20 {
				t.Errorf("a line past the end of its pack was accepted: %+v", line)
			}
		}
	})
}

// FuzzIndex has whole objects.
func FuzzIndex(f *testing.F) {
	s := newSeeds(f)
	for _, object := range s.indexes {
		f.Add(object)
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		if x, err := decodeIndex(s.r.keys, object); err == nil {
			x.eachPage((&indexReader{memory: bytes.Clone(object), whole: true}).take, func(int, []byte) error { return nil })
		}
	})
}

func FuzzTableLeaf(f *testing.F) {
	s := newSeeds(f)
	s.eachPack(f, func(kind objectKind, _ []byte, frames []packedFrame, plain [][]byte) {
		if kind != kindMetaPack {
			return
		}
		for i, p := range plain {
			data, err := decodeFrame(s.r.decoder, p)
			if err != nil {
				f.Fatal(err)
			}
			for _, c := range frames[i].chunks {
				f.Add(data[:c.size])
				if data[0] == 0 {
					f.Add(data[1:c.size])
				}
				data = data[c.size:]
			}
		}
	})
	full := fullEntry(Content{size: 5, top: listNode{refs: []chunkRef{{ID{1}, 5}}, extents: []extent{{5, 1, 0}}}})
	encoded, err := full.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	newer, err := addFields(encoded, map[uint64][]byte{99: {0x81, 0x01}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(newer)
	f.Fuzz(func(t *testing.T, block []byte) {
		entries, err := decodeLeaf(block)
		if err != nil {
			return
		}
		for i, e := range entries {
			general, bytes, _, err := decodeEntry(e.encoded)
			if err != nil || len(bytes) != len(e.encoded) || !reflect.DeepEqual(general, e.Entry) {
				t.Fatalf("the general decoder sees another entry: %v\n%+v\n%+v", err, general, e.Entry)
			}
			if err := e.check(); err != nil {
				t.Errorf("an impossible entry was accepted: %v", err)
			}
			if i > 0 && ComparePaths(entries[i-1].Root, entries[i-1].Path, e.Root, e.Path) >= 0 {
				t.Error("entries out of order were accepted")
			}
			encoded, err := e.encode()
			if err != nil {
				t.Fatalf("an entry that was read cannot be written: %v", err)
			}
			checkEncoders(t, e.Entry)
			again, _, _, err := decodeEntry(encoded)
			if err != nil || !sameEntry(again, e.Entry) {
				t.Fatalf("an entry changed on the way: %v\n%+v\n%+v", err, again, e)
			}
		}
	})
}

// checkEncoders makes sure that the general encoder writes the same bytes.
func checkEncoders(t *testing.T, e *Entry) {
	t.Helper()
	known := *e
	known.extra = nil
	got, err := known.encode()
	want, err2 := format.enc.Marshal(known.wire())
	if err != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("an entry is encoded as\n%x, %v, and by the general encoder as\n%x, %v", got, err, want, err2)
	}
}

// sameEntry compares entries, not telling empty from absent.
func sameEntry(a, b *Entry) bool {
	x, err1 := a.encode()
	y, err2 := b.encode()
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func FuzzTableUpper(f *testing.F) {
	var block []byte
	for i := range 5 {
		id := ID{byte(i)}
		block = append(block, format.marshal(tableRef{Root: []byte("/"), Path: []byte{'a' + byte(i)}, ID: id[:], Length: 100, Entries: 7})...)
	}
	f.Add(block)
	f.Fuzz(func(t *testing.T, block []byte) {
		refs, entries, err := decodeUpper(block)
		if err != nil {
			return
		}
		var sum uint64
		for _, ref := range refs {
			sum += ref.Entries
			if len(ref.ID) != IDSize || ref.Length > maxBlock {
				t.Errorf("an impossible reference was accepted: %+v", ref)
			}
		}
		if sum != entries || len(refs) == 0 {
			t.Errorf("%d references lead to %d entries, not %d", len(refs), sum, entries)
		}
	})
}

func FuzzExtentList(f *testing.F) {
	r := newTestRepository(f, mem.New())
	b := begin(f, r, nil)
	c := putFile(f, b, randomData(10_000, 1))
	f.Add(format.marshal(c.top.wire()), 0, c.size)
	upper := listNode{level: 1, refs: []chunkRef{{ID{1}, 50}, {ID{2}, 60}}, spans: []int64{1000, 2000}}
	f.Add(format.marshal(upper.wire()), 1, int64(3000))
	f.Fuzz(func(t *testing.T, block []byte, level int, span int64) {
		if span < 0 || level < 0 || level > maxDepth {
			return
		}
		n, err := decodeNode(block, level, span)
		if err != nil {
			return
		}
		if n.span() != span {
			t.Errorf("a node of %d bytes was accepted for %d", n.span(), span)
		}
		if level > 0 {
			return
		}
		var sum int64
		err = walkLeaf(n, 0, 0, span, func(p piece) error {
			sum += p.length
			if !p.hole && int64(p.offset)+p.length > int64(p.chunk.length) {
				t.Errorf("a piece past the end of its chunk was accepted: %+v", p)
			}
			return nil
		})
		if err != nil || sum != span {
			t.Errorf("the pieces have %d bytes, not %d: %v", sum, span, err)
		}
		again, err := decodeNode(format.marshal(n.wire()), level, span)
		if err != nil || !again.equal(n) {
			t.Errorf("a node changed on the way: %v", err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	s := newSeeds(f)
	for _, plain := range s.records {
		f.Add(plain)
	}
	repo := s.r.keys.repo
	info := testInfo()
	info.Tags, info.Summary, info.Attrs = []string{"a", "b"}, []byte{1, 2}, map[string]string{"k": "v"}
	info.Roots = append(info.Roots, Root{ID: "C:", Path: `C:\`, Attrs: map[string]string{"x": "\xff"}})
	info.Parents = []ID{{1}, {2}}
	info.Started = time.Unix(5, 5)
	plain, err := encodeRecord(repo, &info, tableRoot{}, Totals{}, []ID{{9}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, plain []byte) {
		rec, err := decodeRecord(plain, repo)
		if err != nil {
			return
		}
		again, err := encodeRecord(repo, &rec.RecordInfo, rec.table.root, rec.Totals, rec.indexes)
		if err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		back, err := decodeRecord(again, repo)
		if err != nil || !reflect.DeepEqual(rec.RecordInfo, back.RecordInfo) || rec.Totals != back.Totals {
			t.Errorf("a record changed on the way: %v\n%+v\n%+v", err, rec.RecordInfo, back.RecordInfo)
		}
	})
}

func FuzzNote(f *testing.F) {
	s := newSeeds(f)
	var record ID
	for _, plain := range s.notes {
		var w wireNote
		if err := format.unmarshal(plain, &w); err != nil {
			f.Fatal(err)
		}
		record = ID(w.Record)
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		if n, err := decodeNote(plain, record); err == nil && (n.Record != record || len(n.Body) > MaxNote) {
			t.Errorf("an impossible note was accepted: %+v", n)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, name := range []string{configName, packName(kindDataPack, ID{1}), packName(kindMetaPack, ID{2}), slotName(ID{3}), indexName(ID{4}), recordName(ID{5}), noteName(ID{6}, ID{7}), "data/ab", "../x"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		o, ok := parseName(name)
		if !ok {
			return
		}
		want := map[objectKind]string{
			kindConfig: configName, kindDataPack: packName(kindDataPack, o.id), kindMetaPack: packName(kindMetaPack, o.id), kindSlot: slotName(o.id),
			kindIndex: indexName(o.id), kindRecord: recordName(o.id), kindNote: noteName(o.record, o.id),
		}[o.kind]
		if name != want {
			t.Errorf("%q was read as the name of %q", name, want)
		}
	})
}
