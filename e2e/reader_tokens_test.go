package e2e

import (
	"slices"
	"testing"
	"time"
)

// guardedRig is a rig with a node that takes the tokens which pages make of the secret. Publishers publish in Redis only.
func guardedRig(t *testing.T, flags ...string) (r *rig, secret string) {
	t.Helper()
	secret = newIssuer(t).secret
	return newRigIn(t, []string{"SLUICE_JWT_SECRET=" + secret}, nil, 1, append([]string{"--dev=false", "--jwt-leeway", "0s"}, flags...)...), secret
}

// eachTransport opens a page for each transport, which it is forced to.
func (r *rig) eachTransport(f *fleet, url, secret string) (pages []*reader) {
	r.Helper()
	for _, transport := range []string{"ws", "sse", "polling"} {
		pages = append(pages, r.readAt(f, transport, url, listens{Transports: []string{transport}, Secret: secret}))
	}
	return pages
}

// testPageTokens: tokens of 4 s, over and over. Pages show the next one in time, and where the backend has none for a while they come back when
// there is one again.
func testPageTokens(t *testing.T, f *fleet) {
	r, secret := guardedRig(t, "--retry", "200ms")
	began := time.Now()
	pages := r.eachTransport(f, r.nodes[0].url(), secret)
	r.publishStored(pagePace)
	for _, p := range pages {
		p.until("seen.tokens >= 3", nil)
	}
	if took := time.Since(began); took < 4*time.Second {
		t.Errorf("pages asked for 3 tokens within %v, each of which lives for 4 s", took)
	}
	r.published(50)
	r.catchUp(pages...)
	for _, p := range pages {
		if s := p.stats(); s.Connects != 1 || len(s.Errors) > 0 {
			t.Errorf("%s had %d connections and errors %v, want 1 and none: a token is shown on a live one", p.page, s.Connects, s.Errors)
		}
		p.run(`() => { seen.broken = true }`, nil, nil)
	}
	for _, p := range pages {
		p.until(`["denied", "connecting"].includes(edge.state)`, nil)
	}
	r.published(50)
	for _, p := range pages {
		if s := p.stats(); !slices.Contains(s.Errors, "token") {
			t.Errorf("%s has had errors %v, want token: there is none", p.page, s.Errors)
		}
		p.run(`() => { seen.broken = false }`, nil, nil)
	}
	for _, p := range pages {
		p.until(`["ws", "sse", "polling"].includes(edge.state)`, nil)
	}
	r.published(50)
	r.catchUp(pages...)
	r.finishPages(200, pages...)
}
