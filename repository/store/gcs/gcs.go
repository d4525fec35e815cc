// Package gcs keeps the objects of a repository in a bucket of Google Cloud
// Storage, through its JSON interface.
//
// An object is put by one request that the service refuses if the name is taken
// (ifGenerationMatch=0), with an MD5 sum that it verifies; it is there whole and
// durably when the service answers.
package gcs

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/sombra-backup/sombra/repository/store"
)

// Options says how a bucket is reached.
type Options struct {
	// Transport carries the requests; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Getenv looks up STORAGE_EMULATOR_HOST; nil means that there is none. The
	// credentials are looked for where the service's own tools do.
	Getenv func(string) string
}

// Store keeps objects in one bucket, below a prefix. Use OpenURL.
type Store struct {
	client *http.Client
	base   string // the service's URL
	bucket string
	prefix string // "" or ends with a slash
}

// scope is the right that is asked for: objects, and not who may see them.
const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// OpenURL opens gs://bucket/prefix for a store.Registry. The credentials are the
// application default ones: GOOGLE_APPLICATION_CREDENTIALS, what gcloud keeps, or
// the machine's own. With STORAGE_EMULATOR_HOST there are none. The parameters
// are endpoint and plaintext (yes).
func OpenURL(ctx context.Context, u *url.URL, o Options) (store.Store, error) {
	bucket, prefix, v, err := store.Bucket(u, "endpoint", "plaintext")
	if err != nil {
		return nil, err
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	s := &Store{client: store.Client(o.Transport), base: "https://storage.googleapis.com", bucket: bucket, prefix: prefix}
	emulator := ""
	if o.Getenv != nil {
		emulator = o.Getenv("STORAGE_EMULATOR_HOST")
	}
	endpoint := v["endpoint"]
	if endpoint == "" && emulator != "" {
		if endpoint = emulator; !strings.Contains(endpoint, "://") {
			endpoint = "http://" + endpoint
		}
	}
	if endpoint != "" {
		e, err := store.Endpoint(endpoint, v["plaintext"] == "yes")
		if err != nil {
			return nil, err
		}
		s.base = strings.TrimRight(e.String(), "/")
	}
	if emulator != "" {
		return s, nil
	}
	// Tokens are fetched by the client that ctx holds, for as long as the
	// store is used, which may be longer than ctx is.
	ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, s.client)
	creds, err := google.FindDefaultCredentials(ctx, scope)
	if err != nil {
		return nil, store.Permanent(fmt.Errorf("credentials of the service: %w", err))
	}
	// A redirection followed would take the token along to wherever it leads.
	follow := s.client.CheckRedirect
	s.client = oauth2.NewClient(ctx, creds.TokenSource)
	s.client.CheckRedirect = follow
	return s, nil
}

// Concurrency implements store.Concurrent.
func (s *Store) Concurrency() int { return 4 }

// object is what the service says of one.
type object struct {
	Name string    `json:"name"`
	Size string    `json:"size"`
	Time time.Time `json:"timeCreated"`
}

func (o object) info(name string) (store.Info, error) {
	size, err := strconv.ParseInt(o.Size, 10, 64)
	if err != nil || size < 0 {
		return store.Info{}, store.Permanent(fmt.Errorf("the service says that %s has %q bytes", name, o.Size))
	}
	return store.Info{Name: name, Size: size, ModTime: o.Time}, nil
}

// objectURL is where an object is.
func (s *Store) objectURL(name, query string) string {
	return s.base + "/storage/v1/b/" + url.PathEscape(s.bucket) + "/o/" + url.PathEscape(s.prefix+name) + "?" + query
}

