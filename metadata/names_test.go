package metadata

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestEveryNameIsExplained looks up each element and attribute in
// docs/documents.md.
func TestEveryNameIsExplained(t *testing.T) {
	page, err := os.ReadFile("../docs/documents.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		name, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		names++
		if name != documentVersion && !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/documents.md does not explain %s", name)
		}
		return true
	})
	if names < 90 {
		t.Errorf("only %d names were found in names.go", names)
	}
}
