package transport

import (
	"net/http"
	"testing"
	"time"
)

// A stream that has nothing to write for longer than a write may take goes on: the deadline of a write ends with it.
func TestQuietStreamOutlivesWriteTimeout(t *testing.T) {
	n := newNode(t, func(c *Config) { c.WriteTimeout, c.Heartbeat = 200*time.Millisecond, 10*time.Second })
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	s := openStream(t, h2, n.url("/sse?channel=a"))
	s.want("welcome", "*")
	time.Sleep(600 * time.Millisecond) // HTTP/2 has no fake clock
	n.publish("a", "still here")
	s.want("", "still here")
	s.close()
}
