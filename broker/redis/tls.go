package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

var (
	errURL   = errors.New("the URL can't be understood")
	errNoTLS = errors.New("certificates are given and the URL is not rediss://")
)

// parseURL is goredis.ParseURL with errors that anybody may see: a password with a character that has to be escaped
// ends up in any part of the URL, and so in any error about it.
func parseURL(s string) (*goredis.Options, error) {
	u, err := url.Parse(s)
	if err != nil || strings.Contains(u.Host+u.Opaque+u.Path+u.RawQuery+u.Fragment, "@") {
		return nil, errURL
	}
	o, err := goredis.ParseURL(s)
	if err != nil {
		return nil, fmt.Errorf("redis URL: %w", err)
	}
	return o, nil
}

// secure puts the certificates of c into a connection's TLS settings; nil: it has none.
func (c *Config) secure(t *tls.Config) error {
	if c.CAFile+c.CertFile+c.KeyFile == "" {
		return nil
	}
	if t == nil {
		return errNoTLS
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return fmt.Errorf("read CA certificates: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read CA certificates: %s has none in PEM", c.CAFile)
		}
	}
	if c.CertFile+c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return fmt.Errorf("read client certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return nil
}
