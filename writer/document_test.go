package writer

import (
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

var (
	testClass    = vss.MustParseGUID("11111111-2222-4333-8444-555555555555")
	testInstance = vss.MustParseGUID("00000000-0000-4000-8000-000000000001")
)

func testDocument() *metadata.WriterMetadata {
	m, err := metadata.NewWriterMetadata(metadata.Identity{
		ClassID: testClass, InstanceID: testInstance, Name: "Script", InstanceName: "script one",
		Usage: vss.UsageUserData, Source: vss.SourceOther,
	})
	if err != nil {
		panic(err)
	}
	return m
}
