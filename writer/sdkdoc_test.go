package writer_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// The document for authors shows the example as it is compiled here.
func TestTheSDKDocumentShowsTheExample(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	example := strings.Replace(string(source), "package writer_test", "package main", 1)
	example = strings.Replace(example, "\nfunc Example() {", "\nfunc main() {", 1)
	doc, err := os.ReadFile("../docs/writers/sdk.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "```go\n"+example+"```\n") {
		t.Error("docs/writers/sdk.md does not show the program of example_test.go")
	}
	_, part, _ := strings.Cut(example, "// The writer:")
	part, _, ok := strings.Cut(part, "// A service with")
	if n := strings.Count(part, "\n"); !ok || n < 10 || n >= 40 {
		t.Errorf("the writer is %d lines, with empty ones and comments", n)
	}
}

func TestOneComponentMakesADocumentWithoutFaults(t *testing.T) {
	doc, err := writer.OneComponent(metadata.Identity{
		ClassID: vss.NewGUID(), InstanceID: vss.NewGUID(), Name: "n", Usage: vss.UsageUserData, Source: vss.SourceOther,
	}, "c", vss.FileSpec{Path: "/a", Pattern: "*", Recursive: true}, vss.FileSpec{Path: "/b", Pattern: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if problems := doc.Validate(vss.POSIX); len(problems) != 0 {
		t.Errorf("faults: %v", problems)
	}
	if c, ok := doc.Component("", "c"); !ok || len(c.FileSets) != 2 || !c.Selectable {
		t.Errorf("component: %+v", c)
	}
	if _, err := writer.OneComponent(metadata.Identity{}, "c"); err == nil {
		t.Error("a document without an identity was made")
	}
}
