package middleware

import (
	"fmt"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strings"
)

// Clients says who is at the other end of a request. Limits and logs ask nobody else, so that they
// never disagree.
//
// It is immutable; all methods may be called concurrently.
type Clients struct {
	trusted   []netip.Prefix // a handful, so no tree
	addresses maphash.Seed
	subjects  maphash.Seed
}

// NewClients returns a Clients that believes the X-Forwarded-For header of the trusted proxies, and of
// nobody else. Each of them is an address or a CIDR block, as ParseProxy reads it. Without any the header
// is ignored: everyone can write one.
//
// Nothing is trusted that is not on the list, the loopback and private networks neither: behind a
// container's port mapping every stranger comes from one of them.
func NewClients(trusted []string) (*Clients, error) {
	c := &Clients{addresses: maphash.MakeSeed(), subjects: maphash.MakeSeed()}
	for _, s := range trusted {
		p, err := ParseProxy(s)
		if err != nil {
			return nil, fmt.Errorf("trusted proxy %q: %w", s, err)
		}
		c.trusted = append(c.trusted, p)
	}
	return c, nil
}

// ParseProxy reads an address such as 10.0.0.7 or 2001:db8::7, or a block such as 10.0.0.0/8. The error
// is the fix, for whoever wrote it. A block of all addresses is refused: it would let everyone say who they are.
func ParseProxy(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); aerr == nil {
		p, err = netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
	}
	if err == nil && p.Addr().Is4In6() { // clients are compared as what they are, IPv4
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	switch {
	case err != nil || !p.IsValid():
		return netip.Prefix{}, fmt.Errorf("write an address such as 10.0.0.7 or a block such as 10.0.0.0/8")
	case p.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("name the proxies: with a block of all addresses everyone could choose theirs")
	}
	return p.Masked(), nil
}

// Addr returns the address of the client that sent r, IPv4 as such and without a zone. It is the
// connection's peer; if that is a trusted proxy, the rightmost address in X-Forwarded-For that is
// not one. What stands left of it was written by strangers. Of a request that only trusted proxies
// have seen, it is the leftmost.
//
// Where the header can't be read, whoever wrote that part of it counts as the client: its proxy. That is
// a mistake of its set-up, and a client must not gain anything by it.
//
// It is not echo's extractor, which trusts whole networks unless told otherwise, takes no ports, puts
// all lines together and copies what it splits.
func (c *Clients) Addr(r *http.Request) netip.Addr {
	client := parseHost(r.RemoteAddr)
	if len(c.trusted) == 0 || !c.trusts(client) {
		return client
	}
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- { // several lines are one list (RFC 9110 §5.2)
		for rest, more := lines[i], true; more; {
			var item string
			rest, item, more = cutLast(rest)
			a := parseHost(item)
			if !a.IsValid() {
				return client
			}
			if client = a; !c.trusts(a) {
				return client
			}
		}
	}
	return client
}

// Trusts reports whether a, which is IPv4 as such and has no zone, is a trusted proxy.
func (c *Clients) Trusts(a netip.Addr) bool { return c.trusts(a) }

func (c *Clients) trusts(a netip.Addr) bool {
	for _, p := range c.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// cutLast cuts a list at its last comma.
func cutLast(list string) (rest, item string, more bool) {
	if i := strings.LastIndexByte(list, ','); i >= 0 {
		return list[:i], list[i+1:], true
	}
	return "", list, false
}

// parseHost reads an address with or without a port, IPv6 in brackets or not: net/http and some proxies
// (Azure's, IIS) write the port. It returns the zero Addr for anything else. The zone goes: it means
// something only on the machine that wrote it, and prefixes match no address with one.
func parseHost(s string) netip.Addr {
	s = strings.Trim(s, " \t")
	in, bracket := strings.CutPrefix(s, "[")
	in, closed := strings.CutSuffix(in, "]")
	var a netip.Addr
	switch { // what can't be read leaves the zero Addr
	case bracket && closed:
		if a, _ = netip.ParseAddr(in); !a.Is6() {
			return netip.Addr{}
		}
	case bracket || strings.Count(s, ":") == 1:
		ap, _ := netip.ParseAddrPort(s)
		a = ap.Addr()
	default:
		a, _ = netip.ParseAddr(s)
	}
	return a.WithZone("").Unmap()
}

// Key stands for a client in a Limiter: a hash under a seed that was drawn at the start, so that nobody
// can look for two clients that have the same.
type Key uint64

// AddrKey returns the key of an address: of IPv6 its /64, which is what one customer gets at least.
// Without that, everyone has 2⁶⁴ clients.
func (c *Clients) AddrKey(a netip.Addr) Key {
	if a.Is6() {
		p, _ := a.Prefix(64) // never fails for IPv6
		a = p.Addr()
	}
	b := a.As16()
	return Key(maphash.Bytes(c.addresses, b[:]))
}

// SubjectKey returns the key of an authenticated subject.
func (c *Clients) SubjectKey(subject string) Key { return Key(maphash.String(c.subjects, subject)) }
