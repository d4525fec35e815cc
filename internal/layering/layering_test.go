// Package layering keeps the order of the rooms: which package may import which.
package layering

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/sombra-backup/sombra/"

// may lists, for each room, the rooms it may import besides its own. A package
// belongs to the room with the longest matching name. DO NOT CHANGE THIS TABLE
// TO MAKE THE TEST PASS: change the code, or write a page in docs/decisions.
var may = map[string][]string{
	"vss":        {},
	"metadata":   {"vss"},
	"provider":   {"vss"},
	"proto":      {},
	"writer":     {"vss", "metadata", "proto"},
	"session":    {"vss", "provider"},
	"repository": {},
	"requester":  {"vss", "metadata", "provider", "session", "repository"},

	"provider/providers":  {"vss", "provider"},
	"writer/writers":      {"vss", "metadata", "writer"},
	"session/pipe":        {"vss", "session"},
	"session/sessiontest": {"vss", "session", "metadata", "provider", "writer"},
	"session/coordinator": {"vss", "metadata", "provider", "provider/providers", "writer", "session"},
	// What test support may use, in a room that others may know: a suite that
	// ships with an interface makes volumes to run on.
	"internal/voltest":      {},
	"provider/providertest": {"vss", "provider", "internal/voltest"},

	"internal": {"*"},
	"cmd":      {"*"},
	"bench":    {"*"},
}

func room(pkg string) string {
	best := ""
	for r := range may {
		if (pkg == r || strings.HasPrefix(pkg, r+"/")) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

type listed struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("only %d packages listed: the test looks at the wrong place", len(list))
	}
	return list
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above")
		}
		dir = filepath.Dir(dir)
	}
}

func TestLowerRoomsKnowNothingOfUpperRooms(t *testing.T) {
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		own := room(pkg)
		if own == "" {
			t.Errorf("%s is in no room of the house", pkg)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			imp = strings.TrimPrefix(imp, module)
			if r := room(imp); r != own && !allowed(own, r) {
				t.Errorf("%s imports %s: %s may not know %s", pkg, imp, own, r)
			}
		}
	}
}

func allowed(own, other string) bool {
	for _, m := range may[own] {
		if m == other || m == "*" {
			return true
		}
	}
	return false
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestNoPackageRegistersItself(t *testing.T) {
	for _, p := range packages(t) {
		if strings.Contains(p.ImportPath, "/proto/") {
			continue // generated
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s has an init function: wiring belongs in main", name)
				}
			}
		}
	}
}

func TestRoomsAreNotNamedForWhatTheyAreNot(t *testing.T) {
	for _, p := range packages(t) {
		switch filepath.Base(p.ImportPath) {
		case "util", "utils", "common", "helper", "helpers", "misc":
			t.Errorf("%s: a package is named for what it does", p.ImportPath)
		}
	}
}
