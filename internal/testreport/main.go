// Command testreport reads what "go test -json" prints, shows what failed with
// its output and what was skipped with its reason, and ends with one line of
// counts. Its exit code is 1 if anything failed, or if no test ran.
//
// Nothing is left out in silence: each skipped test is named, and each volume
// suite that could not run counts.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

// maxOutput bounds the lines kept of one test: its last ones.
const maxOutput = 200

// report is what was seen so far.
type report struct {
	w       io.Writer
	output  map[string][]string // by package and test
	passed  int
	failed  []string
	skipped []string
	slow    []slowTest
}

// slowTest is a test, not one that is part of another, and its time in seconds. Of
// tests that run beside others that is no cost.
type slowTest struct {
	name    string
	seconds float64
}

// maxSlow bounds the tests that are shown as the slowest.
const maxSlow = 20

func main() {
	os.Exit(run(os.Stdin, os.Stdout))
}

func run(in io.Reader, out io.Writer) int {
	r := &report{w: out, output: map[string][]string{}}
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			fmt.Fprintf(out, "%s\n", sc.Bytes()) // what a build that fails says
			continue
		}
		r.take(e)
	}
	if err := sc.Err(); err != nil {
		fmt.Fprintln(out, "testreport:", err)
		return 1
	}
	return r.end()
}

func (r *report) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		list := append(r.output[key], e.Output)
		r.output[key] = list[max(0, len(list)-maxOutput):]
	case "pass", "fail", "skip":
		r.result(e, key)
		delete(r.output, key)
	case "build-fail":
		fmt.Fprint(r.w, strings.Join(r.output[key], ""))
	}
}

func (r *report) result(e event, key string) {
	text := strings.Join(r.output[key], "")
	name := strings.TrimPrefix(e.Package, "github.com/sombra-backup/sombra/")
	if e.Test != "" && !strings.Contains(e.Test, "/") {
		r.slow = append(r.slow, slowTest{name + " " + e.Test, e.Elapsed})
	}
	switch {
	case e.Test == "" && e.Action == "skip": // no test files
	case e.Test == "":
		if e.Action == "fail" {
			fmt.Fprint(r.w, text)
			r.failed = append(r.failed, name)
		}
		word := map[string]string{"pass": "ok  ", "fail": "FAIL"}[e.Action]
		fmt.Fprintf(r.w, "%s %s %.1fs\n", word, name, e.Elapsed)
	case e.Action == "pass":
		r.passed++
	case e.Action == "fail":
		r.failed = append(r.failed, name+" "+e.Test)
		fmt.Fprintf(r.w, "\nFAILED %s %s\n%s\n", name, e.Test, text)
	case e.Action == "skip":
		r.skipped = append(r.skipped, name+" "+e.Test+reason(text))
	}
}

// reason is what a test said when it was skipped.
func reason(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return ": " + line
		}
	}
	return ""
}

func (r *report) end() int {
	slices.SortStableFunc(r.slow, func(a, b slowTest) int { return cmp.Compare(b.seconds, a.seconds) })
	if len(r.slow) > 0 {
		fmt.Fprintf(r.w, "\nSLOWEST:\n")
		for _, s := range r.slow[:min(maxSlow, len(r.slow))] {
			fmt.Fprintf(r.w, "%8.1fs  %s\n", s.seconds, s.name)
		}
	}
	if len(r.skipped) > 0 {
		slices.Sort(r.skipped)
		fmt.Fprintf(r.w, "\nSKIPPED %d TESTS:\n", len(r.skipped))
		for _, s := range r.skipped {
			fmt.Fprintln(r.w, "  "+s)
		}
	}
	if len(r.failed) > 0 {
		fmt.Fprintf(r.w, "\nFAILED:\n")
		for _, f := range r.failed {
			fmt.Fprintln(r.w, "  "+f)
		}
	}
	fmt.Fprintf(r.w, "\n%d passed, %d failed, %d skipped\n", r.passed, len(r.failed), len(r.skipped))
	if len(r.failed) > 0 || r.passed == 0 {
		return 1
	}
	return 0
}
