package repository

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/sombra-backup/sombra/repository/store"
)

var errPending = errors.New("repository: not written yet")

type listNode struct{}

func (n *listNode) equal(m *listNode) bool { return true }

// KDF holds the cost parameters of argon2id for a password slot.
type KDF struct {
	// Time is the number of passes, Memory is in KiB, Threads the lanes.
	Time, Memory uint32
	Threads      uint8
}

// Options says how a repository is made and used. The zero value is right.
type Options struct {
	// KDF is used by Create; zero means t=3, m=64 MiB, p=4.
	KDF KDF
	// Chunking is used by Create and kept in the repository; zero means
	// 256 KiB, 1 MiB, 4 MiB.
	Chunking Chunking
	// PackSize is the size at which a pack is closed; zero means 16 MiB.
	PackSize int
	// Workers is how many goroutines compress; zero means GOMAXPROCS.
	Workers int
	// CacheBytes bounds the memory for decoded data; zero means 64 MiB.
	CacheBytes int64
	// TempDir is where large file tables are sorted; empty means os.TempDir.
	TempDir string
}

// Chunking holds the sizes in bytes between which content is cut.
type Chunking struct {
	Min, Average, Max uint32
}

// Repository is an open repository.
type Repository struct{}

// Create makes a repository in the store, which must not hold one: ErrExist.
func Create(ctx context.Context, st store.Store, password []byte, o Options) (*Repository, error) {
	return nil, errPending
}

// Open opens the repository in the store. ErrNoRepository, ErrWrongPassword.
func Open(ctx context.Context, st store.Store, password []byte, o Options) (*Repository, error) {
	return nil, errPending
}

// ID is the repository's identifier.
func (r *Repository) ID() ID { return ID{} }

// Close forgets the keys. Backups going on are to be ended before.
func (r *Repository) Close() error { return errPending }

// BeginOptions says what a backup builds on.
type BeginOptions struct {
	// Base is the record that unchanged files are taken from, if any.
	Base *Record
}

// Begin starts a backup. The context lives as long as the backup does.
func (r *Repository) Begin(ctx context.Context, o BeginOptions) (*Backup, error) {
	return nil, errPending
}

// Backup is a record in the making. Its methods may be called from several
// goroutines.
type Backup struct{}

// PutFile stores a new file.
func (b *Backup) PutFile(ctx context.Context, src Source) (Content, error) {
	return Content{}, errPending
}

// PutStream stores what the reader gives, whatever its length.
func (b *Backup) PutStream(ctx context.Context, rd io.Reader) (Content, error) {
	return Content{}, errPending
}

// PutBytes stores a document.
func (b *Backup) PutBytes(ctx context.Context, data []byte) (Content, error) {
	return Content{}, errPending
}

// PutRanges stores a new version of base of which only the given ranges
// changed. Bytes past the end of base are read even if no range names them.
func (b *Backup) PutRanges(ctx context.Context, base Content, src Source, changed []Range) (Content, error) {
	return Content{}, errPending
}

// Holds says whether everything the content needs is in the repository: nil,
// or an error that wraps ErrDamaged. Add makes the same test of a content's
// first level only.
func (b *Backup) Holds(ctx context.Context, c Content) error { return errPending }

// Add adds an entry to the file table, in any order. If a root and path is
// added again, the later entry replaces the earlier one.
func (b *Backup) Add(ctx context.Context, e Entry) error { return errPending }

// Commit makes everything durable and then the record visible.
func (b *Backup) Commit(ctx context.Context, info RecordInfo) (*Record, error) {
	return nil, errPending
}

// Abort ends the backup without a record. After Commit it does nothing.
func (b *Backup) Abort() error { return errPending }

// Record is one backup.
type Record struct {
	// ID is the record's name.
	ID ID
	RecordInfo
	Totals Totals
}

// Records gives all records, oldest first. If some cannot be read the others
// are returned with an error that wraps ErrDamaged and names each.
func (r *Repository) Records(ctx context.Context) ([]*Record, error) { return nil, errPending }

// Record gives the record whose id begins with the given hexadecimal digits
// (four or more), or the newest for "latest". ErrNotFound, ErrAmbiguous.
func (r *Repository) Record(ctx context.Context, name string) (*Record, error) {
	return nil, errPending
}

// AddNote says something of a record after the fact.
func (r *Repository) AddNote(ctx context.Context, record ID, n Note) (Note, error) {
	return Note{}, errPending
}

// Notes gives the record's notes, oldest first.
func (r *Repository) Notes(ctx context.Context, record ID) ([]Note, error) { return nil, errPending }

// Document reads one of the record's documents of at most limit bytes.
// ErrNotFound if it has none of that name.
func (rec *Record) Document(ctx context.Context, name string, limit int64) ([]byte, error) {
	return nil, errPending
}

// Table is the record's file table.
func (rec *Record) Table() *Table { return nil }

// Table is the file table of a record.
type Table struct{}

// Len is the number of entries.
func (t *Table) Len() int64 { return 0 }

// All gives every entry in order. The iteration ends after an error.
func (t *Table) All(ctx context.Context) iter.Seq2[*Entry, error] { return nil }

// Under gives the entry at the path and all entries below it, in order. The
// empty path gives the whole root.
func (t *Table) Under(ctx context.Context, root, path string) iter.Seq2[*Entry, error] { return nil }

// From gives the entries from the given place on.
func (t *Table) From(ctx context.Context, root, path string) iter.Seq2[*Entry, error] { return nil }

// Lookup gives one entry. ErrNotFound if there is none.
func (t *Table) Lookup(ctx context.Context, root, path string) (*Entry, error) {
	return nil, errPending
}

// ComparePaths orders entries as the file table has them: by root, then by
// path with the slash before every other byte, so that a directory is followed
// by everything below it.
func ComparePaths(rootA, pathA, rootB, pathB string) int { return 0 }

// OpenContent opens a file for reading. The context serves for ReadAt.
func (r *Repository) OpenContent(ctx context.Context, c Content) (*File, error) {
	return nil, errPending
}

// File is stored content, open for reading by several goroutines.
type File struct{}

// Size is the length in bytes.
func (f *File) Size() int64 { return 0 }

// ReadAt implements io.ReaderAt. Only verified bytes are returned.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return 0, errPending }

// Segments gives data and holes in order.
func (f *File) Segments(ctx context.Context) iter.Seq2[Segment, error] { return nil }

// Each calls fn for all data, in order and holes left out. The slice is fn's
// only until it returns.
func (f *File) Each(ctx context.Context, fn func(offset int64, data []byte) error) error {
	return errPending
}

// Verify reads everything the content needs.
func (r *Repository) Verify(ctx context.Context, c Content) error { return errPending }

// Check looks for damage and calls f, if not nil, for each problem.
func (r *Repository) Check(ctx context.Context, o CheckOptions, f func(Problem)) (Report, error) {
	return Report{}, errPending
}
