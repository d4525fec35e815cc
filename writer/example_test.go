package writer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// The application keeps notes, and how many there are. A commit holds this lock.
var commits sync.Mutex

func add(note string, n int) error {
	commits.Lock()
	defer commits.Unlock()
	f, err := os.OpenFile("/var/lib/notes/notes", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, note)
	return errors.Join(err, f.Close(), os.WriteFile("/var/lib/notes/count", []byte(strconv.Itoa(n)), 0o600))
}

// The writer: what is to be saved, and how to hold it still.
type notes struct {
	instance vss.GUID
	frozen   atomic.Bool
}

func (w *notes) Describe() writer.Description {
	return writer.Description{Stillness: writer.FilesStill}
}

func (w *notes) Identify(context.Context) (*metadata.WriterMetadata, error) {
	return writer.OneComponent(metadata.Identity{
		ClassID: vss.MustParseGUID("2f7f6a1e-0c4f-4f0d-9a55-7b7a0f1b8f11"), InstanceID: w.instance,
		Name: "Notes Writer", InstanceName: "/var/lib/notes", Usage: vss.UsageUserData, Source: vss.SourceOther,
	}, "notes", vss.FileSpec{Path: "/var/lib/notes", Pattern: "*", Recursive: true})
}

func (w *notes) Freeze(context.Context, *writer.Event) error {
	commits.Lock()
	w.frozen.Store(true)
	return nil
}

func (w *notes) Thaw(context.Context, *writer.Event) error {
	if w.frozen.CompareAndSwap(true, false) {
		commits.Unlock()
	}
	return nil
}

func (w *notes) Abort(ctx context.Context, e *writer.Event) error { return w.Thaw(ctx, e) }

func serve(ctx context.Context) error {
	return writer.Serve(ctx, "/run/sombra/writers.d/notes.sock", &notes{instance: vss.NewGUID()})
}

// A service with a writer of its own: each line of its input is a note.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for n := 1; in.Scan(); n++ {
			fmt.Println(n, add(in.Text(), n))
		}
		stop()
	}()
	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
}
