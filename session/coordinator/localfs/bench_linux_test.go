package localfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/session"
)

func BenchmarkReadDir(b *testing.B) {
	for _, n := range []int{10, 20000} {
		b.Run(fmt.Sprintf("%d files", n), func(b *testing.B) {
			dir := b.TempDir()
			for i := range n {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("some-file-name-%d", i)), nil, 0o600); err != nil {
					b.Fatal(err)
				}
			}
			tr, err := OpenTree(dir, TreeOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer tr.Close()
			b.ReportAllocs()
			for b.Loop() {
				count := 0
				if err := tr.ReadDir(context.Background(), ".", func(_ session.Entry, err error) error { count++; return err }); err != nil || count != n {
					b.Fatal(count, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/file")
		})
	}
}

func BenchmarkRestoreSmallFile(b *testing.B) {
	tg, err := OpenTarget(b.TempDir(), TargetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer tg.Close()
	e := regular(0o644)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := put(tg, fmt.Sprint(i), e, "x"); err != nil {
			b.Fatal(err)
		}
	}
}
