package requester

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Opener makes a new session; it is closed by the function that was given the
// Opener. A backup may need several: a session cannot take back what was added
// to it, so what an estimate refuses is left out of the next one.
type Opener func(ctx context.Context) (session.Session, error)

// Selectors name writers and components, each in one of these forms:
//
//	friendly name            of a writer, as "SqlServerWriter"
//	instance name            of a writer, what survives its restarts
//	GUID                     of a writer's class or instance, with or without braces
//	writer:component         writer in any form above; component as below
//	component                full path, or logical path (all at and below it), or name
//
// A component's full path is its logical path and its name joined by "\"; one
// leading "\" is ignored. A selector that matches nothing is a [SelectorError].
type Selectors struct {
	Writers           []string `json:"writers,omitempty"`
	ExcludeWriters    []string `json:"exclude_writers,omitempty"`
	Components        []string `json:"components,omitempty"`
	ExcludeComponents []string `json:"exclude_components,omitempty"`
}

// Empty reports whether nothing is named.
func (s Selectors) Empty() bool {
	return len(s.Writers)+len(s.ExcludeWriters)+len(s.Components)+len(s.ExcludeComponents) == 0
}

// Includes reports whether writers or components to be taken are named, so that
// paths alone select no components.
func (s Selectors) Includes() bool { return len(s.Writers)+len(s.Components) > 0 }

// mayMean reports whether a writer or one of its components may be chosen, of
// which nothing is known but its kind and the name of the instance: a GUID may
// be anybody's, and a writer's name has that of its kind in it.
func (s Selectors) mayMean(kind, instance string) bool {
	letters := func(text string) string {
		return strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(text))
	}
	means := func(chosen string) bool {
		_, err := vss.ParseGUID(strings.Trim(chosen, "{}"))
		return err == nil || strings.EqualFold(chosen, instance) || strings.Contains(letters(chosen), letters(kind))
	}
	return slices.ContainsFunc(s.Writers, means) || slices.ContainsFunc(s.Components, func(chosen string) bool {
		writer, _, qualified := strings.Cut(chosen, ":")
		named := len(chosen) > len(instance) && chosen[len(instance)] == ':' && strings.EqualFold(chosen[:len(instance)], instance)
		return named || qualified && means(writer) || !qualified && means(chosen)
	})
}

// excludes reports whether a writer is excluded of which nothing is known but its
// kind and the name of the instance. In doubt it is not: another instance's name may
// hold any word.
func (s Selectors) excludes(kind, instance string) bool {
	return slices.ContainsFunc(s.ExcludeWriters, func(name string) bool {
		_, err := vss.ParseGUID(strings.Trim(name, "{}"))
		ofKind := err != nil && kind != "" && !strings.ContainsAny(name, "/:") && Selectors{Writers: []string{name}}.mayMean(kind, instance)
		return ofKind || strings.EqualFold(name, instance)
	})
}

// leavesOut reports whether such a writer is no loss: it is excluded, or others are
// chosen by name.
func (s Selectors) leavesOut(kind, instance string) bool {
	return s.excludes(kind, instance) || s.Includes() && !s.mayMean(kind, instance)
}

// Request says what a backup is to be.
type Request struct {
	// Paths are the host's paths chosen. They select every component with a
	// file under them, whole (unless Selectors include some by name), and
	// the data under them that no writer claims.
	Paths []string
	// Selectors choose and exclude writers and components by name.
	Selectors Selectors
	// SystemState takes the system state in (R-SEL-19).
	SystemState bool
	// Type is the backup type; zero means copy, which leaves the writers'
	// history and logs alone.
	Type vss.BackupType
	// TypesFor gives components types of their own; see [BackupTypes]. Backup,
	// BackupTo and MakePlan alone leave those components out.
	TypesFor []TypeFor
	// StrictType leaves components out of a log backup whose writer does not
	// know it, where otherwise they get a full one (D-30).
	StrictType bool
	// NoPartial tells writers that no partial files are taken; ranges that one
	// adds all the same are refused (R-SET-35).
	NoPartial bool
	// KeepBaseShadow is how many shadow copies of each volume are kept after the
	// backup, so that the next one can ask what changed since; 0 keeps none.
	KeepBaseShadow int
	// NoWriters backs up without any writer: nothing is claimed, nothing is
	// application-consistent (VSS_CTX_FILE_SHARE_BACKUP).
	NoWriters bool
	// AsPlainFiles takes claimed files of components that are not chosen, or
	// failed, as data of no writer.
	AsPlainFiles bool
	// Exclude are patterns of paths of data no writer claims, as
	// [CompilePatterns] reads them. They never apply to chosen components.
	Exclude []string
	// OneFileSystem leaves out volumes mounted or nested below the paths.
	OneFileSystem bool
	// Consistency is the least level wanted; LevelNone asks for nothing.
	Consistency session.Level
	// Provider chooses a provider for all volumes; zero lets the service.
	Provider vss.GUID
	// Reread reads every file even if it is unchanged since the record this
	// host made last.
	Reread bool
	// Tags, User and Program go to the record.
	Tags          []string
	User, Program string

	part part
}

// Type of the backup with the default applied.
func (r *Request) backupType() vss.BackupType {
	if r.Type == vss.BackupTypeUndefined {
		return vss.BackupTypeCopy
	}
	return r.Type
}

// RestoreRequest says what a restore is to be.
type RestoreRequest struct {
	// Selectors choose components of the record; see Request.Selectors. The
	// GUID of an instance is the one in the record.
	Selectors Selectors
	// Include and Exclude are patterns of paths ([CompilePatterns]) of data
	// no writer claimed. A component is taken whole if one of its files is
	// included. With nothing named and nothing included everything is.
	Include, Exclude []string
	// NoWriters restores the files of components too without their writers:
	// from the file table alone.
	NoWriters bool
	// Wishes are what the writers are told besides.
	Wishes Wishes
	// Overwrite says what to do with files that are there; zero is always.
	Overwrite Overwrite
	// Sequential restores the records that an incremental, differential or log
	// backup needs one after the other, each as it was, where otherwise each file
	// is written once.
	Sequential bool
	// DryRun stops before anything is changed.
	DryRun bool
	// Methods have components restored by other methods than their writers'.
	Methods []MethodWish
	// Destinations are directories of the host, besides the paths that the record
	// is of, that alternate location mappings may lead to. Those which a running
	// writer offers need not be here.
	Destinations []string
	// Services are names of services that may be stopped and started if the
	// record's documents name them. Those which a running writer names need not be
	// here.
	Services []string
}

// Overwrite says what a restore does with a file that is there already.
type Overwrite int

// The ways to treat what is there.
const (
	// OverwriteAlways replaces it; a file found to hold the same bytes is
	// only given its attributes, unless that takes a change of owner, of a
	// privilege or of a file with several names.
	OverwriteAlways Overwrite = iota
	// OverwriteIfNewer replaces it if the stored one was modified later.
	OverwriteIfNewer
	// OverwriteNever leaves it.
	OverwriteNever
)

// ExtractRequest says what an extraction is to be.
type ExtractRequest struct {
	// Dir is the directory of the host that receives the files, each below
	// it at the path the file table has.
	Dir string
	// Include and Exclude are patterns of paths; nothing included is all.
	Include, Exclude []string
	// Selectors choose components; their files are extracted.
	Selectors Selectors
	Overwrite Overwrite
	DryRun    bool
}

// now gives the times that records and results carry. No decision hangs on it.
var now = time.Now
