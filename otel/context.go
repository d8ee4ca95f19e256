package otel

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// Context names a span, as the traceparent of https://www.w3.org/TR/trace-context-1/ does. The zero value names none.
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool // whoever made the span records it
}

// traceparentLen is the length of version 00; later ones may be longer.
const traceparentLen = 55

// ParseContext reads a traceparent. It returns false for what is none: W3C wants that to be ignored.
func ParseContext(s string) (c Context, ok bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Context{}, false
	}
	version, ok1 := hexByte(s[0], s[1])
	flags, ok2 := hexByte(s[53], s[54])
	switch {
	case !ok1, !ok2, version == 0xff:
		return Context{}, false
	case len(s) > traceparentLen && (version == 0 || s[traceparentLen] != '-'):
		return Context{}, false
	case !unhex(c.Trace[:], s[3:35]), !unhex(c.Span[:], s[36:52]), c.Trace == [16]byte{}, c.Span == [8]byte{}:
		return Context{}, false
	}
	c.Sampled = flags&1 != 0
	return c, true
}

// unhex decodes lower-case hex digits, the only ones allowed (§3.2).
func unhex(dst []byte, s string) bool {
	for i := range dst {
		b, ok := hexByte(s[2*i], s[2*i+1])
		if !ok {
			return false
		}
		dst[i] = b
	}
	return true
}

func hexByte(hi, lo byte) (byte, bool) {
	h, ok1 := hexDigit(hi)
	l, ok2 := hexDigit(lo)
	return h<<4 | l, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// IsZero reports whether c names no span.
func (c Context) IsZero() bool { return c.Trace == [16]byte{} }

// Append appends c as a traceparent of version 00.
func (c Context) Append(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = append(hex.AppendEncode(dst, c.Trace[:]), '-')
	dst = append(hex.AppendEncode(dst, c.Span[:]), "-00"...)
	if c.Sampled {
		dst[len(dst)-1] = '1'
	}
	return dst
}

// String returns c as a traceparent, "" if it names no span.
func (c Context) String() string {
	if c.IsZero() {
		return ""
	}
	return string(c.Append(make([]byte, 0, traceparentLen)))
}

// upstream is c as the SDK knows it.
func (c Context) upstream(remote bool) trace.SpanContext {
	var flags trace.TraceFlags
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: c.Trace, SpanID: c.Span, TraceFlags: flags.WithSampled(c.Sampled), Remote: remote,
	})
}

// in returns a context in which spans are children of c; a zero c leaves ctx as it is.
func (c Context) in(ctx context.Context, remote bool) context.Context {
	if c.IsZero() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, c.upstream(remote))
}

// ContextOf returns the span that ctx is in, zero if it is in none.
func ContextOf(ctx context.Context) Context {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return Context{}
	}
	return Context{Trace: sc.TraceID(), Span: sc.SpanID(), Sampled: sc.IsSampled()}
}
