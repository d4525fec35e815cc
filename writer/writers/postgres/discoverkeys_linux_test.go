package postgres

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// TestWhatDiscoverFindsIsNotConfigured: the keys by which Discover tells New what it
// has found are no keys of the configuration.
func TestWhatDiscoverFindsIsNotConfigured(t *testing.T) {
	other, err := metadata.NewWriterMetadata(metadata.Identity{InstanceID: vss.NewGUID(), ClassID: vss.NewGUID(), Name: "other", Usage: vss.UsageUserData, Source: vss.SourceOther})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"-maybe":true`, `"-restore":true`, `"-system":"1"`, `"-wal":"/x"`, `"-spaces":[{"oid":"1","dir":"/x"}]`} {
		name, _, _ := strings.Cut(key, ":")
		configs := []writer.Config{{Kind: KindName, Config: json.RawMessage(`{"data":"/srv/pg",` + key + `}`)}}
		for what, d := range map[string]writer.Discovery{"backup": {Configs: configs}, "restore": {Configs: configs, Stored: []writer.Stored{{Metadata: other}}}} {
			if _, err := (Kind{}).Discover(t.Context(), d); err == nil || !strings.Contains(err.Error(), "unknown field "+name) {
				t.Errorf("%s in a %s: %v", key, what, err)
			}
		}
	}
}
