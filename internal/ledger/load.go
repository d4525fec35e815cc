package ledger

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Load is clients at work.
type Load struct {
	// Places are the stores, in the order in which each client commits to them;
	// clients of odd numbers go the other way, from the last to the first, so
	// that of any two stores each is before the other for some client.
	Places []Place
	// Clients is how many there are.
	Clients int
	// Pace is how long each client rests after each number.
	Pace time.Duration
	// Limit is how long one commit may take; beyond it has failed. 0 is a minute.
	Limit time.Duration
	// Log gets a line for each commit as it is acknowledged, for [History].
	Log io.Writer
}

// Run has the clients commit numbers until stop is closed or one of them fails,
// which stops all. Commits under way are completed first. The clients go on
// with the numbers that the stores hold, one behind the other where an earlier
// Run was stopped in between.
func (l *Load) Run(ctx context.Context, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients := make([]client, l.Clients)
	var logging sync.Mutex
	for i := range clients {
		clients[i] = client{load: l, number: i, logging: &logging, next: make([]int64, len(l.Places))}
		defer clients[i].close()
	}
	for i, p := range l.Places {
		if err := l.join(ctx, i, p, clients); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			if err := clients[i].run(ctx, stop); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// join connects all clients to a store.
func (l *Load) join(ctx context.Context, i int, p Place, clients []client) error {
	s, err := Open(p)
	if err != nil {
		return err
	}
	clients[0].stores = append(clients[0].stores, s)
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	held, err := s.Read(ctx, l.Clients)
	if err != nil {
		return err
	}
	for n := range clients {
		c, err := s.Connect(ctx, n)
		if err != nil {
			return err
		}
		clients[n].conns = append(clients[n].conns, c)
		clients[n].next[i] = held[n].Last + 1
	}
	return nil
}

// client is one of them.
type client struct {
	load    *Load
	number  int
	conns   []Conn
	next    []int64 // for each store
	logging *sync.Mutex
	stores  []Store // that the first client closes for all
}

func (c *client) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
	for _, s := range c.stores {
		s.Close()
	}
}

// run commits each number to all stores in turn.
func (c *client) run(ctx context.Context, stop <-chan struct{}) error {
	n := c.next[0]
	for _, other := range c.next {
		n = min(n, other)
	}
	for ; ; n++ {
		for i := range c.conns {
			if backwards(c.number) {
				i = len(c.conns) - 1 - i
			}
			if c.next[i] > n {
				continue // it has it since an earlier time
			}
			select {
			case <-stop:
				return nil
			case <-ctx.Done():
				return nil
			default:
			}
			if err := c.commit(ctx, i, n); err != nil {
				return fmt.Errorf("client %d: %s: number %d: %w", c.number, c.load.Places[i].Name, n, err)
			}
		}
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(c.load.Pace):
		}
	}
}

// backwards tells which way a client goes.
func backwards(client int) bool { return client%2 == 1 }

// commit commits one number to one store and logs it.
func (c *client) commit(ctx context.Context, i int, n int64) error {
	limit := c.load.Limit
	if limit == 0 {
		limit = time.Minute
	}
	// A client that fails stops the others, and does not make them fail.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	o := Op{Store: c.load.Places[i].Name, Client: c.number, N: n, Begun: time.Now()}
	if err := c.conns[i].Commit(ctx, n); err != nil {
		return err
	}
	o.Acked = time.Now()
	c.next[i] = n + 1
	c.logging.Lock()
	defer c.logging.Unlock()
	_, err := c.load.Log.Write(o.line())
	return err
}
