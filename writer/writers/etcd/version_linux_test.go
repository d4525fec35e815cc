package etcd

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestOtherVersionsAreRefused(t *testing.T) {
	c, err := parseConfig(json.RawMessage(`{"directory": "/var/lib/etcd", "any_version": true}`))
	if err != nil {
		t.Fatal(err)
	}
	for version, ok := range map[string]bool{"3.4.23": true, "3.4.0": true, "3.5.1": false, "3.40.1": false, "3.3.4": false, "": false} {
		err := supported(version, config{})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "any_version") {
			t.Errorf("%q: %v, want accepted %v, or the way out", version, err, ok)
		}
		if err := supported(version, c); err != nil {
			t.Errorf("%q with any_version: %v", version, err)
		}
	}
	if _, err := parseConfig(json.RawMessage(`{"directory": "/var/lib/etcd", "other_versions": true}`)); err == nil || !strings.Contains(err.Error(), "other_versions") {
		t.Errorf("a switch that does not exist: %v", err)
	}
}
