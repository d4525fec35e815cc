package main

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

// TestBackupsGoOnAfterTheirServerWasKilled: a server that dies in the middle of
// a backup and returns is waited for; if it returns too late, the next backup
// takes up what was stored.
func TestBackupsGoOnAfterTheirServerWasKilled(t *testing.T) {
	s := server.StartS3(t)
	bucket := s.Bucket(t, false)
	p := params("testdata/resume", map[string]string{"SOMBRA_PROVIDER": "precopy", "REPO": "s3://" + bucket + "/host", "AWS_ENDPOINT_URL": s.Endpoint,
		"AWS_ACCESS_KEY_ID": server.S3Key, "AWS_SECRET_ACCESS_KEY": server.S3Secret})
	p.Cmds["random"] = randomFile
	p.Cmds["server"] = func(ts *testscript.TestScript, _ bool, args []string) {
		serverCmd(t, ts, s, filepath.Join(s.Dir, bucket, "host", "data"), args)
	}
	testscript.Run(t, p)
}

// randomFile FILE MIB makes a file that cannot be compressed.
func randomFile(ts *testscript.TestScript, _ bool, args []string) {
	mib, err := strconv.Atoi(args[1])
	ts.Check(err)
	data := make([]byte, mib<<20)
	r := rand.NewChaCha8([32]byte{byte(rand.Uint32())})
	r.Read(data)
	name := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
	ts.Check(os.WriteFile(name, data, 0o644))
}

// server kill N kills it as soon as there are N packs; server start starts it
// again; server holds MIB fails if the packs have more than so many MiB.
func serverCmd(t *testing.T, ts *testscript.TestScript, s *server.S3, packs string, args []string) {
	stored := func() (n int, bytes int64) {
		err := filepath.WalkDir(packs, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(name, ".sgwtmp") {
				return nil // gone meanwhile, or not there yet
			}
			if fi, err := d.Info(); err == nil {
				n++
				bytes += fi.Size()
			}
			return nil
		})
		ts.Check(err)
		return n, bytes
	}
	switch args[0] {
	case "start":
		s.Start(t)
	case "kill":
		want, err := strconv.Atoi(args[1])
		ts.Check(err)
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
			n, _ := stored()
			if n >= want {
				break
			}
			if time.Now().After(deadline) {
				ts.Fatalf("%d packs are there after two minutes, want %d", n, want)
			}
		}
		s.Kill()
		time.Sleep(time.Second) // so that whoever sends something notices
	case "holds":
		most, err := strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
		if n, bytes := stored(); bytes > most<<20 {
			ts.Fatalf("%d packs of %d bytes in all, want at most %d MiB: something was stored twice", n, bytes, most)
		}
	}
}
