package transport

import (
	"sync"

	"sluice/middleware"
)

// crowd counts what is there at once, by whom it belongs to. It knows nobody who has nothing there, so its memory is
// bounded by what is counted. All methods may be called concurrently.
type crowd struct {
	mu sync.Mutex
	of map[middleware.Key]int32
}

// enter counts one more of k, unless there are most already; most of 0 or less is no limit. Each one that was
// counted leaves once.
func (c *crowd) enter(k middleware.Key, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[k]
	if most > 0 && int(n) >= most {
		return false
	}
	if c.of == nil {
		c.of = map[middleware.Key]int32{}
	}
	c.of[k] = n + 1
	return true
}

// leave counts one of k out again.
func (c *crowd) leave(k middleware.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.of[k]; n > 1 {
		c.of[k] = n - 1
		return
	}
	if delete(c.of, k); len(c.of) == 0 {
		c.of = nil // a map keeps what it has grown to
	}
}
