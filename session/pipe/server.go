package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Serve answers calls on rw for a session until the other side closes it or
// goes away, and then closes the session. It returns nil at the end of input.
func Serve(ctx context.Context, rw io.ReadWriteCloser, s session.Session) error {
	ctx, cancel := context.WithCancel(ctx)
	v := &server{
		wire: &wire{rw: rw}, ctx: ctx,
		objects: map[uint64]any{0: s}, calls: map[uint64]*running{},
	}
	err := v.loop()
	cancel()
	v.running.Wait()
	v.closeAll()
	rw.Close()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		err = nil
	}
	return errors.Join(err, s.Close())
}

type server struct {
	wire    *wire
	ctx     context.Context
	running sync.WaitGroup

	mu      sync.Mutex
	objects map[uint64]any
	next    uint64
	calls   map[uint64]*running
}

// running is a call under way.
type running struct {
	cancel context.CancelFunc
	// credit is how many entries of a directory may still be sent.
	credit chan struct{}
}

// allow lets entries be sent.
func (r *running) allow(n int) {
	for range n {
		select {
		case r.credit <- struct{}{}:
		default: // more than was ever taken
		}
	}
}

func (v *server) loop() error {
	for {
		f, err := v.wire.receive()
		if err != nil {
			return err
		}
		switch f.Kind {
		case kindCancel:
			v.mu.Lock()
			if r := v.calls[f.Call]; r != nil {
				r.cancel()
			}
			v.mu.Unlock()
		case kindMore:
			v.mu.Lock()
			if r := v.calls[f.Call]; r != nil {
				r.allow(window / 2)
			}
			v.mu.Unlock()
		case kindCall:
			ctx, cancel := context.WithCancel(v.ctx)
			call := &running{cancel: cancel, credit: make(chan struct{}, window)}
			v.mu.Lock()
			v.calls[f.Call] = call
			v.mu.Unlock()
			v.running.Go(func() {
				data, err := v.answer(ctx, call, f)
				v.mu.Lock()
				delete(v.calls, f.Call)
				v.mu.Unlock()
				cancel()
				r := &frame{Kind: kindResult, Call: f.Call, Method: f.Method, Data: data, Err: toWire(err)}
				if serr := v.wire.send(r); serr != nil {
					v.wire.rw.Close()
				}
			})
		default:
			return fmt.Errorf("pipe: frame of unknown kind %d", f.Kind)
		}
	}
}

func (v *server) object(id uint64) any {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.objects[id]
}

// keep gives an object a number.
func (v *server) keep(o any) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next++
	v.objects[v.next] = o
	return v.next
}

// closeAll closes what the other side left open, youngest first.
func (v *server) closeAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := v.next; id > 0; id-- {
		if c, ok := v.objects[id].(io.Closer); ok {
			c.Close()
		}
	}
}

// answer runs one call.
func (v *server) answer(ctx context.Context, call *running, f *frame) ([]byte, error) {
	o := v.object(f.Object)
	if o == nil {
		return nil, vss.Errorf(vss.ErrObjectNotFound, f.Method, "", "no object %d is open", f.Object)
	}
	switch f.Method {
	case "ReadAt":
		return v.readAt(o, f.Data)
	case "WriteAt":
		return v.writeAt(o, f.Data)
	case "Read":
		return v.read(o, f.Data)
	case "ReadDir":
		return nil, v.readDir(ctx, call, o, f)
	}
	m := reflect.ValueOf(o).MethodByName(f.Method)
	if !m.IsValid() {
		return nil, vss.Errorf(vss.ErrNotSupported, f.Method, "", "no such call")
	}
	if f.Method == "Close" && f.Object != 0 {
		v.mu.Lock()
		delete(v.objects, f.Object)
		v.mu.Unlock()
	}
	return v.invoke(ctx, m, f)
}

var (
	contextType  = reflect.TypeFor[context.Context]()
	progressType = reflect.TypeFor[session.Progress]()
	errorType    = reflect.TypeFor[error]()
)

