package middleware_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sluice/middleware"
)

func newClients(t testing.TB, trusted ...string) *middleware.Clients {
	t.Helper()
	c, err := middleware.NewClients(trusted)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientAddr(t *testing.T) {
	proxies := []string{"10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48"}
	for _, row := range []struct {
		name    string
		trusted []string // default proxies
		peer    string   // default 10.0.0.1:1234
		xff     []string
		want    string
		why     string
	}{
		{name: "direct", peer: "198.51.100.1:1234", want: "198.51.100.1", why: "there is nothing else"},
		{name: "direct, IPv6", peer: "[2001:db8:2::1]:1234", want: "2001:db8:2::1", why: "there is nothing else"},
		{name: "direct, zone", peer: "[fe80::1%eth0]:1234", want: "fe80::1", why: "zones are names of this machine"},
		{name: "direct, IPv4 in IPv6", peer: "[::ffff:198.51.100.1]:1234", want: "198.51.100.1", why: "a socket for both gives IPv4 so"},
		{name: "no address", peer: "@", want: "invalid IP", why: "a Unix socket has none"},

		{name: "ignored", trusted: []string{}, xff: []string{"203.0.113.1"}, want: "10.0.0.1", why: "nobody is trusted unless it is said"},
		{name: "ignored, loopback", peer: "127.0.0.1:1234", xff: []string{"203.0.113.1"}, want: "127.0.0.1", why: "the loopback is not trusted by itself"},
		{name: "ignored, private", peer: "192.168.0.1:1234", xff: []string{"203.0.113.1"}, want: "192.168.0.1", why: "private networks are not trusted by themselves"},
		{name: "ignored, link-local", peer: "[fe80::1%eth0]:1234", xff: []string{"203.0.113.1"}, want: "fe80::1", why: "link-local addresses are not trusted by themselves"},
		{name: "forged", peer: "198.51.100.1:1234", xff: []string{"203.0.113.1"}, want: "198.51.100.1", why: "the peer is a stranger"},

		{name: "proxied", xff: []string{"203.0.113.1"}, want: "203.0.113.1", why: "the proxy says so"},
		{name: "proxied, single address", peer: "192.0.2.7:1", xff: []string{"203.0.113.1"}, want: "203.0.113.1", why: "an address is a block of one"},
		{name: "next to it", peer: "192.0.2.8:1", xff: []string{"203.0.113.1"}, want: "192.0.2.8", why: "an address is a block of one"},
		{name: "proxied, IPv6", peer: "[2001:db8:1::1]:1234", xff: []string{"2001:db8:2::9"}, want: "2001:db8:2::9", why: "the proxy says so"},
		{name: "proxied, IPv4 in IPv6", peer: "[::ffff:10.0.0.1]:1234", xff: []string{"::ffff:203.0.113.1"}, want: "203.0.113.1", why: "they are the same address"},
		{name: "trusted block with a zone", trusted: []string{"fe80::/10"}, peer: "[fe80::1%eth0]:1", xff: []string{"203.0.113.1"}, want: "203.0.113.1", why: "the zone is no part of what is compared"},
		{name: "trusted block as IPv4 in IPv6", trusted: []string{"::ffff:10.0.0.0/104"}, xff: []string{"203.0.113.1"}, want: "203.0.113.1", why: "it is 10.0.0.0/8"},
		{name: "no header", want: "10.0.0.1", why: "the proxy itself asks, for its health checks"},

		{name: "forged before", xff: []string{"127.0.0.1, 1.2.3.4,203.0.113.1"}, want: "203.0.113.1", why: "what the client wrote stands left of what the proxy added"},
		{name: "forged proxy before", xff: []string{"10.9.9.9, 203.0.113.1"}, want: "203.0.113.1", why: "a stranger stands between"},
		{name: "two proxies", xff: []string{"1.2.3.4, 203.0.113.1, 10.0.0.2"}, want: "203.0.113.1", why: "both are trusted"},
		{name: "all trusted", xff: []string{"10.0.0.3, 10.0.0.2"}, want: "10.0.0.3", why: "a client inside: it came in at the leftmost"},
		{name: "two lines", xff: []string{"1.2.3.4", "203.0.113.1"}, want: "203.0.113.1", why: "lines are one list; the proxy added the last"},
		{name: "two lines, proxy in the last", xff: []string{"1.2.3.4, 203.0.113.1", "10.0.0.2"}, want: "203.0.113.1", why: "lines are one list"},
		{name: "garbage before", xff: []string{"';DROP, 203.0.113.1"}, want: "203.0.113.1", why: "nobody looks at it"},
		{name: "blanks", xff: []string{" \t203.0.113.1\t "}, want: "203.0.113.1", why: "lists may have them"},

		{name: "port", xff: []string{"203.0.113.1:4711"}, want: "203.0.113.1", why: "Azure's gateway writes it"},
		{name: "IPv6 port", xff: []string{"[2001:db8:2::9]:4711"}, want: "2001:db8:2::9", why: "with brackets it is clear"},
		{name: "IPv6 brackets", xff: []string{"[2001:db8:2::9]"}, want: "2001:db8:2::9", why: "as in URLs"},
		{name: "IPv6 zone", xff: []string{"fe80::9%eth0"}, want: "fe80::9", why: "zones mean something only where they were written"},
		{name: "IPv6 that ends like a port", xff: []string{"2001:db8:2::9:4711"}, want: "2001:db8:2::9:4711", why: "without brackets there is no port"},

		{name: "garbage", xff: []string{"unknown"}, want: "10.0.0.1", why: "who wrote it counts"},
		{name: "garbage of the second proxy", xff: []string{"203.0.113.1, unknown, 10.0.0.2"}, want: "10.0.0.2", why: "who wrote it counts, and nothing left of it"},
		{name: "empty", xff: []string{""}, want: "10.0.0.1", why: "a proxy on a Unix socket may write nothing"},
		{name: "empty at the end", xff: []string{"203.0.113.1,"}, want: "10.0.0.1", why: "skipping it would believe what a client wrote"},
		{name: "IPv4 in brackets", xff: []string{"[203.0.113.1]"}, want: "10.0.0.1", why: "nobody writes that"},
		{name: "bad port", xff: []string{"203.0.113.1:99999"}, want: "10.0.0.1", why: "not a port"},
		{name: "leading zero", xff: []string{"203.0.113.010"}, want: "10.0.0.1", why: "8 or 10: parsers differ"},
		{name: "line break", xff: []string{"203.0.113.1\r\n"}, want: "10.0.0.1", why: "no header has one"},
		{name: "host name", xff: []string{"client.example"}, want: "10.0.0.1", why: "no names are looked up"},
	} {
		t.Run(row.name, func(t *testing.T) {
			trusted := row.trusted
			if trusted == nil {
				trusted = proxies
			}
			r := &http.Request{RemoteAddr: "10.0.0.1:1234", Header: http.Header{}}
			if row.peer != "" {
				r.RemoteAddr = row.peer
			}
			if row.xff != nil {
				r.Header["X-Forwarded-For"] = row.xff
			}
			if got := newClients(t, trusted...).Addr(r).String(); got != row.want {
				t.Errorf("peer %s, X-Forwarded-For %q: got %s, want %s: %s", r.RemoteAddr, row.xff, got, row.want, row.why)
			}
		})
	}
}

func TestParseProxy(t *testing.T) {
	for _, row := range []struct{ in, want, why string }{
		{"10.0.0.7", "10.0.0.7/32", "an address is a block of one"},
		{"2001:db8::7", "2001:db8::7/128", "an address is a block of one"},
		{"fe80::7%eth0", "fe80::7/128", "zones are not compared"},
		{"10.1.2.3/8", "10.0.0.0/8", "the rest of the bits count for nothing"},
		{"::ffff:10.0.0.0/104", "10.0.0.0/8", "it is IPv4"},
		{"::ffff:10.0.0.7", "10.0.0.7/32", "it is IPv4"},
		{"::ffff:0.0.0.0/90", "", "half IPv4, half not"},
		{"::ffff:0.0.0.0/96", "", "all of IPv4"},
		{"0.0.0.0/0", "", "everyone could choose an address"},
		{"::/0", "", "everyone could choose an address"},
		{"10.0.0.0/33", "", "no block"},
		{"10.0.0", "", "no address"},
		{"10.0.0.7:80", "", "a proxy's port changes with each connection"},
		{"proxy.example", "", "names are not looked up"},
		{"*", "", "everyone could choose an address"},
		{"", "", "nothing"},
	} {
		p, err := middleware.ParseProxy(row.in)
		got := ""
		if err == nil {
			got = p.String()
		}
		if got != row.want {
			t.Errorf("%q: got %q (%v), want %q: %s", row.in, got, err, row.want, row.why)
		}
	}
	if _, err := middleware.NewClients([]string{"10.0.0.7", "proxy"}); err == nil {
		t.Error("a name among the proxies is taken")
	}
}

func TestClientKeys(t *testing.T) {
	c := newClients(t)
	key := func(s string) middleware.Key { return c.AddrKey(netip.MustParseAddr(s)) }
	for _, row := range []struct {
		a, b string
		same bool
		why  string
	}{
		{"203.0.113.1", "203.0.113.1", true, "the same"},
		{"203.0.113.1", "203.0.113.2", false, "two customers"},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true, "one customer has a /64 at least"},
		{"2001:db8::1", "2001:db8:0:1::1", false, "two customers"},
		{"::", "0.0.0.0", false, "two families"},
	} {
		if got := key(row.a) == key(row.b); got != row.same {
			t.Errorf("%s and %s have the same key: %v, want %v: %s", row.a, row.b, got, row.same, row.why)
		}
	}
	b := netip.MustParseAddr("203.0.113.1").As16()
	if c.SubjectKey(string(b[:])) == key("203.0.113.1") {
		t.Error("a subject can be named like an address")
	}
	if c.SubjectKey("a") == newClients(t).SubjectKey("a") {
		t.Error("keys can be known in advance")
	}
}

