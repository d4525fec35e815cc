package sftp_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/sftp"
)

// TestMain runs the program as a hostile server, which a test starts instead of
// ssh.
func TestMain(m *testing.M) {
	switch how := os.Getenv("HOSTILE_SFTP"); how {
	case "":
	case "replacing":
		replacing()
		return
	default:
		hostile(how, bufio.NewReader(os.Stdin), os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// openHostile gives the store of a hostile server.
func openHostile(t *testing.T, how string, o sftp.Options) *sftp.Store {
	o.Command = []string{"env", "HOSTILE_SFTP=" + how, os.Args[0]}
	st := sftp.Open(sftp.Location{Host: "host", Dir: "/x", NoSync: true}, o)
	t.Cleanup(func() { st.Close() })
	return st
}

// text is a string of the protocol.
func text(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }

// hostile answers requests. With "names" every folder has entries without end,
// with "folders" some ten thousand folders each, in each other without end, with
// "drip" answers come byte by byte.
func hostile(how string, in io.Reader, out io.Writer) {
	number := func(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }
	read := map[string]int{}
	for opened := 0; ; {
		head := make([]byte, 4)
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(in, packet); err != nil {
			return
		}
		kind, id, answer := packet[0], "", ""
		if len(packet) >= 5 {
			id = string(packet[1:5])
		}
		status := func(code uint32) string { return "\x65" + id + number(code) + text("") + text("") }
		switch kind {
		case 1: // version
			answer = "\x02" + number(3)
		case 3, 11: // open a file, a folder
			opened++
			answer = "\x66" + id + text(fmt.Sprint("handle ", opened))
		case 7, 17, 8: // attributes: a folder's
			answer = "\x69" + id + number(4) + number(0o040755)
		case 12: // read a folder
			handle := string(packet[5:])
			if how == "folders" && read[handle] == 40 {
				answer = status(1)
				break
			}
			read[handle]++
			var b strings.Builder
			for i := range 1000 {
				b.WriteString(text(fmt.Sprintf("d%d", i)) + text("") + number(4) + number(0o040755))
			}
			answer = "\x68" + id + number(1000) + b.String()
		case 4: // close
			answer = status(0)
		default:
			answer = status(8)
		}
		answer = text(answer)
		if how != "drip" || kind == 1 {
			io.WriteString(out, answer)
			continue
		}
		for i := range answer {
			time.Sleep(30 * time.Millisecond)
			if _, err := io.WriteString(out, answer[i:i+1]); err != nil {
				return
			}
		}
	}
}

func TestAFolderWithoutEndIsRefused(t *testing.T) {
	for _, how := range []string{"names", "folders"} {
		err := openHostile(t, how, sftp.Options{}).List(t.Context(), "data/", func(store.Info) error { return nil })
		if !store.IsPermanent(err) || !strings.Contains(err.Error(), "the server lists") {
			t.Errorf("%s: %v, want a final error", how, err)
		}
	}
}

func TestAServerThatDripsIsGivenUp(t *testing.T) {
	begun := time.Now()
	err := openHostile(t, "drip", sftp.Options{Stall: 300 * time.Millisecond}).List(t.Context(), "data/", func(store.Info) error { return nil })
	if err == nil || store.IsPermanent(err) || !strings.Contains(err.Error(), "stands still") {
		t.Errorf("%v, want an error that may pass", err)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}