// invoke decodes the arguments a method takes, calls it, and encodes what it
// returns. Objects among the results become numbers.
func (v *server) invoke(ctx context.Context, m reflect.Value, f *frame) ([]byte, error) {
	t := m.Type()
	var in []reflect.Value
	var decode []any
	for i := range t.NumIn() {
		switch a := t.In(i); a {
		case contextType:
			in = append(in, reflect.ValueOf(ctx))
		case progressType:
			in = append(in, reflect.ValueOf(session.Progress(func(st session.Step) { v.stream(f, kindProgress, st) })))
		default:
			p := reflect.New(a)
			in = append(in, p.Elem())
			decode = append(decode, p.Interface())
		}
	}
	if err := unpack(f.Data, decode...); err != nil {
		return nil, vss.Errorf(vss.ErrInvalidArgument, f.Method, "", "arguments: %v", err)
	}
	call := m.Call
	if t.IsVariadic() {
		call = m.CallSlice
	}
	var err error
	var results []any
	for _, r := range call(in) {
		switch {
		case r.Type() == errorType:
			err, _ = r.Interface().(error)
		case r.Kind() == reflect.Interface:
			id := uint64(0)
			if !r.IsNil() {
				id = v.keep(r.Interface())
			}
			results = append(results, id)
		default:
			results = append(results, r.Interface())
		}
	}
	data, perr := pack(results...)
	if perr != nil {
		err = errors.Join(err, perr)
	}
	return data, err
}

// stream sends something that comes while a call runs.
func (v *server) stream(f *frame, k kind, value any) error {
	data, err := pack(value)
	if err != nil {
		return err
	}
	return v.wire.send(&frame{Kind: k, Call: f.Call, Method: f.Method, Data: data})
}

// dirEntry is one entry of ReadDir on its way.
type dirEntry struct {
	Entry session.Entry
	Err   *wireError
}

func (v *server) readDir(ctx context.Context, call *running, o any, f *frame) error {
	d, ok := o.(interface {
		ReadDir(context.Context, string, func(session.Entry, error) error) error
	})
	if !ok {
		return vss.Errorf(vss.ErrNotSupported, f.Method, "", "not a directory tree")
	}
	var name string
	if err := unpack(f.Data, &name); err != nil {
		return err
	}
	call.allow(window)
	return d.ReadDir(ctx, name, func(e session.Entry, err error) error {
		select {
		case <-call.credit:
		case <-ctx.Done():
		}
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		return v.stream(f, kindEntry, dirEntry{e, toWire(err)})
	})
}

func (v *server) readAt(o any, data []byte) ([]byte, error) {
	r, ok := o.(io.ReaderAt)
	var n int
	var off int64
	if err := unpack(data, &n, &off); err != nil {
		return nil, err
	}
	if !ok || n < 0 || n > maxIO {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "ReadAt", "", "%d bytes", n)
	}
	buf := make([]byte, n)
	n, err := r.ReadAt(buf, off)
	return buf[:n], err
}

func (v *server) read(o any, data []byte) ([]byte, error) {
	r, ok := o.(io.Reader)
	var n int
	if err := unpack(data, &n); err != nil {
		return nil, err
	}
	if !ok || n < 0 || n > maxIO {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "Read", "", "%d bytes", n)
	}
	buf := make([]byte, n)
	n, err := r.Read(buf)
	return buf[:n], err
}

func (v *server) writeAt(o any, data []byte) ([]byte, error) {
	w, ok := o.(io.WriterAt)
	if !ok {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "WriteAt", "", "not open for writing")
	}
	var p []byte
	var off int64
	if err := unpack(data, &p, &off); err != nil {
		return nil, err
	}
	n, err := w.WriteAt(p, off)
	out, perr := pack(n)
	if perr != nil {
		err = errors.Join(err, perr)
	}
	return out, err
}
