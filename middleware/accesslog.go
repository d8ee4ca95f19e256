package middleware

import (
	"log/slog"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// AccessLog says how requests are logged.
type AccessLog struct {
	Log     *slog.Logger
	Clients *Clients
}

// Middleware returns a middleware that logs one line for each request, "request" at the level INFO: method,
// path, status, bytes (of the body), duration, client (its address) and request_id. There is no query
// string in it, since that is where tokens are.
//
// Requests are logged when they are answered, streams and WebSockets when they have begun, with the bytes
// until then: a line at their end would mean to keep all of this for each connection.
func (a AccessLog) Middleware() echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			began, logged := time.Now(), false
			w := c.Response()
			w.Before(func() { // the handler of an HTTP/2 stream stays until its end
				if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
					logged = true
					a.line(c, began)
				}
			})
			if err := next(c); err != nil {
				c.Error(err) // writes the answer, whose status is to be logged
			}
			if !logged {
				a.line(c, began)
			}
			return nil
		}
	}
}

// Lengths beyond which a stranger's method and path are cut.
const (
	maxLoggedMethod = 16
	maxLoggedPath   = 256
)

func (a AccessLog) line(c echo.Context, began time.Time) {
	r, w := c.Request(), c.Response()
	a.Log.LogAttrs(r.Context(), slog.LevelInfo, "request",
		slog.String("method", clip(r.Method, maxLoggedMethod)),
		slog.String("path", clip(r.URL.Path, maxLoggedPath)),
		slog.Int("status", w.Status),
		slog.Int64("bytes", w.Size),
		slog.Duration("duration", time.Since(began)),
		slog.String("client", a.Clients.Addr(r).String()),
		slog.String("request_id", RequestID(c)),
	)
}

// clip cuts s after n bytes. What is not UTF-8 after that is for the log's handler to escape.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
