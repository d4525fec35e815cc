package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

// TestRepositoriesOnServers runs the scripts of testdata/stores against each
// kind of server, as somebody would who has just been given a place on one. They
// mostly wait for each other's processes, so they run beside each other.
func TestRepositoriesOnServers(t *testing.T) {
	for name, vars := range map[string]func(t *testing.T) map[string]string{
		"s3": func(t *testing.T) map[string]string { return s3Place(t, false, "") },
		"s3 with object lock": func(t *testing.T) map[string]string {
			return s3Place(t, true, "/host/one?lock=1h")
		},
		"sftp": func(t *testing.T) map[string]string {
			ssh := server.StartSSH(t)
			return map[string]string{"REPO": "sftp://" + ssh.Host + ssh.Dir + "/new/repository", "SOMBRA_SSH_COMMAND": strings.Join(ssh.Command, " ")}
		},
		"gcs": func(t *testing.T) map[string]string {
			g := server.StartGCS(t)
			return map[string]string{"REPO": "gs://" + g.Bucket(t) + "/prefix", "STORAGE_EMULATOR_HOST": g.Addr}
		},
		"azure": func(t *testing.T) map[string]string {
			az := server.StartAzure(t)
			return map[string]string{"REPO": "azblob://" + az.Container(t) + "/prefix?endpoint=" + az.Endpoint,
				"AZURE_STORAGE_ACCOUNT": server.AzureAccount, "AZURE_STORAGE_KEY": server.AzureKey}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := vars(t)
			v["SOMBRA_PROVIDER"] = "precopy"
			// What is locked for an hour is neither forgotten nor pruned in this test.
			if v["FORGETS"], v["PRUNED"] = "0", "[1-9][0-9]*"; strings.Contains(v["REPO"], "lock=") {
				v["FORGETS"], v["PRUNED"] = "3", "0"
			}
			testscript.Run(t, params("testdata/stores", v))
		})
	}
}

// s3Place is a place in a new bucket.
func s3Place(t *testing.T, lock bool, rest string) map[string]string {
	s := server.StartS3(t)
	return map[string]string{"REPO": "s3://" + s.Bucket(t, lock) + rest, "AWS_ENDPOINT_URL": s.Endpoint,
		"AWS_ACCESS_KEY_ID": server.S3Key, "AWS_SECRET_ACCESS_KEY": server.S3Secret}
}

// TestPruneRenewsTheLocksOfWhatIsNeeded: when the time is over for which what is
// put is locked, what backups need is locked still, by prune, and nobody deletes
// it; what they do not need goes.
func TestPruneRenewsTheLocksOfWhatIsNeeded(t *testing.T) {
	s := server.StartS3(t)
	bucket := s.Bucket(t, true)
	p := params("testdata/lock", map[string]string{"SOMBRA_PROVIDER": "precopy", "REPO": "s3://" + bucket + "/host?lock=2s", "AWS_ENDPOINT_URL": s.Endpoint,
		"AWS_ACCESS_KEY_ID": server.S3Key, "AWS_SECRET_ACCESS_KEY": server.S3Secret})
	p.Cmds["attack"] = func(ts *testscript.TestScript, _ bool, args []string) { attack(t, ts, s, bucket, args) }
	testscript.Run(t, p)
}

// attack [KIND] deletes every version of a kind of object that the server lets
// go. Of all kinds together it must not get packs, keys and config, nor all of
// the index and the records.
func attack(t *testing.T, ts *testscript.TestScript, s *server.S3, bucket string, args []string) {
	refused := map[string]int{}
	for o := range s.Admin.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		ts.Check(o.Err)
		kind := strings.Split(o.Key, "/")[1]
		if len(args) > 0 && kind != args[0] {
			continue
		}
		err := s.Admin.RemoveObject(t.Context(), bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID})
		if err != nil {
			refused[kind]++
		} else if slices.Contains([]string{"config", "keys", "data", "meta"}, kind) {
			ts.Fatalf("%s was deleted", o.Key)
		}
	}
	if len(args) > 0 {
		return
	}
	for _, kind := range []string{"config", "keys", "data", "meta", "index", "records"} {
		if refused[kind] == 0 {
			ts.Fatalf("nothing of %s was kept: %v", kind, refused)
		}
	}
}

func TestRatesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]byteRate{"100": 100, "500k": 500 << 10, "10M": 10 << 20, "1.5m": 3 << 19, "2G": 2 << 30} {
		var r byteRate
		if err := r.Set(text); err != nil || r != want {
			t.Errorf("%s: %d, %v, want %d", text, r, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "2048G", "k", "10X", "NaN", "Inf", "1e300G", "0.1"} {
		var r byteRate
		if err := r.Set(text); err == nil {
			t.Errorf("%q was taken for %d", text, r)
		}
	}
}

// TestLocationsThatCannotBe: what is wrong with a URL is told without what may
// be a secret in it.
func TestLocationsThatCannotBe(t *testing.T) {
	a := &app{getenv: func(name string) string {
		return map[string]string{"AWS_ACCESS_KEY_ID": "idididid", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}[name]
	}, stderr: os.Stderr}
	for location, want := range map[string]string{
		"s3://key:hunter2@bucket/x":                        "holds no credentials",
		"s3://bucket/x?secret=hunter2":                     `no parameter "secret"`,
		"s3://bucket/x?endpoint=http://example.com":        "endpoint= in the URL: the endpoint is reached without encryption",
		"s3://bucket/x?endpoint=https://u:hunter2@host":    "not of the form",
		"s3://bucket/../x":                                 "cannot hold",
		"s3://bucket/x?lock=forever":                       "not a time",
		"s3://bucket/x?lock=999999d":                       "not a time",
		"s3://bucket/x?lock=30000d":                        "ten years",
		"s3://bucket/x?lock_mode=compliance":               "needs lock",
		"s3://bucket/x?lock=1d&lock_mode=hunter2":          "neither governance nor compliance",
		"s3:https://key:hunter2@s3.amazonaws.com/bucket/x": "no location begins with",
		"s3:s3.eu-west-1.amazonaws.com/bucket/x?y=hunter2": "repository s3:s3.eu-west-1.amazonaws.com/bucket/x: ",
		"s3:https://hunter2@host:9000/bucket/a/b":          "written s3://bucket/a/b?endpoint=https://host:9000",
		"s3:bucket":                                 "written s3://BUCKET/PREFIX",
		"sftp://me:hunter2@host/x":                  "holds no password",
		"gs://bucket/x?key=hunter2":                 `no parameter "key"`,
		"gs://bucket/x?endpoint=http://example.com": "without encryption",
		"azblob://c/x":                              "account is not named",
		"azblob://c/x?account=a":                    "neither a key nor a signature",
		"azblob://hunter2@c/x":                      "holds no credentials",
		"sftp://-oProxyCommand=x/x":                 "not a name",
		"sftp://host":                               "not of the form",
		"sftp://host/x?fsync=never":                 "only be no",
		"ftp://host/x":                              "unknown kind of storage",
	} {
		_, err := a.openStoreAt(t.Context(), location)
		if err == nil {
			t.Errorf("%s was opened", location)
			continue
		}
		text := err.Error()
		var h *hintError
		if errors.As(err, &h) {
			text += h.hint
		}
		if !strings.Contains(text, want) || strings.Contains(text, "hunter2") || strings.Contains(text, "\n") {
			t.Errorf("%s: %s", location, text)
		}
	}
}
