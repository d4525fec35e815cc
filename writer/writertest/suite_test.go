package writertest

import (
	"context"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/writer"
)

func TestSuitePassesAGoodWriter(t *testing.T) {
	Run(t, func(t *testing.T) *Subject { return ledgerSubject(t, "") })
}

// TestSuiteFindsEveryFault: each broken promise is found by the checks named,
// and each check finds some fault, else it proves nothing.
func TestSuiteFindsEveryFault(t *testing.T) {
	faults := map[fault][]string{
		"has no usage":                      {"Identify gives a valid document"},
		"says another thing each time":      {"Identify gives the same answer at any time"},
		"keeps its instance id":             {"Identify names the instance by what survives a restart"},
		"thaws with an error":               {"all events in order, and again"},
		"does not thaw":                     {"the application works on after a backup"},
		"does not hold commits":             {"no transaction is acknowledged while frozen", "no byte changes while frozen, if declared"},
		"writes while frozen":               {"no byte changes while frozen, if declared"},
		"pauses reads":                      {"reads are answered while frozen, if declared"},
		"does not abort":                    {"Abort after each event returns to normal"},
		"aborts once":                       {"Abort twice, and Abort before anything"},
		"aborts only what it began":         {"Abort twice, and Abort before anything", "Abort of a writer just started"},
		"ignores its limit":                 {"Abort beside a Freeze that waits", "Freeze ends at its limit and leaves nothing held"},
		"has codes of its own":              {"Freeze ends at its limit and leaves nothing held"},
		"takes what it no longer waits for": {"Freeze ends at its limit and leaves nothing held"},
		"comes late":                        {"Freeze with its time up leaves nothing held"},
		"holds on after its death":          {"the writer's death leaves nothing held"},
		"outlives its process":              {"the writer's death leaves nothing held"},
		"complains of failures":             {"BackupComplete takes every outcome"},
		"truncates always":                  {"R-TYPE-17: logs are truncated only for what succeeded"},
		"never truncates":                   {"R-TYPE-17: logs are truncated only for what succeeded"},
		"needs a backup to shut down":       {"BackupShutdown without a backup"},
		"acknowledges what is not there":    {"files read while frozen hold exactly what was acknowledged"},
		"adds after a restore":              {"files read while frozen hold exactly what was acknowledged", "a restore that restored nothing changes nothing"},
		"clears before a restore":           {"a restore that restored nothing changes nothing"},
	}
	finds := make(map[string]bool)
	for f, names := range faults {
		for _, name := range names {
			finds[name] = true
			t.Run(string(f)+"/"+name, func(t *testing.T) {
				t.Parallel()
				// A fault that shows only if a transaction happens to be
				// under way is given more than one chance to.
				for range 20 {
					if err := runOne(t, f, name); err != nil {
						t.Log(err)
						return
					}
				}
				t.Error("the fault was not found")
			})
		}
	}
	for _, c := range checks {
		if !finds[c.name] {
			t.Errorf("no fault shows that the check %q can fail", c.name)
		}
	}
}

func runOne(t *testing.T, f fault, name string) error {
	t.Helper()
	for _, c := range checks {
		if c.name != name {
			continue
		}
		s := ledgerSubject(t, f)
		s.Resume = 300 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return c.run(ctx, s)
	}
	t.Fatalf("there is no check %q", name)
	return nil
}

// TestSuiteSaysWhatItDoesNotCheck: a Subject that declares nothing lacks
// something for these checks and for no others.
func TestSuiteSaysWhatItDoesNotCheck(t *testing.T) {
	bare := &Subject{Writer: newClerk(newLedger(t), "")}
	for _, c := range checks {
		if reason := c.lacks(bare); (reason != "") != (c.needs != 0) {
			t.Errorf("%s: %q", c.name, reason)
		}
	}
	bare.Again = func() (writer.Writer, func() error, error) { return newClerk(newLedger(t), ""), nil, nil }
	for _, c := range checks {
		if c.needs == 0 {
			if err := c.run(t.Context(), bare); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}
