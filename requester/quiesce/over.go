package quiesce

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// overName is the file in the state directory that tells, in the holder's place,
// that the lease was over before anybody thawed.
const overName = "freeze.over"

// overTime is how long that is told. Thaw may come at any time after the lease;
// much later it is somebody's who means another hold.
const overTime = time.Hour

// removeTime is how long is waited for the file's removal, which takes longer only
// where its file system is frozen.
const removeTime = time.Second

// writeOver leaves what the holder would answer. While the file system is frozen it
// waits.
func writeOver(stateDir string, a Answer) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(stateDir, overName+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(stateDir, overName))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// readOver reads what a holder has left that is gone.
func readOver(stateDir string) (a Answer, ok bool) {
	f, err := os.Open(filepath.Join(stateDir, overName))
	if err != nil {
		return a, false
	}
	defer f.Close()
	if err := readMessage(bufio.NewReader(f), maxMessage, &a); err != nil || a.State != Expired {
		return Answer{}, false
	}
	return a, time.Since(a.Result.Until) < overTime
}

// removeOver removes it, if it is there. What waits for a frozen file system is
// done when that goes on, or else by the next hold.
func removeOver(stateDir string) error {
	done := make(chan error, 1)
	go func() {
		err := os.Remove(filepath.Join(stateDir, overName))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(removeTime):
		return nil
	}
}
