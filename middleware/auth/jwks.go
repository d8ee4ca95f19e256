package auth

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of fetches of a JWK set.
const (
	fetchTimeout = 5 * time.Second // of the whole of one
	fetchBytes   = 1 << 20         // of the body
	fetchHeader  = 64 << 10
	firstRetry   = time.Second // after a first failure; twice that after the next, up to RefreshMin
)

// jwks is a JWK set from elsewhere, which one goroutine, run, keeps fresh. A set that can't be read changes nothing: the last one
// that could is good until it is too old.
//
// Whoever needs a key that is not in it joins the fetch that is under way, or asks for one if the last went well and was long
// enough ago. So what strangers put into tokens costs one fetch in RefreshMin, whatever their number.
type jwks struct {
	url               string
	every, min, stale time.Duration
	client            *http.Client
	log               *slog.Logger
	ask               chan struct{} // a round was begun by somebody who waits for it

	set atomic.Pointer[keySet] // the last that could be read; nil: none yet

	// Owned by run.
	failures int            // in a row
	skipped  map[error]bool // why keys were left out: what was logged

	mu    sync.Mutex
	round chan struct{} // closed when the fetch that is under way or was asked for has ended; nil: none is
	began time.Time     // the last fetch
	due   time.Time     // the next
	err   error         // of the last fetch
	since time.Time     // when the first in a row of failures was
}

// keySet is what was read at one time. It is immutable.
type keySet struct {
	keys []*key
	read time.Time
}

// newJWKS returns a set that is still to be read. The error is the end of a sentence.
func newJWKS(c *TokensConfig) (*jwks, error) {
	u, err := url.Parse(c.JWKS)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("it is no URL; write it like https://issuer.example/.well-known/jwks.json")
	case u.User != nil:
		return nil, errors.New("it has a user in it; a set of public keys needs none")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("keys are taken by https only, but from this machine: who is in between could send others")
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DisableCompression:     true, // what comes is as large as it seems
		DisableKeepAlives:      true, // the next one is minutes away
		MaxResponseHeaderBytes: fetchHeader,
	}
	return &jwks{
		url:   c.JWKS,
		every: c.RefreshEvery,
		min:   c.RefreshMin,
		stale: c.MaxStale,
		client: &http.Client{
			Transport: t,
			Timeout:   fetchTimeout,
			// Keys come from where the operator has said.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		log:     c.Log,
		ask:     make(chan struct{}, 1),
		skipped: map[error]bool{},
		round:   make(chan struct{}), // the first is to come
	}, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// run fetches the set now, when it is due, and when somebody asks, until ctx ends.
func (j *jwks) run(ctx context.Context) {
	for ctx.Err() == nil {
		j.begin()
		set, maxAge, err := j.fetch(ctx)
		j.end(ctx, set, maxAge, err)
		j.mu.Lock()
		wait := time.NewTimer(time.Until(j.due))
		j.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-j.ask:
		case <-wait.C:
		}
		wait.Stop()
	}
}

func (j *jwks) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.began = time.Now()
	if j.round == nil {
		j.round = make(chan struct{})
	}
	select {
	case <-j.ask: // whoever asked just now has what they wanted
	default:
	}
}

// end takes what a fetch has brought, and wakes those who wait for it.
func (j *jwks) end(ctx context.Context, set *keySet, maxAge time.Duration, err error) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		err = errStopped
	case err == nil:
		if j.err != nil {
			j.log.Info("the JWK set can be read again", "keys", len(set.keys))
		}
		j.set.Store(set)
		j.failures, j.since = 0, time.Time{}
		wait := max(j.min, min(maxAge, j.every))
		j.due = now.Add(jittered(wait, min(wait/10, wait-j.min)))
	default:
		if j.err == nil {
			j.since = now
		}
		if j.err == nil || j.err.Error() != err.Error() { // not once for each try
			j.log.Warn("the JWK set can't be read", "error", err)
		}
		wait := min(firstRetry<<min(j.failures, 16), j.min)
		j.failures++
		j.due = now.Add(jittered(wait, wait/2))
	}
	j.err = err
	close(j.round)
	j.round = nil
}

// first returns the keys, after the first fetch if that is under way.
func (j *jwks) first(ctx context.Context) ([]*key, error) {
	if j.set.Load() == nil {
		if err := j.join(ctx, nil); err != nil {
			return nil, err
		}
	}
	return j.fresh()
}

// fresh returns the keys if they were read, and not too long ago.
func (j *jwks) fresh() ([]*key, error) {
	set := j.set.Load()
	if set == nil || time.Since(set.read) > j.stale {
		return nil, j.unavailable()
	}
	return set.keys, nil
}

// find returns the key with an ID; nil: there is none. It is not known until the set could be read.
func (j *jwks) find(ctx context.Context, id string) (*key, error) {
	keys, err := j.first(ctx)
	if err != nil {
		return nil, err
	}
	if k := pick(keys, id); k != nil {
		return k, nil
	}
	if err := j.join(ctx, j.set.Load()); err != nil {
		return nil, err
	}
	if keys, err = j.fresh(); err != nil {
		return nil, err
	}
	return pick(keys, id), nil
}

// join waits for a fetch for somebody who has seen a set and did not find enough in it. There is nothing to wait for if another
// set is there by now, or if the last one was fetched just before. It is an error if that can't be known.
func (j *jwks) join(ctx context.Context, seen *keySet) error {
	j.mu.Lock()
	if j.err != nil { // run tries again by itself; nobody is kept waiting for that
		j.mu.Unlock()
		return j.unavailable()
	}
	if j.set.Load() != seen {
		j.mu.Unlock()
		return nil
	}
	if j.round == nil && time.Since(j.began) >= j.min {
		j.round = make(chan struct{})
		j.ask <- struct{}{} // has room: of those who find no round one makes it
	}
	round := j.round
	j.mu.Unlock()
	if round == nil {
		return nil
	}
	limit := time.NewTimer(fetchTimeout)
	defer limit.Stop()
	select {
	case <-round:
	case <-ctx.Done():
		return j.unavailable()
	case <-limit.C:
		return j.unavailable()
	}
	j.mu.Lock()
	failed := j.err != nil
	j.mu.Unlock()
	if failed {
		return j.unavailable()
	}
	return nil
}

// unavailable returns the refusal of tokens whose key can't be known now.
func (j *jwks) unavailable() *Error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &Error{
		Code:   Unavailable,
		Detail: "the keys that tokens are checked with can't be read now; try again",
		Retry:  max(time.Second, time.Until(j.due).Round(time.Second)),
	}
}

// status says what is wrong; "": nothing.
func (j *jwks) status() string {
	set := j.set.Load()
	j.mu.Lock()
	defer j.mu.Unlock()
	var plain *fetchError
	reason := "it is being read"
	if errors.As(j.err, &plain) {
		reason = plain.reason
	}
	switch {
	case set == nil:
		return "the JWK set was not read yet: " + reason
	case time.Since(set.read) > j.stale:
		return "the JWK set is too old, and its tokens are refused, since " + stamp(set.read.Add(j.stale)) + ": " + reason
	case j.err != nil:
		return "the JWK set is stale since " + stamp(j.since) + ": " + reason
	}
	return ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
