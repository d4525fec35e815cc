package postgres

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// clusterState is DBState of the control file.
type clusterState uint32

const (
	shutDown           clusterState = 1
	shutDownInRecovery clusterState = 2
	inArchiveRecovery  clusterState = 5
	inProduction       clusterState = 6
)

func (s clusterState) String() string {
	names := [...]string{"starting up", "shut down", "shut down in recovery", "shutting down", "in crash recovery", "in archive recovery", "in production"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("in state %d", uint32(s))
}

// control is what the writer needs of global/pg_control.
type control struct {
	System     uint64 // the system identifier
	State      clusterState
	Redo       lsn // where recovery from the last checkpoint begins
	Timeline   uint32
	Checkpoint time.Time
	Segment    uint64 // bytes of a segment of the write-ahead log

	// What a server needs at least to recover the log.
	WALLevel         uint32
	MaxConnections   uint32
	MaxWorkers       uint32
	MaxSenders       uint32
	MaxPrepared      uint32
	MaxLocks         uint32
	TrackCommitTimes bool
}

// walMinimal is WALLevel of a server whose log is good for crash recovery alone.
const walMinimal = 0

// The layout of version 15's control file, which is little-endian where the
// machine is.
const (
	controlVersion = 1300
	catalogVersion = 202209061
	controlCRCAt   = 288
	controlSize    = controlCRCAt + 4
)

// tablespaceVersion is the directory of this version in each tablespace.
const tablespaceVersion = "PG_15_202209061"

// castagnoli is the polynomial of PostgreSQL's checksums of the control file.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseControl reads a control file.
func parseControl(b []byte) (control, error) {
	if len(b) < controlSize {
		return control{}, fmt.Errorf("the control file has %d bytes and must have %d", len(b), controlSize)
	}
	le := binary.LittleEndian
	if v, c := le.Uint32(b[8:]), le.Uint32(b[12:]); v != controlVersion || c != catalogVersion {
		return control{}, fmt.Errorf("the control file is of version %d, catalogue %d; that of PostgreSQL %s is %d, %d", v, c, tested, controlVersion, catalogVersion)
	}
	if got, want := crc32.Checksum(b[:controlCRCAt], castagnoli), le.Uint32(b[controlCRCAt:]); got != want {
		return control{}, fmt.Errorf("the control file's checksum is %08x and must be %08x", got, want)
	}
	c := control{
		System: le.Uint64(b), State: clusterState(le.Uint32(b[16:])), Redo: lsn(le.Uint64(b[40:])), Timeline: le.Uint32(b[48:]),
		Checkpoint: time.Unix(int64(le.Uint64(b[104:])), 0), Segment: uint64(le.Uint32(b[228:])),
		WALLevel: le.Uint32(b[172:]), MaxConnections: le.Uint32(b[180:]), MaxWorkers: le.Uint32(b[184:]),
		MaxSenders: le.Uint32(b[188:]), MaxPrepared: le.Uint32(b[192:]), MaxLocks: le.Uint32(b[196:]), TrackCommitTimes: b[200] != 0,
	}
	if c.Segment < 1<<20 || c.Segment > 1<<30 || c.Segment&(c.Segment-1) != 0 {
		return control{}, fmt.Errorf("the control file has log segments of %d bytes", c.Segment)
	}
	return c, nil
}
