package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// chainBlock is what changes at once in the chain's database: eight pages.
	chainBlock = 8 * pageSize
	// chainFile is how large its other files are, if there are enough of them.
	chainFile = 1 << 20
)

// chainData is what is backed up: one file of blocks and many that change whole,
// half of the size each.
type chainData struct {
	dir   string
	files int
	pages int64 // of each of the files
}

// make makes the data, in a directory that is not there.
func (d *chainData) make(size int64) error {
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		return err
	}
	d.files = int(max(size/2/chainFile, 10))
	d.pages = max(size/2/int64(d.files)/pageSize, 1)
	if err := makeDatabase(d.database(), max(size/2/pageSize, 10*chainBlock/pageSize)); err != nil {
		return err
	}
	for n := range d.files {
		if err := makePages(d.file(n), d.pages, uint64(n)+1_000); err != nil {
			return err
		}
	}
	return nil
}

func (d *chainData) database() string { return filepath.Join(d.dir, "pages.db") }

func (d *chainData) file(n int) string { return filepath.Join(d.dir, fmt.Sprintf("%06d.dat", n)) }

// change writes a tenth of the database's blocks and a tenth of the files anew,
// takes one file away and adds two. It gives the blocks as a writer lists them.
func (d *chainData) change(generation uint64) (ranges string, err error) {
	f, err := os.OpenFile(d.database(), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	r := newRand(generation)
	block := make([]byte, chainBlock)
	chosen := r.Perm(int(info.Size() / chainBlock))
	chosen = chosen[:max(len(chosen)/10, 1)]
	slices.Sort(chosen)
	var list []string
	for _, n := range chosen {
		for at := 0; at < len(block); at += pageSize {
			makePage(block[at:at+pageSize], uint64(n*len(block)+at), r)
		}
		if _, err := f.WriteAt(block, int64(n)*chainBlock); err != nil {
			return "", err
		}
		list = append(list, fmt.Sprintf("%d:%d", n*chainBlock, chainBlock))
	}
	there, err := filepath.Glob(filepath.Join(d.dir, "*.dat"))
	if err != nil {
		return "", err
	}
	r.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
	tenth := max(len(there)/10, 1)
	for i, path := range there[:tenth] {
		if err := makePages(path, d.pages, generation<<32|uint64(i)); err != nil {
			return "", err
		}
	}
	for range 2 {
		if err := makePages(d.file(d.files), d.pages, generation<<32|uint64(d.files)<<16); err != nil {
			return "", err
		}
		d.files++
	}
	return strings.Join(list, ","), errors.Join(os.Remove(there[len(there)-1]), f.Close())
}

// config is the writer's configuration; ranges are of the database, in an
// incremental backup. Its other files are saved if they have changed since.
func (d *chainData) config(ranges string) string {
	const saved = `incBackupRequired="no" fullSnapshotRequired="no" incSnapshotRequired="no" diffSnapshotRequired="no" logSnapshotRequired="no"`
	var dir bytes.Buffer
	xml.EscapeText(&dir, []byte(d.dir)) // to memory, which takes all
	listed := ""
	if ranges != "" {
		listed = fmt.Sprintf(`<PartialFile path="%s" filespec="pages.db" ranges="%s"/>`, dir.String(), ranges)
	}
	return fmt.Sprintf(`<TestWriter usage="USER_DATA" supportsIncremental="yes" addIn="PrepareForBackup" verbosity="low">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
  <Component componentType="filegroup" componentName="app" selectable="yes">
    <ComponentFile path="%[1]s" filespec="pages.db" %[2]s/>
    <ComponentFile path="%[1]s" filespec="*.dat" %[2]s/>
    %[3]s
    <DifferencedFile path="%[1]s" filespec="*.dat"/>
  </Component>
</TestWriter>
`, dir.String(), saved, listed)
}

// chainWriter runs the writer of the data.
type chainWriter struct {
	cmd *exec.Cmd
	log tail
}

// startWriter starts it in the directory of a tool, and waits until it listens.
func startWriter(ctx context.Context, t *tool, dir, config string) (*chainWriter, error) {
	file := filepath.Join(dir, "app.xml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	socket := filepath.Join(writersOf(dir), "testwriter-app.sock")
	w := &chainWriter{cmd: exec.CommandContext(ctx, t.path, "testwriter", file)}
	w.cmd.Env, w.cmd.Stdout, w.cmd.Stderr = append(environment(), t.env(dir)...), &w.log, &w.log
	w.cmd.Cancel = func() error { return w.cmd.Process.Signal(syscall.SIGINT) }
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return w, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return nil, errors.Join(errors.New("the writer does not listen"), ctx.Err(), w.stop())
		}
	}
}

// writersOf is where the writer of a tool's directory listens.
func writersOf(dir string) string { return filepath.Join(dir, "state", "writers.d") }

func (w *chainWriter) stop() error {
	if err := w.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("the writer: %w: %s", err, w.log.String())
	}
	return nil
}
