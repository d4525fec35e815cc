package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// Booted reports whether systemd runs this host (what sd_booted(3) looks at).
func Booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// errNotBooted is the reason where it does not.
var errNotBooted = errors.New("systemd does not run here")

// available finds systemctl, or says why services cannot be reached: op is what
// was to be done, and how to do it otherwise.
func available(op, object, otherwise string) (string, error) {
	if !Booted() {
		return "", vss.Errorf(vss.ErrNotSupported, op, object, "%w; %s", errNotBooted, otherwise)
	}
	path, err := exec.LookPath("systemctl")
	if err != nil {
		return "", vss.Errorf(vss.ErrNotSupported, op, object, "%w; %s", err, otherwise)
	}
	return path, nil
}

// environment is all that systemctl and journalctl are given.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
	"SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "SYSTEMD_URLIFY=0"}

// maxOutput bounds what is kept of what a command prints.
const maxOutput = 4 << 20

// run runs a command to its end and gives what it prints.
func run(ctx context.Context, path string, args ...string) (stdout string, err error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = environment, "/"
	out, said := head{max: maxOutput}, head{max: 4096}
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second
	err = runToEnd(cmd)
	if ctx.Err() != nil {
		return out.String(), context.Cause(ctx)
	}
	if text := strings.TrimSpace(said.String()); err != nil && text != "" {
		err = errors.New(oneLine(text))
	}
	return out.String(), err
}

// head keeps the beginning of what is written to it.
type head struct {
	bytes.Buffer
	max int
}

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), h.max-h.Len())])
	return len(p), nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// properties are those of one unit.
type properties map[string]string

// list is the value of a property that lists units.
func (p properties) list(name string) []string { return strings.Fields(p[name]) }

func (p properties) loaded() bool { return p["LoadState"] == "loaded" }

// runs reports whether the unit is up, or on its way up or down.
func (p properties) runs() bool {
	switch p["ActiveState"] {
	case "inactive", "failed", "":
		return false
	}
	return true
}

func (p properties) detail() string {
	return fmt.Sprintf("%s, %s (%s)", p["LoadState"], p["ActiveState"], p["SubState"])
}

var asked = strings.Join([]string{"Id", "LoadState", "ActiveState", "SubState", "Type", "Result", "ExecMainStatus", "StatusText",
	"ControlGroup", "MainPID", "User", "ActiveEnterTimestampMonotonic", "RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo", "TriggeredBy"}, ",")

// show asks for the properties of units.
func show(ctx context.Context, systemctl string, units ...string) ([]properties, error) {
	out, err := run(ctx, systemctl, append([]string{"show", "--no-pager", "--property=" + asked, "--"}, units...)...)
	if err != nil {
		return nil, fmt.Errorf("systemctl show: %w", err)
	}
	list := parseShow(out)
	if len(list) != len(units) {
		return nil, fmt.Errorf("systemctl show: it tells of %d units and was asked for %d", len(list), len(units))
	}
	return list, nil
}

// parseShow reads blocks of Name=value, with an empty line between two.
func parseShow(out string) []properties {
	var list []properties
	for block := range strings.SplitSeq(out, "\n\n") {
		p := properties{}
		for line := range strings.Lines(block) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
				p[name] = value
			}
		}
		if len(p) > 0 {
			list = append(list, p)
		}
	}
	return list
}

// lastWords are how a unit failed that was started at a time, and the last line
// its own processes wrote to the journal since.
func lastWords(ctx context.Context, p properties, since time.Time) string {
	var words []string
	if code := exitWords(p); code != "" {
		words = append(words, code)
	}
	if text := p["StatusText"]; text != "" {
		words = append(words, text)
	}
	if line := journalLine(ctx, p, since); line != "" {
		words = append(words, "last it said: "+line)
	}
	if len(words) == 0 {
		return p.detail()
	}
	return strings.Join(words, "; ")
}

func exitWords(p properties) string {
	if p["Result"] == "" || p["Result"] == "success" {
		return ""
	}
	text := "result " + p["Result"]
	if s := p["ExecMainStatus"]; s != "" && s != "0" {
		text += ", status " + s
	}
	return text
}

// journalLine is the last line of a unit's own processes in the journal. The
// journal may not know any more which run of the unit it was of.
func journalLine(ctx context.Context, p properties, since time.Time) string {
	path, err := exec.LookPath("journalctl")
	if err != nil || p["Id"] == "" {
		return ""
	}
	run(ctx, path, "--sync") // what was said a moment ago is to be there; without it, there is a line less
	args := []string{"--no-pager", "--quiet", "--output=cat", "--lines=1", fmt.Sprintf("--since=@%d", since.Unix()), "_SYSTEMD_UNIT=" + p["Id"]}
	out, err := run(ctx, path, args...)
	if err != nil {
		return ""
	}
	line := oneLine(out)
	if len(line) > 500 {
		line = line[:500] + "..."
	}
	return line
}

// ownGroup is the control group this process is in.
func ownGroup() string {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		// 0::/path is the unified hierarchy's; name=systemd is systemd's own.
		id, group, _ := strings.Cut(strings.TrimSpace(line), ":")
		name, path, ok := strings.Cut(group, ":")
		if ok && (id == "0" && name == "" || name == "name=systemd") && path != "/" {
			return path
		}
	}
	return ""
}

// populated reports whether processes are in a control group or below it.
func populated(group string) bool {
	if group == "" || group == "/" {
		return false
	}
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		data, err := os.ReadFile(mount + group + "/cgroup.events")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if strings.Contains(string(data), "populated 1") {
			return true
		}
	}
	return false
}