// Whatever a client sends through a proxy that appends the address it sees, it is that address which counts; and
// what comes from a stranger counts for nothing.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "10.0.0.1", "10.0.0.1,", ",", "[::1]:1, ::1", "fe80::1%10.0.0.1", "a\n10.0.0.1", "::ffff:10.0.0.1", strings.Repeat("10.0.0.1,", 100)} {
		f.Add(s, "")
		f.Add("", s)
	}
	c := newClients(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, first, second string) {
		lines := []string{first, second}
		stranger := &http.Request{RemoteAddr: "198.51.100.1:1", Header: http.Header{"X-Forwarded-For": lines}}
		if got := c.Addr(stranger).String(); got != "198.51.100.1" {
			t.Errorf("X-Forwarded-For %q of a stranger makes it %s", lines, got)
		}
		for _, appended := range [][]string{{first, second + ", 203.0.113.1"}, {first, second, "203.0.113.1"}, {first + "," + second + ",[203::113]:80,10.1.1.1"}} {
			proxied := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": appended}}
			if got := c.Addr(proxied).String(); got != "203.0.113.1" && got != "203::113" {
				t.Errorf("X-Forwarded-For %q: got %s", appended, got)
			}
		}
		alone := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": slices.Clone(lines)}}
		if a := c.Addr(alone); !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			t.Errorf("X-Forwarded-For %q: got %v, which is no address to compare", lines, a)
		}
	})
}

func BenchmarkClientAddr(b *testing.B) {
	for _, bench := range []struct {
		name string
		c    *middleware.Clients
	}{{"direct", newClients(b)}, {"proxied", newClients(b, "192.0.2.0/24", "10.0.0.0/8")}} {
		b.Run(bench.name, func(b *testing.B) {
			r := &http.Request{RemoteAddr: "10.0.0.1:1234", Header: http.Header{"X-Forwarded-For": {"1.2.3.4, 203.0.113.1, 10.0.0.2"}}}
			b.ReportAllocs()
			for b.Loop() {
				bench.c.AddrKey(bench.c.Addr(r))
			}
		})
	}
}

func ExampleClients_Addr() {
	clients, _ := middleware.NewClients([]string{"10.0.0.0/8"})
	r := &http.Request{RemoteAddr: "10.0.0.1:41000", Header: http.Header{}}
	r.Header.Set("X-Forwarded-For", "127.0.0.1, 203.0.113.9, 10.0.0.2") // the first was written by the client
	fmt.Println(clients.Addr(r))
	// Output: 203.0.113.9
}
