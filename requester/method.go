package requester

import (
	"context"
	"fmt"
	"path"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Decision is what a restore method comes to for one component set: all its
// files take the same branch (R-RES-2).
type Decision struct {
	// Original: the files go to where they were.
	Original bool
	// Refusal says why nothing is restored.
	Refusal string
}

// Presence tells of a set's files as they are on the target, looked at after
// PreRestore has ended (R-RES-3).
type Presence struct {
	// There is a path of one that is there, Blocked of one that cannot be
	// replaced or made, and Why.
	There   string
	Blocked string
	Why     string
}

// Decide applies a restore method and a restore target to what is there. Where
// the model goes on with alternate location mappings or with a restart, this
// version refuses and says so.
func Decide(m RestoreMethod, target vss.RestoreTarget, p Presence) Decision {
	blocked := func() string { return fmt.Sprintf("%s cannot be replaced (%s)", p.Blocked, p.Why) }
	switch target {
	case vss.RestoreTargetOriginalLocation: // R-RES-17: the original place whatever the method
		if p.Blocked != "" {
			return Decision{Refusal: blocked()}
		}
		return Decision{Original: true}
	case vss.RestoreTargetAlternate, vss.RestoreTargetDirected:
		return Decision{Refusal: fmt.Sprintf("its writer asks for restore target %s, which this version does not do", target)}
	}
	if !m.Given {
		m.Method = vss.RestoreMethodIfCanReplace // data of no method: a plain copy
	}
	switch m.Method {
	case vss.RestoreMethodIfNotThere: // R-RES-5
		if p.There != "" {
			return Decision{Refusal: fmt.Sprintf("its restore method is %s and %s is there; "+
				"restoring to an alternate location is not done by this version: move what is there away, or restore without writers", m.Method, p.There)}
		}
		if p.Blocked != "" {
			return Decision{Refusal: blocked()}
		}
		return Decision{Original: true}
	case vss.RestoreMethodIfCanReplace: // R-RES-6
		if p.Blocked != "" {
			return Decision{Refusal: blocked() + "; restoring to an alternate location is not done by this version"}
		}
		return Decision{Original: true}
	case vss.RestoreMethodAtRebootIfCannotReplace: // R-RES-11
		if p.Blocked != "" {
			return Decision{Refusal: blocked() + "; replacing at the next restart is not done by this version"}
		}
		return Decision{Original: true}
	case vss.RestoreMethodUndefined: // R-RES-13
		return Decision{Refusal: "its writer gives no restore method, which is an error of the writer"}
	case vss.RestoreMethodCustom: // R-RES-12
		return Decision{Refusal: fmt.Sprintf("its restore method is %s: only the application's own documented way restores it", m.Method)}
	}
	return Decision{Refusal: fmt.Sprintf("restore method %s is not done by this version; restore without writers, or extract", m.Method)}
}

// look finds out what is there of a set's files.
func look(ctx context.Context, t session.Target, entries []*repository.Entry, shown func(string) string) (p Presence, err error) {
	parents := map[string]error{}
	for _, e := range entries {
		if e.Type == repository.Directory || e.Attrs[AttrOutcome] == "failed" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return p, err
		}
		there, err := t.Lstat(ctx, e.Path)
		switch {
		case err == nil && there.Mode.IsDir():
			return block(p, shown(e.Path), "a directory is in its place"), nil
		case err == nil:
			if p.There == "" {
				p.There = shown(e.Path)
			}
		case !isMissing(err):
			return block(p, shown(e.Path), err.Error()), nil
		default:
			if err := parentOK(ctx, t, path.Dir(e.Path), parents); err != nil {
				return block(p, shown(e.Path), err.Error()), nil
			}
		}
	}
	return p, nil
}

func block(p Presence, file, why string) Presence {
	p.Blocked, p.Why = file, why
	return p
}

// parentOK reports whether a directory is there or can be made.
func parentOK(ctx context.Context, t session.Target, dir string, known map[string]error) error {
	if dir == "." || dir == "/" {
		return nil
	}
	if err, ok := known[dir]; ok {
		return err
	}
	e, err := t.Lstat(ctx, dir)
	switch {
	case err == nil && !e.Mode.IsDir():
		err = fmt.Errorf("%s is not a directory", dir)
	case err != nil && isMissing(err):
		err = parentOK(ctx, t, path.Dir(dir), known)
	}
	known[dir] = err
	return err
}
