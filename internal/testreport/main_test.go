package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	tests := []struct {
		name string
		in   string
		code int
		want []string
	}{
		{"all pass", `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`, 0, []string{"1 passed, 0 failed, 0 skipped"}},
		{"a failure shows its output", `{"Action":"output","Package":"p","Test":"TestA","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, 1, []string{"FAILED p TestA\nwhy", "0 passed, 2 failed, 0 skipped"}},
		{"a skip shows its reason", `{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: not root\n"}
{"Action":"skip","Package":"p","Test":"TestA"}`, 0, []string{"p TestA: a_test.go:1: not root", "1 passed, 0 failed, 1 skipped"}},
		{"the slowest come first, parts of tests not at all", `{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1}
{"Action":"pass","Package":"p","Test":"TestB/part","Elapsed":9}
{"Action":"pass","Package":"p","Test":"TestB","Elapsed":9.5}`, 0, []string{"SLOWEST:\n     9.5s  p TestB\n     1.0s  p TestA\n\n3 passed"}},
		{"no test at all is a failure", ``, 1, []string{"0 passed"}},
		{"a build that fails is shown", `x.go:1: syntax error
{"Action":"fail","Package":"p"}`, 1, []string{"x.go:1: syntax error", "FAILED:\n  p"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if code := run(strings.NewReader(tt.in), &out); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("output lacks %q:\n%s", w, out.String())
				}
			}
		})
	}
}
