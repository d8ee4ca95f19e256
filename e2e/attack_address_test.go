package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAttackAddress: a client does not become another by what it writes into its headers; only a trusted proxy says who it is, and of what that
// says only the address that it has seen itself.
func TestAttackAddress(t *testing.T) {
	t.Parallel()
	told := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var q struct{ Address string }
		fromJSON(string(body), &q)
		told <- q.Address
		_, _ = io.WriteString(w, `{"allow":true,"subscribe":["*"]}`)
	}))
	t.Cleanup(hook.Close)
	_, entry := apiKey("backend", "*")
	for _, tt := range []struct {
		name, trusted string
		header        string // %d is another number each time
		want          string // address of the first
		counts        bool   // for the same client, each time
	}{
		{"nobody is trusted", "", "X-Forwarded-For: 192.0.2.%d\r\n", "127.0.0.1", true},
		{"nobody is trusted, other headers", "", "X-Real-IP: 192.0.2.%d\r\nForwarded: for=192.0.2.%[1]d\r\nTrue-Client-IP: 192.0.2.%[1]d\r\nCF-Connecting-IP: 192.0.2.%[1]d\r\nX-Client-IP: 192.0.2.%[1]d\r\n", "127.0.0.1", true},
		{"nobody is trusted, loopback", "", "X-Forwarded-For: 127.0.0.%d\r\n", "127.0.0.1", true},
		{"another proxy is trusted", "192.0.2.0/24", "X-Forwarded-For: 198.51.100.%d\r\n", "127.0.0.1", true},
		{"trusted", "127.0.0.1/32", "X-Forwarded-For: 198.51.100.%d\r\n", "198.51.100.0", false},
		{"trusted, and forged before it", "127.0.0.1/32", "X-Forwarded-For: 192.0.2.%d, 203.0.113.9\r\n", "203.0.113.9", true},
		{"trusted, and forged in another header", "127.0.0.1/32", "X-Forwarded-For: 192.0.2.%d\r\nX-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9", true},
		{"trusted, and a trusted one forged", "127.0.0.1/32", "X-Forwarded-For: 192.0.2.%d, 203.0.113.9, 127.0.0.1\r\n", "203.0.113.9", true},
		{"trusted, with nonsense", "127.0.0.1/32", "X-Forwarded-For: evil-%d\r\n", "127.0.0.1", true},
		{"trusted, other headers", "127.0.0.1/32", "X-Real-IP: 192.0.2.%d\r\n", "127.0.0.1", true},
		{"trusted, IPv6 of one network", "127.0.0.1/32", "X-Forwarded-For: 2001:db8::%d\r\n", "2001:db8::", true}, // a /64 is one client
	} {
		t.Run(tt.name, func(t *testing.T) {
			flags := []string{"--dev=false", "--webhook", hook.URL, "--connect-rate", "0.01", "--connect-burst", "3", "--publish-rate", "0.01", "--publish-burst", "3",
				"--config", settingsFile(t, "api-keys:\n"+entry)}
			if tt.trusted != "" {
				flags = append(flags, "--trusted-proxies", tt.trusted)
			}
			n := startNode(t, "A", flags...)
			waitReady(t, n)
			for what, ask := range map[string]func(header string) *shown{
				"WebSocket": func(header string) *shown { return n.ask(t, "GET /ws?channel=news", upgradeHead+header, "") },
				"publish":   func(header string) *shown { return n.ask(t, "POST /publish/news", header, "x") },
			} {
				taken := 0
				for i := range 8 {
					s := ask(fmt.Sprintf(tt.header, i))
					if s.code == "rate_limited" && (s.status != http.StatusTooManyRequests || s.header.Get("Retry-After") == "") {
						t.Errorf("%s: got %d %v", what, s.status, s.header)
					} else if s.code != "rate_limited" {
						taken++
					}
				}
				if want := map[bool]int{true: 3, false: 8}[tt.counts]; taken != want {
					t.Errorf("%s: %d of 8 are taken, want %d", what, taken, want)
				}
			}
			if got := <-told; got != tt.want && !(strings.HasPrefix(got, tt.want) && strings.Contains(tt.name, "IPv6")) {
				t.Errorf("the backend is told the address %s, want %s", got, tt.want)
			}
			for len(told) > 0 {
				<-told
			}
		})
	}
	// Nor does the PROXY protocol, which nobody has asked for.
	n := startNode(t, "A")
	if s := n.ask(t, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /healthz", "", ""); s.status != http.StatusBadRequest {
		t.Errorf("the PROXY protocol: got %d %s", s.status, s.raw)
	}
}
