package repository

import (
	"strings"

	"github.com/zeebo/blake3"
)

// objectKind is the letter in an object's first bytes.
type objectKind byte

const (
	kindConfig   objectKind = 'C'
	kindSlot     objectKind = 'K'
	kindDataPack objectKind = 'D'
	kindMetaPack objectKind = 'M'
	kindIndex    objectKind = 'X'
	kindRecord   objectKind = 'R'
	kindNote     objectKind = 'N'
	kindIntent   objectKind = 'I'
	kindMark     objectKind = 'L'
	// kindVoid stands where a record can no longer be committed; see voidRecord.
	kindVoid objectKind = 'V'
)

// magicSize is the length of the bytes every object begins with.
const magicSize = 8

// magic gives the first bytes of an object: a word, the kind, the version.
func magic(k objectKind) string { return "SOMBRA" + string(k) + "\x01" }

// configName is the one object whose name is not its hash: it is there if and
// only if there is a repository.
const configName = "config"

// The prefixes under which the other objects lie.
const (
	prefixKeys    = "keys/"
	prefixData    = "data/"
	prefixMeta    = "meta/"
	prefixIndex   = "index/"
	prefixRecords = "records/"
	prefixNotes   = "notes/"
	prefixIntents = "intents/"
	prefixMarks   = "marks/"
	// prefixDamaged is where repair puts what is damaged, under its old name.
	prefixDamaged = "damaged/"
)

// hashObject names an object by its bytes.
func hashObject(object []byte) ID { return blake3.Sum256(object) }

// packPrefix gives the prefix of a kind of pack.
func packPrefix(k objectKind) string {
	if k == kindMetaPack {
		return prefixMeta
	}
	return prefixData
}

// packName spreads packs over 256 folders, so that none grows huge.
func packName(k objectKind, id ID) string {
	s := id.String()
	return packPrefix(k) + s[:2] + "/" + s
}

func slotName(id ID) string         { return prefixKeys + id.String() }
func indexName(id ID) string        { return prefixIndex + id.String() }
func recordName(id ID) string       { return prefixRecords + id.String() }
func intentName(id ID) string       { return prefixIntents + id.String() }
func markName(id ID) string         { return prefixMarks + id.String() }
func noteName(record, id ID) string { return prefixNotes + record.String() + "/" + id.String() }

// objectName is a name taken apart.
type objectName struct {
	kind objectKind
	id   ID
	// record is the record a note is about.
	record ID
}

// parseName takes the name of an object of a repository apart. ok is false for
// names that no version of the format writes.
func parseName(name string) (o objectName, ok bool) {
	if name == configName {
		return objectName{kind: kindConfig}, true
	}
	dir, rest, found := strings.Cut(name, "/")
	if !found {
		return o, false
	}
	switch dir + "/" {
	case prefixKeys:
		o.kind = kindSlot
	case prefixIndex:
		o.kind = kindIndex
	case prefixRecords:
		o.kind = kindRecord
	case prefixIntents:
		o.kind = kindIntent
	case prefixMarks:
		o.kind = kindMark
	case prefixData, prefixMeta:
		o.kind = kindDataPack
		if dir+"/" == prefixMeta {
			o.kind = kindMetaPack
		}
		fan, leaf, found := strings.Cut(rest, "/")
		if !found || !strings.HasPrefix(leaf, fan) || len(fan) != 2 {
			return o, false
		}
		rest = leaf
	case prefixNotes:
		o.kind = kindNote
		about, leaf, found := strings.Cut(rest, "/")
		record, err := ParseID(about)
		if !found || err != nil {
			return o, false
		}
		o.record, rest = record, leaf
	default:
		return o, false
	}
	id, err := ParseID(rest)
	if err != nil {
		return o, false
	}
	o.id = id
	return o, true
}
