package otel

import (
	"context"
	"encoding/hex"
	"log/slog"
)

// LogHandler is a handler that gives every record the trace_id and span_id of the span that it was logged in, if it was in one,
// so that a line of the log and its trace find each other.
type LogHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h LogHandler) Handle(ctx context.Context, r slog.Record) error {
	if c := ContextOf(ctx); !c.IsZero() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", hex.EncodeToString(c.Trace[:])), slog.String("span_id", hex.EncodeToString(c.Span[:])))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h LogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return LogHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h LogHandler) WithGroup(name string) slog.Handler { return LogHandler{h.Handler.WithGroup(name)} }
