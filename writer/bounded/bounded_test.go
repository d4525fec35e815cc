package bounded

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
)

func TestServerThatSendsWithoutEndIsCutOff(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		for b := make([]byte, 1<<20); err == nil; {
			_, err = c.Write(b)
		}
	}()
	c, err := Dial(context.Background(), "unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := io.Copy(io.Discard, c); err == nil || n != Most {
		t.Errorf("read %d bytes, %v; want %d and an error", n, err, Most)
	}
}