// boundary divides the parts of an upload; no pack holds it but by a chance
// smaller than any other.
const boundary = "sombra-7d1f0a52c94e4c0b8a64b7b3"

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	sum := md5.Sum(data)
	meta, err := json.Marshal(map[string]string{
		"name": s.prefix + name, "md5Hash": base64.StdEncoding.EncodeToString(sum[:]), "contentType": "application/octet-stream",
	})
	if err != nil {
		return err
	}
	head := "--" + boundary + "\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n" + string(meta) +
		"\r\n--" + boundary + "\r\nContent-Type: application/octet-stream\r\n\r\n"
	tail := "\r\n--" + boundary + "--\r\n"
	target := s.base + "/upload/storage/v1/b/" + url.PathEscape(s.bucket) + "/o?uploadType=multipart&ifGenerationMatch=0&fields=name"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, io.MultiReader(strings.NewReader(head), bytes.NewReader(data), strings.NewReader(tail)))
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(head) + len(data) + len(tail))
	req.Header.Set("Content-Type", "multipart/related; boundary="+boundary)
	resp, err := s.send(req, "put", name)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ReadAt implements store.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	if err := before(ctx, "read", name); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, store.Permanent(fmt.Errorf("read %s: negative offset %d", name, offset))
	}
	if len(p) == 0 {
		_, err := s.Stat(ctx, name)
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.objectURL(name, "alt=media"), nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(p))-1))
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := s.send(req, "read", name)
	if errors.Is(err, errPastEnd) {
		return 0, io.EOF
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	size, err := store.RangeSize(resp.Header.Get("Content-Range"), offset)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	want := p[:min(int64(len(p)), size-offset)]
	if n, err := io.ReadFull(resp.Body, want); err != nil {
		return n, wrap(ctx, "read", name, fmt.Errorf("%d of %d bytes came: %w", n, len(want), err))
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, name string) (store.Info, error) {
	if err := before(ctx, "stat", name); err != nil {
		return store.Info{}, err
	}
	var o object
	if err := s.get(ctx, "stat", name, s.objectURL(name, "fields=name,size,timeCreated"), &o); err != nil {
		return store.Info{}, err
	}
	return o.info(name)
}

// List implements store.Store. The names come in order. Those that no object of
// a repository can have are passed over.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	host := strings.TrimPrefix(strings.TrimPrefix(s.base, "https://"), "http://")
	ctx, watch := store.Watch(ctx, host, prefix)
	for token := ""; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		query := url.Values{"prefix": {s.prefix + prefix}, "maxResults": {"1000"}, "fields": {"items(name,size,timeCreated),nextPageToken"}}
		if token != "" {
			query.Set("pageToken", token)
		}
		var page struct {
			Items []object `json:"items"`
			Next  string   `json:"nextPageToken"`
		}
		if err := s.get(ctx, "list", prefix, s.base+"/storage/v1/b/"+url.PathEscape(s.bucket)+"/o?"+query.Encode(), &page); err != nil {
			return err
		}
		for _, o := range page.Items {
			if err := watch.Entry(o.Name); err != nil {
				return err
			}
			name, ok := strings.CutPrefix(o.Name, s.prefix)
			if !ok || !store.ValidName(name) {
				continue
			}
			info, err := o.info(name)
			if err == nil {
				err = f(info)
			}
			if err != nil {
				return err
			}
		}
		if page.Next == "" {
			return ctx.Err()
		}
		token = page.Next
	}
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.objectURL(name, ""), nil)
	if err != nil {
		return err
	}
	resp, err := s.send(req, "delete", name)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// maxAnswer bounds an answer that is no object: a page of a listing at most.
const maxAnswer = 8 << 20

// get reads an answer in JSON.
func (s *Store) get(ctx context.Context, op, name, target string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := s.send(req, op, name)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return wrap(ctx, op, name, fmt.Errorf("the answer cannot be read: %w", err))
	}
	return nil
}

// errPastEnd says that a range begins behind the object's end.
var errPastEnd = store.Permanent(errors.New("the range lies behind the end"))

// send makes a request. What the service refuses is an error with the meaning
// that store.Store defines.
func (s *Store) send(req *http.Request, op, name string) (*http.Response, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		var token *oauth2.RetrieveError
		if store.IsSetup(err) || errors.As(err, &token) && token.Response != nil && token.Response.StatusCode < 500 {
			err = store.Permanent(err)
		}
		return nil, wrap(req.Context(), op, name, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer) // the status says enough
	words := fmt.Errorf("%s (%s)", answer.Error.Message, resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound && (op == "list" || op == "put" || strings.Contains(answer.Error.Message, "bucket")):
		err = store.Permanent(fmt.Errorf("bucket %s: %w", s.bucket, words))
	case code == http.StatusNotFound:
		err = store.ErrNotExist
	case code == http.StatusPreconditionFailed:
		err = store.ErrExist
	case code == http.StatusRequestedRangeNotSatisfiable:
		err = errPastEnd
	case op == "delete" && code == http.StatusForbidden:
		err = fmt.Errorf("%w: %w", store.ErrLocked, words)
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code == http.StatusConflict || code >= 500:
		err = words
	default:
		err = store.Permanent(words)
	}
	return nil, wrap(req.Context(), op, name, err)
}

// wrap names operation and object.
func wrap(ctx context.Context, op, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// before makes the tests common to all methods that name an object.
func before(ctx context.Context, op, name string) error {
	if err := store.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return ctx.Err()
}
