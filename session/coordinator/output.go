package coordinator

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

const (
	// maxOutputLine bounds a line of a writer host's output that is logged,
	// maxOutputLines how many are.
	maxOutputLine  = 4 << 10
	maxOutputLines = 1000
)

// output is what a writer host, or a script it runs, writes to its standard
// error: it goes into the log, line by line. The host gets a pipe rather than
// what we write to, as it runs with another user's rights and its terminal is
// not his.
type output struct {
	read, write *os.File
	done        chan struct{}
}

// newOutput begins to log what is written to an output. Of a nil log nothing comes.
func newOutput(log *slog.Logger, kind string) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o := &output{read: r, write: w, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		logLines(r, kind, log)
	}()
	return o, nil
}

// logLines logs all there is to read. It reads on when it logs no more, so that
// nobody is held up by a full pipe.
func logLines(r io.Reader, kind string, log *slog.Logger) {
	b := bufio.NewReaderSize(r, maxOutputLine)
	for n := 0; ; {
		line, more, err := b.ReadLine()
		if err != nil {
			return
		}
		for more && err == nil {
			_, more, err = b.ReadLine()
		}
		text := strings.TrimRight(strings.ToValidUTF8(string(line), "?"), " ")
		if text == "" {
			continue
		}
		switch n++; {
		case n <= maxOutputLines:
			log.Warn(kind+" writer's process", "says", text)
		case n == maxOutputLines+1:
			log.Warn(kind+" writer's process says more than is shown", "lines", maxOutputLines)
		}
	}
}

// started closes our end for writing, which the host has now.
func (o *output) started() { o.write.Close() }

// close waits a moment for what was written last, and ends the output: something
// that the host left running may have it open still.
func (o *output) close() {
	t := time.NewTimer(graceAfterLimit)
	defer t.Stop()
	select {
	case <-o.done:
	case <-t.C:
	}
	o.read.Close()
	<-o.done
}
