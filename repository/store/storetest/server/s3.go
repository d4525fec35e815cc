package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a running S3 gateway.
type S3 struct {
	// Endpoint is its URL: http://127.0.0.1:port.
	Endpoint string
	// Addr is its host and port.
	Addr string
	// Dir is where it keeps what is stored: one folder a bucket.
	Dir string
	// Admin is a client of its own, with all rights.
	Admin *minio.Client

	command func() *exec.Cmd
	running *process
}

// The keys of all servers, which know nobody else.
const (
	S3Key    = "sombratestkey"
	S3Secret = "sombratestsecret"
)

// StartS3 starts an S3 gateway with versions and object lock.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	program, err := versitygw.install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := attributeDir(t)
	data, versions := filepath.Join(dir, "data"), filepath.Join(dir, "versions")
	for _, d := range []string{data, versions} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddr(t)
	command := func() *exec.Cmd {
		cmd := exec.Command(program, "--port", addr, "--keep-alive", "--quiet", "posix", "--versioning-dir", versions, data)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+S3Key, "ROOT_SECRET_KEY="+S3Secret)
		return cmd
	}
	admin, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(S3Key, S3Secret, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	s := &S3{Endpoint: "http://" + addr, Addr: addr, Dir: data, Admin: admin, command: command}
	s.Start(t)
	return s
}

// Start starts the gateway again, at the same address and with what is stored.
func (s *S3) Start(t testing.TB) {
	t.Helper()
	s.running = start(t, s.Addr, s.command())
}

// Kill ends the gateway at once, in the middle of whatever it does.
func (s *S3) Kill() { s.running.kill() }

// buckets numbers buckets, since a name of its own keeps tests apart.
var buckets atomic.Int64

// Bucket makes an empty bucket, with object lock and so with versions, or with
// neither.
func (s *S3) Bucket(t testing.TB, lock bool) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", buckets.Add(1))
	if err := s.Admin.MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: lock}); err != nil {
		t.Fatal(err)
	}
	return name
}

// Getenv is an environment that holds the server's keys.
func (s *S3) Getenv(name string) string {
	return map[string]string{"AWS_ACCESS_KEY_ID": S3Key, "AWS_SECRET_ACCESS_KEY": S3Secret}[name]
}
