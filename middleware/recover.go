package middleware

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"

	"github.com/labstack/echo/v4"
)

// Recover makes a panic in a handler the end of that request and not of the process.
type Recover struct {
	Log    *slog.Logger
	Answer echo.HandlerFunc // what the client gets, if nothing has been sent yet
}

// maxStack is how much of the stack is logged, in bytes.
const maxStack = 4 << 10

// Middleware returns the middleware. http.ErrAbortHandler goes on its way: it is how handlers tell net/http to
// drop the connection.
func (m Recover) Middleware() echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) (err error) {
			defer func() {
				v := recover()
				if v == nil {
					return
				}
				if v == http.ErrAbortHandler {
					panic(v)
				}
				stack := make([]byte, maxStack)
				stack = stack[:runtime.Stack(stack, false)]
				m.Log.Error("panic in a handler", "path", c.Path(), "request_id", RequestID(c), "panic", fmt.Sprint(v), "stack", string(stack))
				err = m.Answer(c)
			}()
			return next(c)
		}
	}
}
