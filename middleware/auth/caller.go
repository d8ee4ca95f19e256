package auth

import "net/netip"

// Caller is who asks to connect or to subscribe, as the webhook is told. It is immutable.
type Caller struct {
	Transport string              // ws, sse or poll
	Address   netip.Addr          // of the client, behind trusted proxies
	Origin    string              // of the page; "": none
	Path      string              // of the request, without the query
	Header    map[string][]string // of the request: those that the webhook is to have, in canonical spelling
	Who       Identity            // what a token has said; Anonymous if there is none
}

// Decision is what the webhook says.
type Decision struct {
	Claims            // Subject, Expires (zero: it does not end), Subscribe, Publish and the limits; of a connection
	Channels []string // of those that were asked for: may be subscribed to, until Expires
}
