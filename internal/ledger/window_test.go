package ledger

import (
	"testing"
	"time"
)

func TestSlowestCommitOfATime(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1000 + ms)) }
	var h History
	for n, span := range [][2]int{{0, 50}, {60, 65}, {70, 90}, {95, 200}} {
		h.Add(Op{Store: "a", N: int64(n + 1), Begun: at(span[0]), Acked: at(span[1])})
	}
	h.Add(Op{Store: "b", N: 1, Begun: at(0), Acked: at(500)})
	for _, tt := range []struct{ from, to, want int }{
		{55, 92, 3}, {40, 62, 1}, {61, 64, 2}, {0, 300, 4}, {51, 59, 0}, {201, 400, 0},
	} {
		o, ok := h.SlowestIn("a", at(tt.from), at(tt.to))
		if ok != (tt.want > 0) || o.N != int64(tt.want) {
			t.Errorf("from %d to %d: number %d, %v; want %d", tt.from, tt.to, o.N, ok, tt.want)
		}
	}
}
