package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// WebhookConfig is where and how a backend is asked. Fields that are zero are those of DefaultWebhookConfig.
type WebhookConfig struct {
	URL     string        // https; http only on this machine: questions have credentials in them, and answers give rights
	Secret  string        // signs the questions (docs/security.md); at least 32 bytes, or "": they are not signed
	Timeout time.Duration // of one answer, and of the wait for a place among those in flight; default 2 s, 10 ms to 1 min
	Cache   time.Duration // how long an answer that allows is used again for the same question; default 0: not at all, at most 24 h
	Stale   time.Duration // how old it may be to be used when the webhook is away; default 0: not at all, at most 24 h

	MaxInFlight int      // questions at once; default 64, at most 10,000
	Headers     []string // of the caller's request that the backend is told; default Authorization and Cookie
	Log         *slog.Logger
}

// DefaultWebhookConfig returns the defaults.
func DefaultWebhookConfig() WebhookConfig {
	return WebhookConfig{
		Timeout: 2 * time.Second, MaxInFlight: 64, Headers: []string{"Authorization", "Cookie"},
		Log: slog.New(slog.DiscardHandler),
	}
}

const (
	minWebhookSecret = 32       // bytes
	maxAnswer        = 64 << 10 // bytes of an answer
	waitingPer       = 32       // questions that may wait for each place in flight
	breakAfter       = 5        // failures in a row until nobody is asked for a while
	breakFor         = time.Second
	webhookQuiet     = 10 * time.Second // how long no failure must have been until it is logged that all is well
)

// Webhook asks a backend who may connect and subscribe. What it can't decide it refuses: without a well-formed answer that
// allows there is no Decision. All methods may be called concurrently.
//
// Equal questions at the same time are one request. A webhook that does not answer is left alone for a second after five failures
// in a row, then asked one question; until that is answered callers are refused at once.
type Webhook struct {
	url     string
	secret  []byte
	timeout time.Duration
	headers []string
	log     *slog.Logger
	client  *http.Client
	breaker *gobreaker.CircuitBreaker[*answer]
	places  chan struct{} // one for each question in flight
	memory  *memory

	// Life. Questions belong to the webhook: they outlast the caller who asked first, because others may wait for the same.
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // added to under mu, while not closed

	waiting, inFlight            atomic.Int64
	asked, answered, failed      atomic.Int64
	cached, stale                atomic.Int64
	allowed, denied, unavailable atomic.Int64

	health health
}

// WebhookStats are counts since the start, and two readings.
type WebhookStats struct {
	Asked       int64 // requests to the backend
	Answered    int64 // of these: an answer that can be used
	Failed      int64 // of these: no answer, or none that can be used
	Allowed     int64 // callers, however it was known
	Denied      int64 // callers whom the backend refused
	Unavailable int64 // callers who were refused because there was no answer
	Cached      int64 // callers with a kept answer
	Stale       int64 // callers with an answer that is older than that because the backend was away
	InFlight    int64 // requests at the moment
	Waiting     int64 // questions at the moment that wait for a place in flight
}

// NewWebhook returns a Webhook; Close must be called. Its errors are ends of sentences for the operator.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	w := &Webhook{
		url: cfg.URL, secret: []byte(cfg.Secret), timeout: cfg.Timeout, headers: cfg.Headers, log: cfg.Log,
		places: make(chan struct{}, cfg.MaxInFlight),
		memory: newMemory(cfg.Cache, cfg.Stale),
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				DialContext:            (&net.Dialer{Timeout: cfg.Timeout, KeepAlive: 15 * time.Second}).DialContext,
				ForceAttemptHTTP2:      true,
				TLSHandshakeTimeout:    cfg.Timeout,
				MaxIdleConnsPerHost:    cfg.MaxInFlight,
				MaxConnsPerHost:        cfg.MaxInFlight,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: 16 << 10,
				DisableCompression:     true, // a small body could be a huge answer
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // credentials go nowhere else
		},
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.breaker = gobreaker.NewCircuitBreaker[*answer](gobreaker.Settings{
		Timeout:      breakFor,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakAfter },
		IsSuccessful: func(err error) bool { f, is := errors.AsType[*failure](err); return !is || !f.slow },
		IsExcluded:   func(error) bool { return w.ctx.Err() != nil },
	})
	return w, nil
}

