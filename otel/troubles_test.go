package otel

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

// One line a minute, which says how many there were that it does not tell.
func TestTroubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tr := &troubles{log: slog.New(slog.NewTextHandler(&log, nil))}
		for i := range 150 { // one a second
			tr.Handle(fmt.Errorf("trouble %d", i))
			time.Sleep(time.Second)
		}
		tr.Handle(nil)
		got := strings.Split(strings.TrimSpace(log.String()), "\n")
		want := []string{`err="trouble 0" suppressed=0`, `err="trouble 60" suppressed=59`, `err="trouble 120" suppressed=59`}
		if len(got) != len(want) {
			t.Fatalf("got\n%s", &log)
		}
		for i, w := range want {
			if !strings.HasSuffix(got[i], w) {
				t.Errorf("got %s, want %s", got[i], w)
			}
		}
	})
}

func TestTroublesAreClean(t *testing.T) {
	tr := &troubles{secrets: secrets([]string{"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abcdef,x=y,api-key = 1234 ", "OTEL_EXPORTER_OTLP_TRACES_HEADERS=k=abcdefgh", "PATH=/bin/abcd"})}
	for _, tt := range []struct{ err, want string }{
		{"plain", "plain"},
		{`Post "http://user:pw@host:4318/v1/traces?token=t#f": EOF`, `Post "http://host:4318/v1/traces": EOF`},
		{"dial https://user@[b and more", "dial https://… and more"},
		{"dns:///collector:4317 is away", "dns:///collector:4317 is away"},
		{"body: Bearer%20abcdef, Bearer abcdef, 1234, abcdefgh", "body: …, … …, …, …"},
		{"/bin/abcd y", "/bin/abcd y"},
		{strings.Repeat("ä", 301), strings.Repeat("ä", 300) + "…"},
	} {
		if got := tr.clean(errors.New(tt.err)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.err, got, tt.want)
		}
	}
}

// What upstream logs comes through if it is an error, without values that may be secret.
func TestUpstreamLog(t *testing.T) {
	var log bytes.Buffer
	tr := &troubles{log: slog.New(slog.NewTextHandler(&log, nil))}
	l := logr.New(upstreamLog{tr}).WithName("x").WithValues("token", "secret")
	l.Info("exporting", "token", "secret")
	l.V(8).Info("exporting", "token", "secret")
	if log.Len() != 0 {
		t.Errorf("got %s", &log)
	}
	l.Error(errors.New("no number"), "parse duration", "environment variable", "OTEL_METRIC_EXPORT_INTERVAL", "value", "secret")
	if got := log.String(); !strings.HasSuffix(got, `err="parse duration (OTEL_METRIC_EXPORT_INTERVAL): no number" suppressed=0`+"\n") {
		t.Errorf("got %s", got)
	}
}
