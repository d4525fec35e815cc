package main

import (
	"fmt"
	"io"
)

// print prints the table of one load, and which goals were met under it.
func (m *measured) print(out io.Writer, l load) {
	asked := "the client"
	if l.control {
		asked = "the control client"
	}
	fmt.Fprintf(out, "\n### Under load: %s (%.0f transactions a second of %s)\n\n%s", l.title, m.rate, asked, tableHead)
	for _, r := range []struct {
		what string
		d    durations
	}{
		{"lock wait: Freeze until the database is held", m.lockWait},
		{"held: from then to the end of Thaw", m.held},
		{"lock wait + held", m.sum},
		{"of it: the set's hold", m.hold},
		{"of it: the provider's commit", m.commit},
		{"flush before Freeze, in which nothing is held", m.prepare},
		{asked + ": its longest wait for the lock", m.wait},
		{"  over what it was held", m.over},
		{"  while the volume was flushed, before Freeze", m.flushWait},
		{"  in as long a time without a shadow copy", m.idleWait},
		{asked + ": its longest transaction", m.whole},
		{"  while the volume was flushed, before Freeze", m.flushWhole},
		{"  in as long a time without a shadow copy", m.idleWhole},
	} {
		io.WriteString(out, r.d.row(r.what))
	}
	io.WriteString(out, "\n"+verdict("median of lock wait + held", m.sum.median(), goalHeld))
	if !l.control {
		return
	}
	if l.busy {
		io.WriteString(out, "- no goal for the control client here: it also waits for the other client, which leaves it pauses of 20 µs\n")
		return
	}
	io.WriteString(out, verdict("the control client's longest wait over what the receipt says it was held", m.over.max(), goalControl))
}