// fill puts defaults into zero fields and checks the others.
func (c *WebhookConfig) fill() error {
	d := DefaultWebhookConfig()
	c.Timeout = cmp.Or(c.Timeout, d.Timeout)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, d.MaxInFlight)
	c.Log = cmp.Or(c.Log, d.Log)
	if len(c.Headers) == 0 {
		c.Headers = d.Headers
	}
	c.Headers = slices.Clone(c.Headers)
	for i, h := range c.Headers {
		c.Headers[i] = http.CanonicalHeaderKey(h)
	}
	switch {
	case c.Secret != "" && len(c.Secret) < minWebhookSecret:
		return fmt.Errorf("its secret is shorter than %d bytes; draw a longer one", minWebhookSecret)
	case c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute:
		return errors.New("its timeout is not between 10ms and 1m")
	case c.Cache < 0 || c.Cache > 24*time.Hour:
		return errors.New("its answers can't be kept for less than nothing or more than 24h")
	case c.Stale < 0 || c.Stale > 24*time.Hour:
		return errors.New("its old answers can't be used for less than nothing or more than 24h")
	case c.MaxInFlight < 1 || c.MaxInFlight > 10_000:
		return errors.New("its questions in flight are not between 1 and 10000")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http": // err could have a password in it
		return errors.New("its URL is not one; write it like https://auth.example/sluice")
	case u.User != nil || u.Fragment != "":
		return errors.New("its URL has a user or a fragment in it; questions are signed with a secret")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("it is asked by https only, but on this machine: who is in between could read credentials, and answer")
	}
	return nil
}

// Close ends questions that are not answered yet, whose callers are refused, and waits for them. Later callers are refused too.
func (w *Webhook) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.running.Wait()
	w.client.CloseIdleConnections()
}

// Connect asks whether c may connect. Its error is an *Error: Unauthorized, Forbidden or, when that can't be found out,
// Unavailable. It takes twice the Timeout at most.
//
// What the answer does not mention is zero in the Decision, and its ID and Issued always are.
func (w *Webhook) Connect(ctx context.Context, c *Caller) (*Decision, error) {
	a, err := w.ask(ctx, w.question("connect", c, nil))
	if err != nil {
		return nil, err
	}
	return a.decision(), nil
}

// Subscribe asks to which of the channels c may listen. Its errors are those of Connect; a Decision may have fewer channels than
// were asked for, or none. Nobody is asked about no channels.
func (w *Webhook) Subscribe(ctx context.Context, c *Caller, channels []string) (*Decision, error) {
	if len(channels) == 0 {
		return &Decision{}, nil
	}
	a, err := w.ask(ctx, w.question("subscribe", c, channels))
	if err != nil {
		return nil, err
	}
	d := a.decision()
	for _, ch := range channels {
		if _, may := slices.BinarySearch(a.channels, ch); may {
			d.Channels = append(d.Channels, ch)
		}
	}
	return d, nil
}

// pick returns the headers that the backend is told.
func (w *Webhook) pick(header map[string][]string) map[string][]string {
	picked := make(map[string][]string, len(w.headers))
	for _, h := range w.headers {
		if v := header[h]; len(v) > 0 {
			picked[h] = v
		}
	}
	return picked
}

// Stats returns what was counted.
func (w *Webhook) Stats() WebhookStats {
	return WebhookStats{
		Asked: w.asked.Load(), Answered: w.answered.Load(), Failed: w.failed.Load(), Allowed: w.allowed.Load(), Denied: w.denied.Load(),
		Unavailable: w.unavailable.Load(), Cached: w.cached.Load(), Stale: w.stale.Load(),
		InFlight: w.inFlight.Load(), Waiting: w.waiting.Load(),
	}
}

// Status returns "", or a sentence for readyz when the webhook is left alone because it does not answer.
func (w *Webhook) Status() string {
	if w.breaker.State() == gobreaker.StateClosed {
		return ""
	}
	return "the authorization webhook does not answer; callers without a kept answer are refused"
}

// ask returns an answer that allows.
func (w *Webhook) ask(ctx context.Context, q *question) (*answer, error) {
	a, err := w.recall(ctx, q)
	switch {
	case err != nil:
		w.unavailable.Add(1)
		return nil, err
	case a.refusal != nil:
		w.denied.Add(1)
		return nil, a.refusal
	}
	w.allowed.Add(1)
	return a, nil
}

// recall returns a kept answer, or waits for the request that asks, which may be another caller's.
func (w *Webhook) recall(ctx context.Context, q *question) (*answer, error) {
	body := q.encode()
	k := sha256.Sum256(body)
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil, errUndecided
	}
	if a := w.memory.fresh(k, time.Now()); a != nil {
		w.mu.Unlock()
		w.cached.Add(1)
		return a, nil
	}
	f := w.memory.flights[k]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		w.memory.flights[k] = f
		w.running.Go(func() { w.fly(f, k, q, body) })
	}
	w.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, errUndecided
	}
	switch {
	case f.answer == nil:
		return nil, errUndecided
	case f.stale:
		w.stale.Add(1)
	}
	return f.answer, nil
}

// errUndecided is what callers are told when there is no answer. The reasons are the operator's.
var errUndecided = &Error{Code: Unavailable, Detail: "it can't be decided at the moment who may do this; try again", Retry: breakFor}

