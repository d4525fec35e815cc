package ledger

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// Main is [Load.Run] as the work of a process of its own, with the words
// CLIENTS PACE LOG PLACE...; Words makes them. It ends when its input does.
func Main(ctx context.Context, words []string) error {
	if len(words) < 4 {
		return fmt.Errorf("want CLIENTS PACE LOG PLACE..., not %q", words)
	}
	clients, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	l := Load{Clients: clients}
	if l.Pace, err = time.ParseDuration(words[1]); err != nil {
		return err
	}
	for _, w := range words[3:] {
		p, err := ParsePlace(w)
		if err != nil {
			return err
		}
		l.Places = append(l.Places, p)
	}
	log, err := os.OpenFile(words[2], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	l.Log = log
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin) // however it ends
		close(stop)
	}()
	return l.Run(ctx, stop)
}

// Words gives the words with which Main does the load, logging to a file.
func (l *Load) Words(log string) []string {
	words := []string{strconv.Itoa(l.Clients), l.Pace.String(), log}
	for _, p := range l.Places {
		words = append(words, p.String())
	}
	return words
}
