package otel

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	upstream "go.opentelemetry.io/otel"
)

// quietTime is how long nothing more is logged after a line: a collector that is away fails every few seconds.
const quietTime = time.Minute

// troubles hears of what goes wrong in the SDK, which has nobody to return an error to, and logs it.
type troubles struct {
	log     *slog.Logger
	secrets []string

	mu         sync.Mutex
	starting   bool    // errors are gathered: the start fails with them
	early      []error // gathered
	logged     time.Time
	suppressed int // since then
}

// newTroubles takes over upstream's error handler and logger, of which there is one each in a process; they would write to
// standard error.
func newTroubles(log *slog.Logger) *troubles {
	t := &troubles{log: log, secrets: secrets(os.Environ())}
	upstream.SetErrorHandler(t)
	upstream.SetLogger(logr.New(upstreamLog{t}))
	return t
}

// during returns the errors of f and those that upstream has in the meantime: some variables it only complains about when it is
// given wrong values, and goes on.
func (t *troubles) during(f func() error) error {
	t.mu.Lock()
	t.starting = true
	t.mu.Unlock()
	err := f()
	t.mu.Lock()
	defer t.mu.Unlock()
	if early := errors.Join(t.early...); early != nil {
		err = errors.Join(err, fmt.Errorf("the OTEL_* variables can't be used: %s", t.clean(early)))
	}
	t.starting, t.early = false, nil
	return err
}

// Handle implements upstream's ErrorHandler.
func (t *troubles) Handle(err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	if t.starting {
		t.early = append(t.early, err)
		t.mu.Unlock()
		return
	}
	now := time.Now()
	if !t.logged.IsZero() && now.Sub(t.logged) < quietTime {
		t.suppressed++
		t.mu.Unlock()
		return
	}
	n := t.suppressed
	t.logged, t.suppressed = now, 0
	t.mu.Unlock()
	t.log.Warn("telemetry can't be exported", "err", t.clean(err), "suppressed", n)
}

// maxTrouble bounds what is logged of an error: it may have a whole page of a proxy in it.
const maxTrouble = 300

var urls = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]*`)

// clean returns the text of an error without what nobody may see: credentials and queries of URLs, and values of headers, which a
// collector may repeat.
func (t *troubles) clean(err error) string {
	s := urls.ReplaceAllStringFunc(err.Error(), func(s string) string {
		u, err := url.Parse(s)
		if err != nil {
			scheme, _, _ := strings.Cut(s, "://")
			return scheme + "://…"
		}
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	})
	for _, x := range t.secrets {
		s = strings.ReplaceAll(s, x, "…")
	}
	if r := []rune(s); len(r) > maxTrouble {
		s = string(r[:maxTrouble]) + "…"
	}
	return s
}

// secrets returns the values of headers, as they are written and as they are sent, and the words in them.
func secrets(environ []string) (all []string) {
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") || !strings.HasSuffix(name, "HEADERS") {
			continue
		}
		for pair := range strings.SplitSeq(value, ",") {
			_, x, _ := strings.Cut(pair, "=")
			sent, _ := url.PathUnescape(x)
			all = append(all, strings.Fields(x)...)
			all = append(all, strings.Fields(sent)...)
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < 4 })
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) }) // parts of others come after them
	return slices.Compact(all)
}

// upstreamLog passes on the errors that upstream logs, and nothing else. Their values may be secret, but for some.
type upstreamLog struct{ troubles *troubles }

func (l upstreamLog) Init(logr.RuntimeInfo)          {}
func (l upstreamLog) Enabled(int) bool               { return false }
func (l upstreamLog) Info(int, string, ...any)       {}
func (l upstreamLog) WithValues(...any) logr.LogSink { return l }
func (l upstreamLog) WithName(string) logr.LogSink   { return l }
func (l upstreamLog) Error(err error, msg string, values ...any) {
	for i := 0; i+1 < len(values); i += 2 {
		if k := values[i]; k == "file" || k == "environment variable" {
			msg += fmt.Sprintf(" (%v)", values[i+1])
		}
	}
	if err != nil && !strings.Contains(msg, "header") {
		msg += ": " + err.Error()
	}
	l.troubles.Handle(errors.New(msg))
}
