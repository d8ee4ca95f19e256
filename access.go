package main

import (
	"errors"
	"net/http"

	"sluice/transport"
)

// access returns who may do what under these settings. It is the one place where rules are asked.
func access(c *Config) transport.Access {
	if c.Dev {
		return openAccess{}
	}
	return closedAccess{}
}

// errClosed is what callers are told as long as nobody has said who may do what.
var errClosed = errors.New("no rule lets you: start with --dev for an open development node, or configure access rules")

// openAccess lets everyone listen and publish. It is its own Grant.
type openAccess struct{}

func (a openAccess) Authorize(*http.Request) (transport.Grant, error) { return a, nil }
func (openAccess) Subscribe(string) error                             { return nil }
func (openAccess) Publish(string) error                               { return nil }
func (openAccess) Trace() error                                       { return nil }

// closedAccess lets nobody in.
type closedAccess struct{}

func (closedAccess) Authorize(*http.Request) (transport.Grant, error) { return nil, errClosed }