// fly asks, keeps the answer and gives it to all who wait for it.
func (w *Webhook) fly(f *flight, k questionKey, q *question, body []byte) {
	a, err := w.place(q, body)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.memory.flights, k)
	switch bad, is := errors.AsType[*failure](err); {
	case err == nil:
		w.health.answered(w.log)
		w.memory.keep(k, a)
	case w.ctx.Err() != nil: // closed
	default:
		w.health.failed(w.log, err)
		if !is || bad.away {
			a = w.memory.old(k, time.Now())
			f.stale = a != nil
		}
	}
	f.answer = a
	close(f.done)
}

// errBusy means that more questions than may wait wait already, or that this one has waited for too long.
var errBusy = errors.New("too many questions are in flight")

// place waits for a place in flight and asks. The wait is not part of the time to answer: a backend that is slow would be
// sent requests that nobody waits for any more.
func (w *Webhook) place(q *question, body []byte) (*answer, error) {
	select {
	case w.places <- struct{}{}:
	default:
		defer w.waiting.Add(-1)
		if w.waiting.Add(1) > int64(waitingPer*cap(w.places)) {
			return nil, errBusy
		}
		timeout := time.NewTimer(w.timeout)
		defer timeout.Stop()
		select {
		case w.places <- struct{}{}:
		case <-timeout.C:
			return nil, errBusy
		case <-w.ctx.Done():
			return nil, w.ctx.Err()
		}
	}
	defer func() { <-w.places }()
	return w.breaker.Execute(func() (*answer, error) { return w.post(q, body) })
}

// failure is why there is no answer that can be used.
type failure struct {
	err  error
	away bool // nobody answers, so an old answer may do
	slow bool // and asking costs time, or the backend asks to be left alone
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// post makes one request.
func (w *Webhook) post(q *question, body []byte) (*answer, error) {
	w.asked.Add(1)
	w.inFlight.Add(1)
	defer w.inFlight.Add(-1)
	a, err := w.roundTrip(q, body)
	switch {
	case err == nil:
		w.answered.Add(1)
	case w.ctx.Err() == nil:
		w.failed.Add(1)
	}
	return a, err
}

func (w *Webhook) roundTrip(q *question, body []byte) (*answer, error) {
	ctx, cancel := context.WithTimeout(w.ctx, w.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, &failure{err: errors.New("its URL can't be asked")}
	}
	now := time.Now()
	r.Header = http.Header{
		"Content-Type":    {"application/json"},
		"Accept":          {"application/json"},
		"User-Agent":      {"Sluice"},
		"Idempotency-Key": nil, // is not sent; net/http asks again when it finds that a kept connection was closed
	}
	if len(w.secret) > 0 {
		r.Header.Set("Sluice-Signature", signature(w.secret, now, body))
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, unanswered(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, unanswered(err)
	}
	return readAnswer(resp.StatusCode, text, q, now)
}

// unanswered leaves out the URL, which may have a secret in its query.
func unanswered(err error) *failure {
	if u, is := errors.AsType[*url.Error](err); is {
		err = u.Err
	}
	return &failure{err: fmt.Errorf("it does not answer: %w", err), away: true, slow: true}
}

// readAnswer makes an answer of a response.
func readAnswer(status int, text []byte, q *question, now time.Time) (*answer, error) {
	switch status {
	case http.StatusOK:
		a, err := parseAnswer(text, q, now)
		if err != nil {
			return nil, &failure{err: fmt.Errorf("its answer can't be used: %w", err)}
		}
		return a, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		code := Forbidden
		if status == http.StatusUnauthorized {
			code = Unauthorized
		}
		if a, err := parseAnswer(text, q, now); err == nil && a.refusal != nil {
			return &answer{refusal: refuse(code, a.refusal.Detail), asked: now}, nil
		}
		return &answer{refusal: refuse(code, denied), asked: now}, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &failure{err: fmt.Errorf("it answers with status %d", status), away: true, slow: true}
	}
	return nil, &failure{err: fmt.Errorf("it answers with status %d", status), away: status >= 500}
}

// signature returns the value of Sluice-Signature. The time is signed too, so a question that was overheard can't be asked for ever.
func signature(secret []byte, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// health says in the log when the webhook starts to fail and when it is well again, not each time. Its owner has a lock.
type health struct {
	failing bool
	last    time.Time // failure
	count   int       // failures since it was logged
}

func (h *health) failed(log *slog.Logger, err error) {
	h.last = time.Now()
	h.count++
	if !h.failing {
		h.failing = true
		log.Warn("authorization webhook fails; callers are refused", "err", strings.ToValidUTF8(err.Error(), "?"))
	}
}

func (h *health) answered(log *slog.Logger) {
	if h.failing && time.Since(h.last) >= webhookQuiet {
		log.Info("authorization webhook is well again", "failed", h.count)
		*h = health{}
	}
}
