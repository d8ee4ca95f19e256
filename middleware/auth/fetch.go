package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// fetchError is why a JWK set could not be had.
type fetchError struct {
	reason string // in plain words, without names or addresses: it is shown to whoever asks if the node is ready
	err    error  // for the log; nil: there is no more to say
}

func (e *fetchError) Error() string {
	if e.err == nil {
		return e.reason
	}
	return e.reason + ": " + e.err.Error()
}

func (e *fetchError) Unwrap() error { return e.err }

// errStopped is what those are told who wait for a fetch when the node stops.
var errStopped = &fetchError{reason: "the node stops"}

// fetch reads the set once. maxAge is what the answer allows to keep it for, and RefreshEvery where it doesn't say.
func (j *jwks) fetch(ctx context.Context) (set *keySet, maxAge time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, 0, &fetchError{"it can't be asked for", err}
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("Accept-Encoding", "identity")
	res, err := j.client.Do(req)
	if err != nil {
		return nil, 0, unreachable(err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return nil, 0, &fetchError{reason: "it is elsewhere, and redirects are not followed; configure where it is"}
	case res.StatusCode != http.StatusOK:
		return nil, 0, &fetchError{reason: "it is answered with status " + strconv.Itoa(res.StatusCode)}
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, fetchBytes+1))
	switch {
	case err != nil:
		return nil, 0, unreachable(err)
	case len(text) > fetchBytes:
		return nil, 0, &fetchError{reason: fmt.Sprintf("it is larger than %d bytes", fetchBytes)}
	}
	var before []*key
	if last := j.set.Load(); last != nil {
		before = last.keys
	}
	keys, err := readRemote(text, before, j.skip)
	if err != nil {
		return nil, 0, &fetchError{reason: err.Error()}
	}
	return &keySet{keys, time.Now()}, maxAgeOf(res.Header, j.every), nil
}

// skip logs why a key is left out, once for each reason.
func (j *jwks) skip(why error) {
	if !j.skipped[why] {
		j.skipped[why] = true
		j.log.Warn("a key of the JWK set is not used", "reason", why)
	}
}

// unreachable words a fetch that did not come to its end. What net/http says has the URL in it, and the operator knows that.
func unreachable(err error) *fetchError {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var wait net.Error
	if errors.As(err, &wait) && wait.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return &fetchError{reason: "it does not come in time"}
	}
	return &fetchError{"it can't be reached", err}
}

// maxAgeOf reads the max-age of Cache-Control (RFC 9111 §5.2.2.1). Other directives are about caches, which this is not.
func maxAgeOf(h http.Header, otherwise time.Duration) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if s, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
			return time.Duration(s) * time.Second
		}
	}
	return otherwise
}

// jittered takes up to most from d, so that nodes that began together don't come together.
func jittered(d, most time.Duration) time.Duration { return d - rand.N(most+1) }
