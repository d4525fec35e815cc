package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/sombra-backup/sombra/repository/store"
)

// Options says how a bucket is reached.
type Options struct {
	// Transport carries the requests; nil means http.DefaultTransport. It
	// decides about proxies, limits and time limits.
	Transport http.RoundTripper
	// Getenv looks up the environment; nil means that there is none. The keys
	// are looked for where the service's own tools do, too, which look up the
	// process's environment.
	Getenv func(string) string
}

// Location is a URL taken apart.
type Location struct {
	// Bucket and Prefix tell where the objects are. Prefix is empty or ends
	// with a slash.
	Bucket, Prefix string
	// Endpoint is the service's scheme and host; empty means Amazon's.
	Endpoint *url.URL
	// Region is the bucket's; empty means that the service is asked.
	Region string
	// Lookup says whether the bucket is part of the host name or of the path.
	Lookup minio.BucketLookupType
	// Lock is for how long what is put is locked; zero means not at all.
	Lock time.Duration
	// Mode is how it is locked.
	Mode minio.RetentionMode
	// First says that of each object the version put first is read, and
	// nothing is changed.
	First bool
	// Unconditional says that the service is known not to keep If-None-Match.
	Unconditional bool
}

// MaxLock bounds the time for which objects are locked, so that a slip of the
// hand does not keep them for ever.
const MaxLock = 10 * 366 * 24 * time.Hour

// Parse reads a URL of the form
//
//	s3://bucket/prefix?endpoint=https://host:port&region=name
//
// with the parameters endpoint, region, lookup (auto, dns, path), lock (30d),
// lock_mode (governance, compliance), versions (first), conditional (no) and
// plaintext (yes). What the URL leaves out comes from AWS_ENDPOINT_URL_S3,
// AWS_ENDPOINT_URL, AWS_REGION and AWS_DEFAULT_REGION.
func Parse(u *url.URL, getenv func(string) string) (Location, error) {
	var l Location
	bucket, prefix, v, err := store.Bucket(u, "endpoint", "region", "lookup", "lock", "lock_mode", "versions", "conditional", "plaintext")
	if err != nil {
		return l, err
	}
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	l.Bucket, l.Prefix = bucket, prefix
	for _, step := range []func() error{
		func() error { return l.parseEndpoint(v, getenv) },
		func() error { return l.parseLock(v) },
		func() error { return l.parseRest(v) },
	} {
		if err := step(); err != nil {
			return l, store.Permanent(err)
		}
	}
	return l, nil
}

func (l *Location) parseEndpoint(v map[string]string, getenv func(string) string) error {
	endpoint, region := v["endpoint"], v["region"]
	from := "endpoint= in the URL"
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} {
		if endpoint == "" {
			endpoint, from = getenv(name), name
		}
	}
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if region == "" {
			region = getenv(name)
		}
	}
	if endpoint != "" {
		if !strings.Contains(endpoint, "://") {
			endpoint = "https://" + endpoint
		}
		e, err := store.Endpoint(endpoint, v["plaintext"] == "yes")
		if err == nil && strings.Trim(e.Path, "/") != "" {
			err = errors.New("the endpoint is not of the form https://host:port")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		l.Endpoint = e
		if region == "" {
			region = "us-east-1" // the name that services without regions take
		}
	}
	l.Region = region
	return nil
}

func (l *Location) parseLock(v map[string]string) error {
	if text := v["lock"]; text != "" {
		d, err := parsePeriod(text)
		if err != nil {
			return err
		}
		l.Lock, l.Mode = d, minio.Governance
	}
	switch mode := v["lock_mode"]; {
	case mode == "":
	case l.Lock == 0:
		return errors.New("lock_mode needs lock")
	case mode == "governance":
	case mode == "compliance":
		l.Mode = minio.Compliance
	default:
		return errors.New("lock_mode is neither governance nor compliance")
	}
	return nil
}

