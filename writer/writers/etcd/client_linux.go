package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// maxAnswer bounds a server's answer, in bytes.
const maxAnswer = 1 << 20

// askLimit is how long one question may take.
const askLimit = 5 * time.Second

// ask asks a server one question over the places it listens on for clients, the
// first that answers. Only this machine is spoken to, so that its certificate is not
// looked at; nothing secret is said.
func ask(ctx context.Context, c command, path string, out any) error {
	list := c.option("listen-client-urls")
	if list == "" {
		list = "http://localhost:2379"
	}
	var errs []error
	for text := range strings.SplitSeq(list, ",") {
		err := askOne(ctx, c, strings.TrimSpace(text), path, out)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func askOne(ctx context.Context, c command, text, path string, out any) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	network, address, err := reach(c, u)
	if err != nil {
		return fmt.Errorf("ask %s: %w", text, err)
	}
	scheme := "http"
	if u.Scheme == "https" || u.Scheme == "unixs" {
		scheme = "https"
	}
	client := http.Client{Timeout: askLimit, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}}
	method, body := http.MethodGet, []byte(nil)
	if strings.HasPrefix(path, "/v3/") {
		method, body = http.MethodPost, []byte("{}")
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+"://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", text, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err == nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		return fmt.Errorf("ask %s for %s: %w", text, path, err)
	}
	return nil
}

// reach is how a client of this machine gets to where a server listens.
func reach(c command, u *url.URL) (network, address string, err error) {
	switch u.Scheme {
	case "unix", "unixs":
		path := u.Host + u.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(c.Dir, path)
		}
		return "unix", path, nil
	case "http", "https":
	default:
		return "", "", fmt.Errorf("it has no scheme that is known")
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return "", "", err
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// members is how many members the server's cluster has; 0 if that cannot be found
// out, as where it wants certificates of its clients.
func members(ctx context.Context, c command) int {
	var a struct {
		Members []struct{} `json:"members"`
	}
	if err := ask(ctx, c, "/v3/cluster/member/list", &a); err != nil {
		return 0
	}
	return len(a.Members)
}

// healthy reports whether a server answers reads and writes.
func healthy(ctx context.Context, c command) error {
	var a struct {
		Health string `json:"health"`
	}
	if err := ask(ctx, c, "/health", &a); err != nil {
		return err
	}
	if a.Health != "true" {
		return fmt.Errorf("it says that its health is %.20q", a.Health)
	}
	return nil
}
