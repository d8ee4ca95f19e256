package transport

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/middleware"
)

// adminPolicies has two rules, the second of which never counts for prices.
func adminPolicies(t *testing.T) *middleware.Policies {
	t.Helper()
	p := new(middleware.Policies)
	starts := func(prefix string) func(string) bool {
		return func(channel string) bool { return strings.HasPrefix(channel, prefix) }
	}
	err := p.Set([]middleware.Rule{
		{Pattern: "prices.*", Match: starts("prices."), Delivery: middleware.Delivery{Conflate: middleware.ConflateKey, Interval: 100 * time.Millisecond}},
		{Pattern: "p*", Match: starts("p"), Delivery: middleware.Delivery{Filter: `event != "debug"`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask gets a path of an API that listens at address.
func ask(t *testing.T, method, address, path, host string) (status int, body string, head http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(b)), res.Header
}

func TestAdmin(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Policies = adminPolicies(t) })
	admin := httptest.NewServer(n.Admin())
	defer admin.Close()
	filter := url.QueryEscape(`event == "a"`)
	tests := []struct {
		name, method, path, host string
		status                   int
		want                     string // the answer, or the code and a part of the detail of a problem
	}{
		{"rule", "GET", "/admin/policy?channel=prices.a", "", 200, `{"channel":"prices.a","pattern":"prices.*","deliver":{"conflate":"key","rate":"10/s"}}`},
		{"the first counts", "GET", "/admin/policy?channel=p", "", 200, `{"channel":"p","pattern":"p*","deliver":{"filter":"event != \"debug\""}}`},
		{"no rule", "GET", "/admin/policy?channel=news", "", 200, `{"channel":"news","pattern":"","deliver":{}}`},
		{"wishes", "GET", "/admin/policy?channel=prices.a&rate=5/s&batch=50ms,20&conflate=latest&filter=" + filter, "", 200,
			`{"channel":"prices.a","pattern":"prices.*","deliver":{"filter":"event == \"a\"","conflate":"latest","rate":"5/s","batch":"50ms,20"}}`},
		{"a laxer wish", "GET", "/admin/policy?channel=prices.a&rate=50/s", "", 200, `{"channel":"prices.a","pattern":"prices.*","deliver":{"conflate":"key","rate":"10/s"}}`},
		{"by name", "GET", "/admin/policy?channel=news", "localhost:80", 200, `{"channel":"news","pattern":"","deliver":{}}`},
		{"by IPv6", "GET", "/admin/policy?channel=news", "[::1]", 200, `{"channel":"news","pattern":"","deliver":{}}`},
		{"by a stranger's name", "GET", "/admin/policy?channel=news", "evil.example:80", 403, "forbidden: use the address"},
		{"no channel", "GET", "/admin/policy", "", 400, "bad_channel: "},
		{"bad channel", "GET", "/admin/policy?channel=a%20b", "", 400, "bad_channel: "},
		{"channels", "GET", "/admin/policy?channel=a&channel=b", "", 400, "bad_request: channel is there twice"},
		{"bad wish", "GET", "/admin/policy?channel=a&rate=fast", "", 400, `bad_delivery: rate "fast" can't be used`},
		{"unknown parameter", "GET", "/admin/policy?channel=a&rates=5/s", "", 400, `bad_request: unknown parameter "rates"; there are channel, rate, batch, conflate, filter`},
		{"bad query", "GET", "/admin/policy?channel=%zz", "", 400, "bad_request: "},
		{"no such path", "GET", "/admin", "", 404, "not_found: "},
		{"no such method", "POST", "/admin/policy?channel=a", "", 405, "method_not_allowed: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, got, head := ask(t, tt.method, admin.URL, tt.path, tt.host)
			if status != 200 {
				var p Problem
				if err := json.Unmarshal([]byte(got), &p); err != nil || head.Get("Content-Type") != "application/problem+json" {
					t.Fatalf("%d %s is no problem: %v", status, got, err)
				}
				got = p.Error()
			}
			if status != tt.status || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %d %s\nwant %d %s", status, got, tt.status, tt.want)
			}
			if head.Get("Cache-Control") != "no-store" || head.Get("X-Request-Id") == "" {
				t.Errorf("head %v lacks Cache-Control: no-store, or its request id", head)
			}
		})
	}
	if status, _, _ := ask(t, "GET", n.url(""), "/admin/drops", ""); status != 404 {
		t.Errorf("where clients connect, /admin/drops answers %d, want 404", status)
	}
}

func TestAdminDrops(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Policies = adminPolicies(t) })
	admin := httptest.NewServer(n.Admin())
	defer admin.Close()
	dropped := func() (list []droppedCount) { // what is not 0
		t.Helper()
		status, got, _ := ask(t, "GET", admin.URL, "/admin/drops", "")
		if err := json.Unmarshal([]byte(got), &list); err != nil || status != 200 || got == "null" {
			t.Fatalf("got %d %s, want a list", status, got)
		}
		return slices.DeleteFunc(list, func(c droppedCount) bool { return c.Dropped == 0 })
	}
	if got := dropped(); len(got) > 0 {
		t.Errorf("before anything was dropped: got %v", got)
	}
	s, other := n.sse("channel=p"), n.sse("channel=news&filter="+url.QueryEscape(`event == "a"`))
	s.want("welcome", "*")
	other.want("welcome", "*")
	for _, channel := range []string{"p", "news"} {
		n.publish(channel, "1", "event=debug")
		n.publish(channel, "2", "event=debug")
		n.publish(channel, "3", "event=a")
	}
	s.want("a", "3")
	other.want("a", "3")
	if got, want := dropped(), []droppedCount{{"", "filter", 2}, {"p*", "filter", 2}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