// parsePeriod reads a time in days (30d), or as Go writes it (36h).
func parsePeriod(text string) (time.Duration, error) {
	var d time.Duration
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errors.New("lock is not a time such as 30d")
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			return 0, errors.New("lock is not a time such as 30d or 36h")
		}
	}
	if d < time.Second || d > MaxLock {
		return 0, errors.New("lock is not between a second and ten years")
	}
	return d, nil
}

func (l *Location) parseRest(v map[string]string) error {
	switch v["lookup"] {
	case "", "auto":
	case "dns":
		l.Lookup = minio.BucketLookupDNS
	case "path":
		l.Lookup = minio.BucketLookupPath
	default:
		return errors.New("lookup is neither auto nor dns nor path")
	}
	for name, only := range map[string]string{"conditional": "no", "plaintext": "yes", "versions": "first"} {
		if v[name] != "" && v[name] != only {
			return fmt.Errorf("%s can only be %s", name, only)
		}
	}
	l.Unconditional = v["conditional"] == "no"
	l.First = v["versions"] == "first"
	return nil
}

// Open opens the bucket at a location. What it gives is a Locked if the location
// has a lock, a store that refuses changes if it asks for first versions, else a
// Store. Nothing is asked of the service yet.
func Open(ctx context.Context, l Location, o Options) (store.Store, error) {
	host, secure := "s3.amazonaws.com", true
	if l.Endpoint != nil {
		host, secure = l.Endpoint.Host, l.Endpoint.Scheme == "https"
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	creds, err := findCredentials(ctx, o)
	if err != nil {
		return nil, err
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds: creds, Secure: secure, Transport: store.Client(o.Transport).Transport, Region: l.Region, BucketLookup: l.Lookup,
		MaxRetries: 1, // whoever wants more wraps the store
	})
	if err != nil {
		return nil, store.Permanent(err)
	}
	s := &Store{core: *core, bucket: l.Bucket, prefix: l.Prefix, location: l, secure: secure}
	switch {
	case l.First:
		return newFirst(s), nil
	case l.Lock > 0:
		return Locked{s}, nil
	}
	return s, nil
}

// OpenURL is Parse and Open for a store.Registry.
func OpenURL(ctx context.Context, u *url.URL, o Options) (store.Store, error) {
	l, err := Parse(u, o.Getenv)
	if err != nil {
		return nil, err
	}
	return Open(ctx, l, o)
}

// The service that gives keys to machines is next door, or there is none: one
// request to it, and all that are made before the first use, may take so long.
const (
	credentialsRequest = 3 * time.Second
	credentialsSearch  = 8 * time.Second
)

// findCredentials looks for keys where the service's own tools do: the
// environment, ~/.aws/credentials (or AWS_SHARED_CREDENTIALS_FILE) with
// AWS_PROFILE, and the service that gives keys to machines.
func findCredentials(ctx context.Context, o Options) (*credentials.Credentials, error) {
	client := store.Client(o.Transport)
	client.Timeout = credentialsRequest
	providers := []credentials.Provider{&credentials.FileAWSCredentials{}, &credentials.IAM{Client: client}}
	if o.Getenv != nil {
		if id, secret := o.Getenv("AWS_ACCESS_KEY_ID"), o.Getenv("AWS_SECRET_ACCESS_KEY"); id != "" && secret != "" {
			return credentials.NewStaticV4(id, secret, o.Getenv("AWS_SESSION_TOKEN")), nil
		}
		if o.Getenv("AWS_EC2_METADATA_DISABLED") == "true" && o.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")+o.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")+o.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") == "" {
			providers = providers[:1]
		}
	}
	creds := credentials.NewChainCredentials(providers)
	search, cancel := context.WithTimeout(ctx, credentialsSearch)
	defer cancel()
	v, err := creds.GetWithContext(&credentials.CredContext{Client: client, Context: search})
	if err == nil && v.SignerType.IsAnonymous() {
		err = errors.New("none were found in the environment, in ~/.aws/credentials, or by the machine's role")
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, store.Permanent(fmt.Errorf("keys of the service: %w: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for one of ~/.aws/credentials", err))
	}
	return creds, nil
}
