package writer_test

import (
	"context"
	"log"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// The application: a commit holds this lock.
var commits sync.Mutex

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

// A service with a writer of its own.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := writer.Serve(ctx, "/run/sombra/writers.d/notes", &notes{instance: vss.NewGUID()}); err != nil {
		log.Fatal(err)
	}
}
