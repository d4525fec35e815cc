package repository

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// After repair a damaged repository is as good as it can be: objects that can be
// made again are, what is lost is named, and all else reads back.
func TestRepairMakesTheBestOfEveryDamage(t *testing.T) {
	r, origin, second := smallRepository(t)
	want := readTree(t, second)
	for name, size := range objects(t, origin) {
		if !strings.HasPrefix(name, prefixData) && !strings.HasPrefix(name, prefixMeta) && !strings.HasPrefix(name, prefixIndex) {
			continue
		}
		object, err := readObject(t.Context(), origin, name, size)
		if err != nil {
			t.Fatal(err)
		}
		damages := map[string][]byte{"removed": nil, "empty": {}, "cut by a byte": object[:size-1], "cut in half": object[:size/2]}
		for i := 0; i < len(object); i += len(object)/12 + 1 {
			flipped := bytes.Clone(object)
			flipped[i] ^= 4
			damages[fmt.Sprint("flipped at ", i)] = flipped
		}
		for what, data := range damages {
			st := origin.Copy()
			if err := st.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if data != nil {
				if err := st.Put(t.Context(), name, data); err != nil {
					t.Fatal(err)
				}
			}
			repairOne(t, r.on(st), st, second.ID, name, what, data, want)
		}
	}
}

func repairOne(t *testing.T, r *Repository, st *mem.Store, id ID, name, what string, data []byte, want map[string]string) {
	t.Helper()
	defer r.decoder.Close()
	var left []Problem
	report, err := r.Repair(t.Context(), RepairOptions{}, func(p Problem) { left = append(left, p) })
	if err != nil || report.Damaged == 0 || int(report.Left) != len(left) {
		t.Fatalf("%s %s: %+v, %v", name, what, report, err)
	}
	lost := map[string]bool{}
	for _, p := range left {
		if p.Object != "" {
			t.Errorf("%s %s: after repair %s: %v", name, what, p.Object, p.Err)
		}
		lost[p.Path] = true
	}
	if strings.HasPrefix(name, prefixIndex) && len(left) > 0 {
		t.Errorf("%s %s: an index is made again wholly, and yet: %+v", name, what, left)
	}
	if data != nil {
		if kept, err := readObject(t.Context(), st, prefixDamaged+name, maxPack); err != nil || !bytes.Equal(kept, data) {
			t.Errorf("%s %s: it was not put aside: %v", name, what, err)
		}
	}
	again, _ := check(t, r.on(st), CheckOptions{ReadData: true})
	if again.Problems != report.Left || again.Unindexed != 0 {
		t.Errorf("%s %s: check finds %d problems, repair left %d", name, what, again.Problems, report.Left)
	}
	rec, err := r.on(st).Record(t.Context(), id.String())
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			if !errors.Is(err, ErrDamaged) || len(left) == 0 {
				t.Errorf("%s %s: %v", name, what, err)
			}
			return
		}
		if e.Type == Regular && !lost[e.Path] && string(readContent(t, r.on(st), e.Content)) != want[e.Path] {
			t.Errorf("%s %s: %s differs and was not named", name, what, e.Path)
		}
	}
}

func FuzzIntent(f *testing.F) {
	r := newTestRepository(f, mem.New())
	id := ID{7}
	f.Add(format.marshal(wireIntent{Repo: r.keys.repo[:], Backup: id[:], Valid: 86400, Host: "host", Record: id[:], Began: &wireTime{Sec: 5}}))
	f.Add(format.marshal(wireIntent{Repo: r.keys.repo[:], Backup: id[:], Valid: 1, Purpose: purposeClock, Unsure: true}))
	f.Fuzz(func(t *testing.T, plain []byte) {
		i, err := decodeIntent(plain, r.keys.repo)
		if err == nil && (i.valid <= 0 || i.valid > maxIntentTTL || i.purpose > purposeClock || len(i.host) > MaxName) {
			t.Errorf("an impossible intent was accepted: %+v", i)
		}
	})
}

func FuzzMark(f *testing.F) {
	r := newTestRepository(f, mem.New())
	id := ID{7}
	f.Add(format.marshal(wireMark{Repo: r.keys.repo[:], Data: id[:], Meta: append(id[:], id[:]...), Confirms: id[:]}))
	f.Fuzz(func(t *testing.T, plain []byte) {
		m, err := decodeMark(plain, r.keys.repo)
		if err == nil && IDSize*(len(m.packs)+len(m.confirms)) > len(plain) {
			t.Errorf("%d bytes gave %d packs and %d marks", len(plain), len(m.packs), len(m.confirms))
		}
	})
}
