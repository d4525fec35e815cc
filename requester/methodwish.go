package requester

import (
	"fmt"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// MethodWish has components restored by another method than their writer's.
type MethodWish struct {
	// Component is a selector, see [Selectors]; empty means all. Where several
	// name a component the last counts.
	Component string
	Method    vss.RestoreMethod
}

// ParseMethodWish reads `[component=]method`. A method is a word of the documents,
// a constant's name, or what that ends with: IF_NOT_THERE, at-reboot.
func ParseMethodWish(text string) (w MethodWish, err error) {
	name := text
	if i := strings.LastIndexByte(text, '='); i >= 0 {
		w.Component, name = text[:i], text[i+1:]
		if w.Component == "" {
			return w, vss.Errorf(vss.ErrInvalidArgument, "read", "restore method", "%.100q has no component before its equals sign", text)
		}
	}
	word := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	for _, form := range []string{word, "VSS_RME_" + word, "VSS_RME_RESTORE_" + word} {
		if w.Method, err = vss.ParseRestoreMethod(form); err == nil {
			break
		}
	}
	if err != nil {
		return w, vss.Errorf(vss.ErrInvalidArgument, "read", "restore method", "%.100q is none; there are if-not-there, if-can-replace, "+
			"stop-restore-start, restore-stop-start, to-alternate-location, at-reboot and at-reboot-if-cannot-replace", name)
	}
	switch w.Method {
	case vss.RestoreMethodUndefined, vss.RestoreMethodCustom:
		return w, vss.Errorf(vss.ErrInvalidArgument, "read", "restore method", "%s is nothing that can be done", w.Method)
	}
	return w, nil
}

// Override gives the method with another in its place, or why that cannot be: a
// method needs what the writer says for it, and CUSTOM says that files put back by
// anybody else are of no use. What a writer sets in PreRestore, a restore target,
// holds all the same (R-RES-16).
func (m RestoreMethod) Override(by vss.RestoreMethod) (out RestoreMethod, why string) {
	out = m
	out.Given, out.Method = true, by
	switch {
	case m.Given && m.Method == vss.RestoreMethodCustom:
		return m, fmt.Sprintf("its restore method is %s: only the application's own documented way restores it%s", m.Method, m.pointer())
	case out.ServiceUse() != ServiceUntouched && m.Service == "":
		return m, fmt.Sprintf("it cannot be restored by %s: its writer names no service", by)
	case by == vss.RestoreMethodToAlternateLocation && len(m.Mappings) == 0:
		return m, fmt.Sprintf("it cannot be restored by %s: its writer has no alternate location mapping", by)
	}
	return out, ""
}

// method is the restore method that holds for the set.
func (s *setRun) method() RestoreMethod {
	if s.override == nil {
		return s.set.Component.Writer.Restore
	}
	return *s.override
}

// checkMethods refuses a wish that names no component.
func (r *restore) checkMethods() error {
	if len(r.req.Methods) == 0 {
		return nil
	}
	if r.req.NoWriters {
		return vss.Errorf(vss.ErrInvalidArgument, "restore", "--restore-method", "without writers there is no method: files are copied")
	}
	for _, w := range r.req.Methods {
		if w.Component == "" {
			continue
		}
		if _, err := matchOne(r.stored.writers, "restore-method", w.Component, true); err != nil {
			return err
		}
	}
	return nil
}

// overrideMethods applies the wishes to the sets. One that cannot be restored so is
// not restored in any other way: its files could be put where the user wants them
// least.
func (r *restore) overrideMethods() {
	for _, wish := range r.req.Methods {
		var named map[*Component]bool
		if wish.Component != "" {
			list, err := matchOne(r.stored.writers, "restore-method", wish.Component, true)
			if err != nil {
				continue // another record of the chain has it: see checkMethods
			}
			named = map[*Component]bool{}
			for _, c := range list {
				named[c] = true
			}
		}
		for _, s := range r.sets {
			if s.refused == "" && (named == nil || s.isNamed(named)) {
				r.override(s, wish.Method)
			}
		}
	}
	for _, s := range r.sets {
		if s.override == nil || s.refused != "" {
			continue
		}
		own := s.set.Component.Writer.Restore
		asks := "gives no method"
		if own.Given {
			asks = "asks for " + own.Method.String()
		}
		s.result.MethodUsed = s.override.Method.Word()
		if s.chain != nil && s.chain.n > 0 {
			continue // the first operation has said so
		}
		r.warn("%s is restored by %s, as you ask; its writer %s", s.set.Component.Label(), s.override.Method, asks)
	}
}

func (s *setRun) isNamed(named map[*Component]bool) bool {
	for _, c := range s.set.Component.Set() {
		if named[c] {
			return true
		}
	}
	return false
}

func (r *restore) override(s *setRun, by vss.RestoreMethod) {
	own := s.set.Component.Writer.Restore
	s.override = nil
	if own.Given && own.Method == by {
		return
	}
	m, why := own.Override(by)
	if why != "" {
		r.refuse(s, why)
		return
	}
	s.override = &m
}
