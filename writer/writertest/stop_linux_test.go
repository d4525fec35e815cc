package writertest

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/writer"
)

// printer is a ledger whose application is a process and a child of it, which
// writes; nobody can hold it.
type printer struct {
	*clerk
	pid    atomic.Int64
	silent bool // names a process that writes nothing
}

func (p *printer) Describe() writer.Description {
	return writer.Description{Stillness: writer.NothingHeld, NamesProcesses: true, ReadsPaused: true}
}

func (p *printer) Freeze(_ context.Context, e *writer.Event) error {
	var pids []int
	if pid := p.pid.Load(); pid != 0 {
		pids = append(pids, int(pid))
	}
	e.Frozen(writer.FreezeReport{Processes: pids})
	return nil
}

func (p *printer) Thaw(context.Context, *writer.Event) error  { return nil }
func (p *printer) Abort(context.Context, *writer.Event) error { return nil }

// printing is the application at work.
type printing struct {
	ledger *ledger
	cmds   []*exec.Cmd
	ended  chan struct{}
}

func (p *printer) load() (Load, error) {
	n, err := p.l.check()
	if err != nil {
		return nil, err
	}
	p.l.acknowledged.Store(n)
	// The outer shell only waits for the one that writes.
	const script = `(n=$0; while :; do n=$((n+1)); echo $n >>"$1"; echo $n; sleep 0.0005; done); true`
	cmd := exec.Command("sh", "-c", script, fmt.Sprint(n), p.l.path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &printing{ledger: p.l, cmds: []*exec.Cmd{cmd}, ended: make(chan struct{})}
	p.pid.Store(int64(cmd.Process.Pid))
	if p.silent {
		idler := exec.Command("sleep", "60")
		idler.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := idler.Start(); err != nil {
			return nil, err
		}
		w.cmds = append(w.cmds, idler)
		p.pid.Store(int64(idler.Process.Pid))
	}
	go func() {
		defer close(w.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, err := strconv.ParseUint(lines.Text(), 10, 64); err == nil {
				p.l.acknowledged.Store(n)
			}
		}
	}()
	return w, nil
}

func (w *printing) Acknowledged() uint64 { return w.ledger.acknowledged.Load() }
func (w *printing) Reads() uint64        { return 0 }
func (w *printing) Stop() error {
	for _, c := range w.cmds {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // it is gone if this fails
	}
	<-w.ended
	for _, c := range w.cmds {
		_ = c.Wait() // says that it was killed
	}
	return nil
}

func printerSubject(t *testing.T, silent bool) *Subject {
	p := &printer{clerk: newClerk(newLedger(t), ""), silent: silent}
	return &Subject{Writer: p, Load: p.load, Check: p.l.check,
		Again: func() (writer.Writer, func() error, error) { return p, nil, nil }}
}

// TestSuiteStopsTheProcessesOfAWriterThatHoldsNothing: its files are still then,
// and what is read of them holds all that was acknowledged.
func TestSuiteStopsTheProcessesOfAWriterThatHoldsNothing(t *testing.T) {
	for _, c := range checks {
		if c.needs&needsLoad == 0 || c.lacks(printerSubject(t, false)) != "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if err := c.run(t.Context(), printerSubject(t, false)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSuiteFindsProcessesNotNamed: who names another than those that write is
// found out.
func TestSuiteFindsProcessesNotNamed(t *testing.T) {
	for _, c := range checks {
		if c.needs&needsStill == 0 && c.name != "no transaction is acknowledged while frozen" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			// On a machine with much else to do nothing may be written in a hold,
			// and then there is nothing to find.
			for range 3 {
				if err := c.run(ctx, printerSubject(t, true)); err != nil {
					return
				}
			}
			t.Error("the fault was not found")
		})
	}
}
