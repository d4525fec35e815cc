package requester

import (
	"context"
)

// typing is what the type asked for comes to for the set that the component is
// in. One that takes no part has the type asked for.
func (a *attempt) typing(c *Component) Typing {
	if a.sel != nil {
		if t, ok := a.typings[a.sel.Defining[c]]; ok {
			return t
		}
	}
	asked := a.req.backupType()
	return Typing{Asked: asked, Type: asked}
}

// lists reports whether the record lists the files of a claim; see
// [Typing.Lists].
func (a *attempt) lists(cl *Claim) bool {
	t := a.typing(cl.Component)
	return t.Lists(cl.File)
}

// decideTypes decides what each explicit component is backed up as. It reports
// whether one of them is out because of it, so that the selection must be made
// again.
func (a *attempt) decideTypes(ctx context.Context) (changed bool, err error) {
	a.typings = make(map[*Component]Typing, len(a.sel.Explicit))
	for _, c := range a.sel.Explicit {
		h, err := a.historyOf(ctx, c)
		if err != nil {
			return false, err
		}
		t := DecideType(a.req.backupType(), c.Writer, h, a.req.StrictType)
		if t.LeftOut != "" {
			changed = a.barUnlessAsked(c, t.LeftOut) || changed
		}
		a.typings[c] = t
	}
	return changed, nil
}

// historyOf is what the repository's records tell of a component.
func (a *attempt) historyOf(ctx context.Context, c *Component) (h ComponentHistory, err error) {
	return h, ctx.Err()
}
