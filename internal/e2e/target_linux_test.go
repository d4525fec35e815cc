package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/session/pipe"
)

// targetClient is a session's target behind a pipe, worked by the words of a command
// line:
//
//	look NAME, stop NAME, start NAME       a service
//	stage NAME=TEXT... -- commit           files for the next start; NAME*N are N
//	hold                                   waits to be killed
func targetClient(args []string) error {
	if len(args) < 3 {
		return errors.New("PROGRAM STATE WORDS...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	own, err := coordinator.Open(ctx, coordinator.Options{
		StateDir: args[1], Executable: args[0], RebootArgs: []string{"at-reboot", "--state-dir", args[1]},
		Options: session.Options{Limits: session.Limits{Event: 2 * time.Second}},
	})
	if err != nil {
		return err
	}
	// Every call goes through the pipe, as one to another host does.
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- pipe.Serve(ctx, far, own) }()
	s := pipe.Connect(near)
	defer func() {
		s.Close()
		<-served
	}()
	t, err := s.Target(ctx, "", nil)
	if err != nil {
		return err
	}
	defer t.Close()
	return targetWords(ctx, t, args[2:])
}

func targetWords(ctx context.Context, t session.Target, words []string) error {
	var set session.RebootSet
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch word {
		case "look", "stop", "start":
			if err := targetService(ctx, t, word, words[0]); err != nil {
				return err
			}
			words = words[1:]
		case "stage":
			var err error
			if set, err = t.AtReboot(ctx, "Writer: component"); err != nil {
				return err
			}
			defer set.Close()
			for len(words) > 0 && words[0] != "--" {
				if err := targetStages(ctx, t, set, words[0]); err != nil {
					return err
				}
				words = words[1:]
			}
		case "commit":
			id, err := set.Commit(ctx)
			if err != nil {
				return err
			}
			fmt.Println(id)
		case "hold":
			fmt.Println("holding")
			select {}
		case "--":
		default:
			return fmt.Errorf("no word %q", word)
		}
	}
	return nil
}

func targetService(ctx context.Context, t session.Target, word, name string) error {
	var state session.Service
	var err error
	switch word {
	case "look":
		state, err = t.Service(ctx, name)
	case "stop":
		state, err = t.StopService(ctx, name)
	case "start":
		return t.StartService(ctx, name)
	}
	if err == nil {
		fmt.Println(state.Name, state.State, strings.Join(state.With, " "))
	}
	return err
}

// targetStages stages NAME=TEXT, or NAME0=TEXT, NAME1=TEXT... for NAME*N=TEXT.
func targetStages(ctx context.Context, t session.Target, set session.RebootSet, word string) error {
	name, text, _ := strings.Cut(word, "=")
	stem, count, many := strings.Cut(name, "*")
	if !many {
		return targetStage(ctx, t, set, word)
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		if err := targetStage(ctx, t, set, fmt.Sprintf("%s%d=%s", stem, i, text)); err != nil {
			return err
		}
	}
	return nil
}

// targetStage stages NAME=TEXT, NAME an absolute path.
func targetStage(ctx context.Context, t session.Target, set session.RebootSet, word string) error {
	name, text, _ := strings.Cut(strings.TrimPrefix(word, "/"), "=")
	staged, err := set.Stage(ctx, name)
	if err != nil {
		return err
	}
	f, err := t.Create(ctx, staged)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	now := time.Now()
	return f.Commit(ctx, session.Entry{Perm: 0o640, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Size: int64(len(text)), Modified: now, Accessed: now})
}
