// Package azblob keeps the objects of a repository in a container of Azure Blob
// Storage.
//
// An object is put by one request that the service refuses if the name is taken
// (If-None-Match: *), with an MD5 sum that it verifies; it is there whole and
// durably when the service answers.
package azblob

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/sombra-backup/sombra/repository/store"
)

// Options says how a container is reached.
type Options struct {
	// Transport carries the requests; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Getenv looks up the environment, in which the account and its key or
	// signature are.
	Getenv func(string) string
}

// Store keeps objects in one container, below a prefix. Use OpenURL.
type Store struct {
	client *container.Client
	prefix string // "" or ends with a slash
}

// OpenURL opens azblob://container/prefix for a store.Registry. Account and key
// come from AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or
// AZURE_STORAGE_SAS_TOKEN, or from AZURE_STORAGE_CONNECTION_STRING. The
// parameters are account, endpoint and plaintext (yes).
func OpenURL(_ context.Context, u *url.URL, o Options) (store.Store, error) {
	name, prefix, v, err := store.Bucket(u, "account", "endpoint", "plaintext")
	if err != nil {
		return nil, err
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	client, err := connect(name, v, o)
	if err != nil {
		return nil, store.Permanent(err)
	}
	return &Store{client: client, prefix: prefix}, nil
}

// connect makes the client. It asks nothing of the service yet.
func connect(name string, v map[string]string, o Options) (*container.Client, error) {
	options := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: store.Client(o.Transport),
		// Whoever wants more tries wraps the store.
		Retry: policy.RetryOptions{MaxRetries: -1},
	}}
	account, key, sas := v["account"], o.Getenv("AZURE_STORAGE_KEY"), o.Getenv("AZURE_STORAGE_SAS_TOKEN")
	if account == "" {
		account = o.Getenv("AZURE_STORAGE_ACCOUNT")
	}
	if text := o.Getenv("AZURE_STORAGE_CONNECTION_STRING"); account == "" && text != "" {
		client, err := container.NewClientFromConnectionString(text, name, options)
		if err != nil {
			return nil, errors.New("AZURE_STORAGE_CONNECTION_STRING is not a connection string")
		}
		_, err = store.Endpoint(strings.SplitN(client.URL(), "?", 2)[0], v["plaintext"] == "yes")
		return client, err
	}
	if account == "" {
		return nil, errors.New("the account is not named: set AZURE_STORAGE_ACCOUNT, or AZURE_STORAGE_CONNECTION_STRING")
	}
	base := "https://" + account + ".blob.core.windows.net"
	if v["endpoint"] != "" {
		e, err := store.Endpoint(v["endpoint"], v["plaintext"] == "yes")
		if err != nil {
			return nil, err
		}
		base = strings.TrimRight(e.String(), "/")
	}
	base += "/" + name
	switch {
	case key != "":
		cred, err := container.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, errors.New("AZURE_STORAGE_KEY is not a key of an account")
		}
		return container.NewClientWithSharedKeyCredential(base, cred, options)
	case sas != "":
		return container.NewClientWithNoCredential(base+"?"+strings.TrimPrefix(sas, "?"), options)
	}
	return nil, errors.New("there is neither a key nor a signature: set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN")
}

// Concurrency implements store.Concurrent.
func (s *Store) Concurrency() int { return 4 }

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	sum := md5.Sum(data)
	any := azcore.ETagAny
	_, err := s.client.NewBlockBlobClient(s.prefix+name).Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), &blockblob.UploadOptions{
		AccessConditions:        &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &any}},
		TransactionalValidation: blob.TransferValidationTypeMD5(sum[:]),
	})
	return fail(ctx, "put", name, err)
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
	resp, err := s.client.NewBlobClient(s.prefix+name).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: int64(len(p))}})
	if bloberror.HasCode(err, bloberror.InvalidRange) {
		return 0, io.EOF
	}
	if err != nil {
		return 0, fail(ctx, "read", name, err)
	}
	defer resp.Body.Close()
	header := ""
	if resp.ContentRange != nil {
		header = *resp.ContentRange
	}
	size, err := store.RangeSize(header, offset)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	want := p[:min(int64(len(p)), size-offset)]
	if n, err := io.ReadFull(resp.Body, want); err != nil {
		return n, fail(ctx, "read", name, fmt.Errorf("%d of %d bytes came: %w", n, len(want), err))
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
	p, err := s.client.NewBlobClient(s.prefix+name).GetProperties(ctx, nil)
	if err != nil {
		return store.Info{}, fail(ctx, "stat", name, err)
	}
	if p.ContentLength == nil || p.LastModified == nil {
		return store.Info{}, store.Permanent(fmt.Errorf("stat %s: the service tells neither size nor time", name))
	}
	return store.Info{Name: name, Size: *p.ContentLength, ModTime: *p.LastModified}, nil
}

// List implements store.Store. The names come in order. Those that no object of
// a repository can have are passed over.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	full := s.prefix + prefix
	host := "of Azure"
	if u, err := url.Parse(s.client.URL()); err == nil {
		host = u.Host
	}
	ctx, watch := store.Watch(ctx, host, prefix)
	for pager := s.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &full}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return fail(ctx, "list", prefix, err)
		}
		if page.Segment == nil {
			continue
		}
		for _, item := range page.Segment.BlobItems {
			if item.Name != nil {
				if err := watch.Entry(*item.Name); err != nil {
					return err
				}
			}
			if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil || item.Properties.LastModified == nil {
				continue
			}
			name, ok := strings.CutPrefix(*item.Name, s.prefix)
			if !ok || !store.ValidName(name) {
				continue
			}
			if err := f(store.Info{Name: name, Size: *item.Properties.ContentLength, ModTime: *item.Properties.LastModified}); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	_, err := s.client.NewBlobClient(s.prefix+name).Delete(ctx, nil)
	return fail(ctx, "delete", name, err)
}

// fail gives an error of the service the meaning that store.Store defines.
func fail(ctx context.Context, op, name string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var r *azcore.ResponseError
	if !errors.As(err, &r) {
		setup := store.IsSetup(err)
		if setup {
			err = store.Permanent(err)
		}
		// A request's URL may hold a signature, which is a secret.
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err
			if setup {
				err = store.Permanent(err)
			}
		}
		return fmt.Errorf("%s %s: %w", op, name, err)
	}
	words := fmt.Errorf("the service answers %d %s", r.StatusCode, r.ErrorCode)
	switch code := r.StatusCode; {
	case r.ErrorCode == string(bloberror.ContainerNotFound):
		err = store.Permanent(words)
	case code == http.StatusNotFound:
		err = store.ErrNotExist
	case op == "put" && (code == http.StatusPreconditionFailed || r.ErrorCode == string(bloberror.BlobAlreadyExists)):
		err = store.ErrExist
	case op == "delete" && (code == http.StatusForbidden || code == http.StatusConflict):
		err = fmt.Errorf("%w: %w", store.ErrLocked, words)
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code == http.StatusConflict || code >= 500:
		err = words
	default:
		err = store.Permanent(words)
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
