package testwriter

import (
	"fmt"
	"io"
	"sync"
)

// journal prints what the writer does, as the attribute verbosity asks.
type journal struct {
	name  string
	level Verbosity

	mu  sync.Mutex
	out io.Writer
}

func (j *journal) print(level Verbosity, format string, args ...any) {
	if j.out == nil || level > j.level {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.out, "testwriter %s: %s\n", j.name, fmt.Sprintf(format, args...))
}

// event is printed from verbosity medium on.
func (j *journal) event(format string, args ...any) { j.print(Medium, format, args...) }

// detail is printed at verbosity high.
func (j *journal) detail(format string, args ...any) { j.print(High, format, args...) }

// failure is always printed: something failed here.
func (j *journal) failure(format string, args ...any) { j.print(Low, "FAILED: "+format, args...) }

// wrong is always printed: the requester did something it should not.
func (j *journal) wrong(format string, args ...any) { j.print(Low, "REQUESTER: "+format, args...) }
