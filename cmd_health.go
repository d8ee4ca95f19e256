package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// healthTimeout bounds one health check; a container's own limit should be above it.
const healthTimeout = 3 * time.Second

func healthCommand() *command {
	flags := newFlags("health")
	addSettings(flags)
	base := flags.String("url", "", "ask the node at this `URL`, such as https://127.0.0.1:8080; by default the one that the settings describe")
	return &command{"health", "[SETTINGS]", "ask the node on this machine if it is alive; exit 0 or 1", flags,
		func(ctx context.Context, t *terminal, args []string) error {
			if len(args) > 0 {
				return usagef("sluice health takes no arguments; remove %q", args[0])
			}
			if *base == "" {
				l, err := load(flags, t.env)
				if err != nil {
					return err
				}
				if *base, err = localURL(&l.Config); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(ctx, healthTimeout)
			defer cancel()
			return checkHealth(ctx, *base)
		}}
}

// localURL returns where a node with these settings is reached from its own machine.
func localURL(c *Config) (string, error) {
	host, port, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		return "", err
	case port == "0":
		return "", errors.New("listen has port 0, which is another one at each start; say where the node is by --url")
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() && ip.To4() != nil {
		host = "127.0.0.1"
	} else if ip.IsUnspecified() {
		host = "::1"
	}
	scheme := "http"
	if c.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}

func checkHealth(ctx context.Context, base string) error {
	u, err := parseBase(base)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport: &http.Transport{
			// Certificates are for the public name, never for loopback, where nobody is in between.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: isLoopback(u.Hostname())},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("healthz").String(), nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return unreachable(base, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // what arrived is good enough for a message
		return fmt.Errorf("%s is not well: %s %s", base, res.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// parseBase reads the URL of a node.
func parseBase(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usagef("--url %q is not the URL of a node; write it like http://127.0.0.1:8080", base)
	}
	return u, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// unreachable words a request that got no answer, without the noise of net/http and net.
func unreachable(base string, err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		err = op.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return fmt.Errorf("can't reach %s: %w", base, err)
}
