package repository

import (
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// steps checks that progress moves to its end and gives the last.
func steps(t *testing.T, what string, all []Progress) Progress {
	t.Helper()
	if len(all) < 2 {
		t.Fatalf("%s told %d times how far it is", what, len(all))
	}
	if all[0].Packs != 0 || all[0].Bytes != 0 {
		t.Errorf("%s begins with %+v", what, all[0])
	}
	for i, p := range all[1:] {
		if p.Packs != all[i].Packs+1 || p.Bytes < all[i].Bytes || p.AllPacks != all[0].AllPacks || p.AllBytes != all[0].AllBytes {
			t.Errorf("%s goes from %+v to %+v", what, all[i], p)
		}
	}
	last := all[len(all)-1]
	if last.Packs != last.AllPacks || last.Bytes != last.AllBytes || last.Bytes == 0 {
		t.Errorf("%s ends with %+v", what, last)
	}
	return last
}

func TestACheckTellsHowFarItHasRead(t *testing.T) {
	r, _, _ := smallRepository(t)
	var all []Progress
	told := CheckOptions{ReadData: true, Progress: func(p Progress) { all = append(all, p) }}
	report, _ := check(t, r, told)
	if last := steps(t, "check", all); last.AllPacks != report.PacksRead || last.AllBytes != report.BytesRead {
		t.Errorf("it ends with %+v, the report has %d packs, %d bytes", last, report.PacksRead, report.BytesRead)
	}
	all, told.Subset = nil, Subset{Bytes: 1}
	check(t, r, told)
	if last := steps(t, "check of a part", all); last.AllPacks != 1 {
		t.Errorf("of one pack it tells %+v", last)
	}
	all, told.ReadData, told.Subset = nil, false, Subset{}
	check(t, r, told)
	if len(all) != 0 {
		t.Errorf("without reading it tells %+v", all)
	}
}

func TestAPruneTellsHowFarItHasCopied(t *testing.T) {
	ctx := t.Context()
	r := newTestRepository(t, mem.New())
	r.options.PackSize = 4 << 10
	b := begin(t, r, nil)
	data := randomData(60_000, 1)
	addFile(t, b, "file", data)
	base := commit(t, b, testInfo())
	b = begin(t, r, nil)
	addFile(t, b, "part", data[:30_000])
	commit(t, b, testInfo())
	if _, err := r.Forget(ctx, []ID{base.ID}); err != nil {
		t.Fatal(err)
	}
	var all []Progress
	o := PruneOptions{Grace: -1, MaxUnused: 0.001, Progress: func(p Progress) { all = append(all, p) }}
	report, err := r.Prune(ctx, o, nil)
	if err != nil || report.Stopped != nil || report.CopiedBytes == 0 {
		t.Fatalf("%+v, %v: nothing to copy", report, err)
	}
	if last := steps(t, "prune", all); last.Bytes != report.CopiedBytes {
		t.Errorf("it ends with %+v, the report has %d bytes", last, report.CopiedBytes)
	}
}
