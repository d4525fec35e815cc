package layering

import (
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// reference is the number of a rule or a decision as it stands in comments.
var reference = regexp.MustCompile(`[(,] ?(R-(SEL|SET|TYPE|RES)-\d+|D-\d+)\b`)

// TestTextsHaveNoReferenceNumbers: what the program says is for people who have not
// read what it was made from. Rules are named in comments and tests.
func TestTextsHaveNoReferenceNumbers(t *testing.T) {
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 || d.Name() == "build" || d.Name() == "testdata" || d.Name() == "testwriter"): // the tool for authors names the rules that it checks
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := parser.ParseFile(token.NewFileSet(), name, text, parser.PackageClauseOnly); err != nil {
			return nil // not a file of a package
		}
		files := token.NewFileSet()
		var s scanner.Scanner
		s.Init(files.AddFile(name, -1, len(text)), text, nil, 0)
		for pos, tok, lit := s.Scan(); tok != token.EOF; pos, tok, lit = s.Scan() {
			if tok == token.STRING && reference.MatchString(lit) {
				t.Errorf("%v: %s: a reference number belongs into a comment", files.Position(pos), lit)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"logs (D-30)": true, "ranges (R-RES-25)": true, "(--no-partial, R-SET-35)": true, "R-SET-12-alternate-path": false, "D-Bus": false} {
		if reference.MatchString(text) != want {
			t.Errorf("%q: reference number %v", text, !want)
		}
	}
}
