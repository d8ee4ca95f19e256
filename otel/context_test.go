package otel

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

func TestParseContext(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
	for _, tt := range []struct {
		name, in string
		ok       bool
		sampled  bool
	}{
		{"sampled", "00-" + id + "-01", true, true},
		{"not sampled", "00-" + id + "-00", true, false},
		{"other flags", "00-" + id + "-03", true, true},
		{"a later version", "cc-" + id + "-01", true, true},
		{"a later version with more", "cc-" + id + "-01-what", true, true},
		{"version 00 with more", "00-" + id + "-01-what", false, false},
		{"a later version with more that is not set off", "cc-" + id + "-01what", false, false},
		{"no version", "ff-" + id + "-01", false, false},
		{"no trace", "00-00000000000000000000000000000000-b7ad6b7169203331-01", false, false},
		{"no span", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false, false},
		{"capitals", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false, false},
		{"too short", "00-" + id + "-0", false, false},
		{"nothing", "", false, false},
		{"no digits", "00-" + id + "-0x", false, false},
		{"other dashes", "00_" + id + "-01", false, false},
	} {
		c, ok := ParseContext(tt.in)
		if ok != tt.ok || c.Sampled != tt.sampled || c.IsZero() == ok {
			t.Errorf("%s: %v, sampled %v", tt.name, ok, c.Sampled)
		}
		if ok && c.String()[3:52] != id {
			t.Errorf("%s: got %s", tt.name, c)
		}
	}
	if s := (Context{}).String(); s != "" {
		t.Errorf("no span is told as %q", s)
	}
}

// What is read is what OpenTelemetry's own propagator reads, and is written as it was.
func FuzzContext(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-x")
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff")
	f.Add("x")
	f.Fuzz(func(t *testing.T, in string) {
		c, ok := ParseContext(in)
		carrier := propagation.MapCarrier{"traceparent": in}
		want := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
		if want.IsValid() && (!ok || c.Trace != [16]byte(want.TraceID()) || c.Span != [8]byte(want.SpanID()) || c.Sampled != want.IsSampled()) {
			t.Fatalf("%q: got %v, %v; want %v", in, c, ok, want)
		}
		if !ok {
			return
		}
		again, ok := ParseContext(c.String())
		if !ok || again != c {
			t.Fatalf("%q is written as %q", in, c)
		}
	})
}
