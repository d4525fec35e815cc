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
	_, example, ok := strings.Cut(string(source), "// The application:")
	if !ok {
		t.Fatal("example_test.go does not begin with the application")
	}
	example = strings.Replace(example, "// A service with a writer of its own.\nfunc Example() {", "func main() {", 1)
	doc, err := os.ReadFile("../docs/writers/sdk.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), strings.TrimSpace(example)) {
		t.Error("docs/writers/sdk.md does not show the example of example_test.go")
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
