package metadata

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

const manifestText = `<Manifest ><ShadowCopySet GUID = '{0C9D8E7F-0001-4002-8003-000400050006}' MachineName = 'CELLAR' ><ShadowCopy GUID = '{11111111-2222-4333-8444-555566667777}' Alias = 'one' OriginalVolume = 'C:\' Provider = '{00000000-0000-0000-0000-000000000000}' ></ShadowCopy></ShadowCopySet><BackupComponents File = 'BCDocument.xml' ></BackupComponents><Aliases ><Alias Name = 'one' Value = '{11111111-2222-4333-8444-555566667777}' ></Alias></Aliases><Writers Count = '2' ><Writer Name = 'Cellar%sExpress%sWriter' MetadataFile = 'C:\Temp\2\WM0.xml' ></Writer><Writer Name = 'Plain' MetadataFile = 'WM1.xml' ></Writer></Writers><Logfile Name = 'Dis1.tmp' ></Logfile></Manifest>`

func TestManifestIsReadAsWindowsWritesIt(t *testing.T) {
	want := &Manifest{
		ShadowCopySets: []ManifestSet{{vss.MustParseGUID("0c9d8e7f-0001-4002-8003-000400050006"), "CELLAR",
			[]ManifestShadowCopy{{vss.MustParseGUID("11111111-2222-4333-8444-555566667777"), "one", `C:\`, vss.GUID{}}}}},
		BackupComponentsFile: "BCDocument.xml",
		Aliases:              []ManifestAlias{{"one", "{11111111-2222-4333-8444-555566667777}"}},
		Writers:              []ManifestWriter{{"Cellar Express Writer", `C:\Temp\2\WM0.xml`}, {"Plain", "WM1.xml"}},
		Logfile:              "Dis1.tmp",
	}
	for name, data := range map[string][]byte{"UTF-16LE": toUTF16(manifestText, binary.LittleEndian), "UTF-8": []byte(manifestText)} {
		m, err := ParseManifest(bytes.Clone(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkKept(t, name, data, m.SaveAsXML(), m.Rewrite(), m.SaveAsXML())
		if m.doc = nil; !reflect.DeepEqual(m, want) {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if f := want.Writers[0].File(); f != "WM0.xml" {
		t.Errorf("file %q", f)
	}
}

func TestBrokenManifestNamesItsPlace(t *testing.T) {
	for src, text := range map[string]string{
		`<Manifest`:    "not closed",
		`<X/>`:         "not Manifest",
		`<Manifest/ >`: "blank, > or />",
		`<Manifest><ShadowCopySet GUID='x'/></Manifest>`:            "GUID",
		`<Manifest><Writers Count='2'/></Manifest>`:                 "0 writers",
		`<Manifest><Writers><Writer/></Writers></Manifest>`:         "Name",
		`<Manifest><Aliases><Alias Name='a'/></Aliases></Manifest>`: "Value",
	} {
		_, err := ParseManifest([]byte(src))
		checkBroken(t, src, err, 1, text)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(manifestText))
	f.Add(toUTF16(manifestText, binary.LittleEndian))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := ParseManifest(data); (m == nil) == (err == nil) {
			t.Fatalf("%v, %v", m, err)
		}
	})
}
