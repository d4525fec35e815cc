package server

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// GCS is a running server that speaks the JSON interface of Google Cloud Storage.
type GCS struct {
	// Addr is its host and port; it speaks plain HTTP.
	Addr string
}

// StartGCS starts one that keeps what is stored in memory.
func StartGCS(t testing.TB) *GCS {
	t.Helper()
	program, err := fakeGCS.install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	start(t, addr, exec.Command(program, "-backend", "memory", "-scheme", "http", "-host", host, "-port", port,
		"-external-url", "http://"+addr, "-public-host", addr, "-log-level", "warn"))
	return &GCS{Addr: addr}
}

// Bucket makes an empty bucket.
func (s *GCS) Bucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", buckets.Add(1))
	resp, err := http.Post("http://"+s.Addr+"/storage/v1/b?project=test", "application/json", strings.NewReader(`{"name":"`+name+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("make bucket: %s", resp.Status)
	}
	return name
}

// Getenv is an environment that leads to the server.
func (s *GCS) Getenv(name string) string {
	if name == "STORAGE_EMULATOR_HOST" {
		return s.Addr
	}
	return ""
}
