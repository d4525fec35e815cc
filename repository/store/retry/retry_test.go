package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/repository/store/retry"
	"github.com/sombra-backup/sombra/repository/store/storetest"
)

var errReset = errors.New("connection reset")

// flaky is a store in memory of which operations fail by plan: each takes the
// next step; without one it succeeds.
type flaky struct {
	*mem.Store
	steps []step
	calls int
}

type step int

const (
	fine   step = iota
	before      // fails before anything is done
	after       // is carried out, but the answer is lost
	denied      // fails for good
	half        // a read or a listing breaks off in the middle
)

var errDenied = store.Permanent(errors.New("access denied"))

func (f *flaky) step(do func() error) error {
	s := fine
	if f.calls < len(f.steps) {
		s = f.steps[f.calls]
	}
	f.calls++
	switch s {
	case before, half:
		return errReset
	case denied:
		return errDenied
	}
	err := do()
	if s == after {
		return errReset
	}
	return err
}

func (f *flaky) Put(ctx context.Context, name string, data []byte) error {
	return f.step(func() error { return f.Store.Put(ctx, name, data) })
}

func (f *flaky) Delete(ctx context.Context, name string) error {
	return f.step(func() error { return f.Store.Delete(ctx, name) })
}

func (f *flaky) Stat(ctx context.Context, name string) (info store.Info, err error) {
	err = f.step(func() error { info, err = f.Store.Stat(ctx, name); return err })
	return info, err
}

func (f *flaky) ReadAt(ctx context.Context, name string, p []byte, offset int64) (n int, err error) {
	if f.calls < len(f.steps) && f.steps[f.calls] == half {
		f.calls++
		clear(p)
		return len(p) / 2, fmt.Errorf("cut: %w", io.ErrUnexpectedEOF)
	}
	err = f.step(func() error { n, err = f.Store.ReadAt(ctx, name, p, offset); return err })
	return n, err
}

// List shows names in order, or backwards if there is an object of that name,
// and breaks off after two if the step says so.
func (f *flaky) List(ctx context.Context, prefix string, show func(store.Info) error) error {
	var names []string
	for i := range 5 {
		names = append(names, fmt.Sprintf("n/%d", i))
	}
	if _, err := f.Store.Stat(ctx, "backwards"); err == nil {
		names = []string{"n/4", "n/3", "n/2", "n/1", "n/0"}
	}
	return f.step2(func(limit int) error {
		for i, name := range names {
			if i == limit {
				return errReset
			}
			if err := show(store.Info{Name: name}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *flaky) step2(do func(limit int) error) error {
	limit := -1
	if f.calls < len(f.steps) && f.steps[f.calls] == half {
		limit = 2
	}
	f.calls++
	return do(limit)
}

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return retry.New(mem.New(), retry.Options{}) })
}

func TestOperationsAreTriedAgainAfterDisturbances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := &flaky{Store: mem.New(), steps: []step{before, before, before}}
		st := retry.New(f, retry.Options{})
		begun := time.Now()
		// The object is looked for before it is sent again: that fails, too.
		if err := st.Put(ctx, "a", []byte("data")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < time.Second || took > 4*time.Second {
			t.Errorf("three pauses took %v, want between 1.75 s and 3.5 s", took)
		}
		p := make([]byte, 4)
		f.calls, f.steps = 0, []step{before, half}
		if n, err := st.ReadAt(ctx, "a", p, 0); n != 4 || err != nil || string(p) != "data" {
			t.Errorf("read %d, %q, %v", n, p, err)
		}
		f.calls, f.steps = 0, []step{half}
		if n, err := st.ReadAt(ctx, "a", make([]byte, 9), 0); n != 4 || err != io.EOF {
			t.Errorf("read past the end: %d, %v", n, err)
		}
		f.calls, f.steps = 0, []step{before, after}
		if err := st.Delete(ctx, "a"); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
}

func TestAPutWhoseAnswerWasLostIsASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{Store: mem.New(), steps: []step{after}}
		if err := retry.New(f, retry.Options{}).Put(t.Context(), "config", []byte("mine")); err != nil {
			t.Errorf("the answer was lost, the object is there: %v", err)
		}
		if f.calls > 3 {
			t.Errorf("%d calls: the object was sent again", f.calls)
		}
	})
}

func TestAPutOfANameTakenByOthersIsErrExistAlsoAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, theirs := range []string{"other", "their longer one"} {
			f := &flaky{Store: mem.New(), steps: []step{before}}
			if err := f.Store.Put(t.Context(), "config", []byte(theirs)); err != nil {
				t.Fatal(err)
			}
			if err := retry.New(f, retry.Options{}).Put(t.Context(), "config", []byte("mine!")); !errors.Is(err, store.ErrExist) {
				t.Errorf("%q is there: %v", theirs, err)
			}
		}
	})
}

func TestFinalErrorsAreNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		f := &flaky{Store: mem.New(), steps: []step{denied}}
		st := retry.New(f, retry.Options{})
		if err := st.Put(t.Context(), "a", nil); !errors.Is(err, errDenied) || f.calls != 1 {
			t.Errorf("denied: %v after %d calls", err, f.calls)
		}
		if _, err := st.Stat(t.Context(), "none"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("absent: %v", err)
		}
		if err := st.Put(t.Context(), "A", nil); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("bad name: %v", err)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestTheTimeIsBoundedAndTheContextObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := make([]step, 1000)
		for i := range broken {
			broken[i] = before
		}
		notified := 0
		o := retry.Options{Limit: 10 * time.Minute, Notify: func(op, name string, err error, pause time.Duration) {
			notified++
			if op != "stat" || name != "a" || !errors.Is(err, errReset) || pause > 30*time.Second {
				t.Errorf("told %s %s, %v, %v", op, name, err, pause)
			}
		}}
		begun := time.Now()
		_, err := retry.New(&flaky{Store: mem.New(), steps: broken}, o).Stat(t.Context(), "a")
		if took := time.Since(begun); !errors.Is(err, errReset) || took < 9*time.Minute || took > 10*time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		if notified < 15 || notified > 60 {
			t.Errorf("tried %d times in ten minutes", notified)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun = time.Now()
		_, err = retry.New(&flaky{Store: mem.New(), steps: broken}, retry.Options{}).Stat(ctx, "a")
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second {
			t.Errorf("after %v: %v", took, err)
		}

		f := &flaky{Store: mem.New(), steps: broken}
		if _, err := retry.New(f, retry.Options{Limit: -1}).Stat(t.Context(), "a"); !errors.Is(err, errReset) || f.calls != 1 {
			t.Errorf("without patience: %v after %d calls", err, f.calls)
		}
	})
}

func TestAListingIsTakenUpBehindTheLastName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := func(f *flaky) (got string, err error) {
			err = retry.New(f, retry.Options{}).List(t.Context(), "n/", func(info store.Info) error {
				got += info.Name[2:]
				return nil
			})
			return got, err
		}
		if got, err := list(&flaky{Store: mem.New(), steps: []step{half, half}}); got != "01234" || err != nil {
			t.Errorf("in order: %s, %v", got, err)
		}
		back := &flaky{Store: mem.New(), steps: []step{half}}
		if err := back.Store.Put(t.Context(), "backwards", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := list(back); got != "43" || !errors.Is(err, errReset) {
			t.Errorf("backwards, so that nobody knows where it broke off: %s, %v", got, err)
		}
	})
}
