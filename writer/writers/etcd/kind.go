package etcd

import (
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Kind is the writer kind "etcd". Its configuration names a server's data by
// {"directory": "/var/lib/etcd/default"}; see docs/writers/etcd.md for the rest. The
// zero Kind is ready for use, by several goroutines at once.
type Kind struct{}

var _ writer.Kind = Kind{}

// KindName is the kind's word in the configuration.
const KindName = "etcd"

var classID = vss.MustParseGUID("3e9a7d44-51c8-4b0e-8c2f-9d06b1e7a5f2")

// Name implements [writer.Kind].
func (Kind) Name() string { return KindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }
