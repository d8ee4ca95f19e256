package main

import (
	"fmt"
	"strings"
)

// Target is a server, how it is started and how it is talked to.
type Target struct {
	Name      string
	Server    string // program in the folder of the binaries
	Transport string // "ws" or "sse"
	Redis     bool   // messages come through Redis, not from the server's own HTTP publish
	Envelopes bool   // WebSocket with the subprotocol sluice.v1.json

	addr    string   // the server listens here
	args    []string // of the program
	first   string   // before the first channel in the query
	next    string   // before the others
	publish string   // path of the publish request, up to the channel's name
	terms   *Term    // what holds for its clients; nil: everything as it comes
	welcome bool     // says so when the subscription stands; else the response head is all there is
	tokens  bool     // clients can resume
}

const (
	redisAddr  = "127.0.0.1:15379"
	sluiceAddr = "127.0.0.1:15601"
	gohubAddr  = "127.0.0.1:15501"
	idealAddr  = "127.0.0.1:15502"

	collectorAddr = "127.0.0.1:15701"
)

// targets lists all that are known. gohub comes right after Sluice of the same kind, so that the
// two that are compared are measured next to each other.
func targets() []*Target {
	var ts []*Target
	for _, viaRedis := range []bool{false, true} {
		for _, transport := range []string{"ws", "sse"} {
			ts = append(ts, sluiceTarget(transport, viaRedis))
			if transport == "ws" {
				ts = append(ts, envelopes(sluiceTarget(transport, viaRedis)))
			}
			ts = append(ts, gohubTarget(transport, viaRedis))
			if !viaRedis {
				ts = append(ts, idealTarget(transport))
			}
		}
	}
	return ts
}

func sluiceTarget(transport string, viaRedis bool) *Target {
	t := &Target{Name: targetName("sluice", transport, viaRedis), Server: "sluice", Transport: transport, Redis: viaRedis,
		addr: sluiceAddr, args: []string{"--dev", "--demo=false", "--listen", sluiceAddr},
		first: "?channel=", next: "&channel=", publish: "/publish/",
		welcome: transport == "sse", tokens: transport == "sse"}
	if viaRedis {
		t.args = append(t.args, "--redis", "redis://"+redisAddr)
	}
	return t
}

// envelopes makes a plain WebSocket target one with the JSON subprotocol, which can resume.
func envelopes(t *Target) *Target {
	t.Name = strings.Replace(t.Name, "-ws", "-ws-json", 1)
	t.Envelopes, t.welcome, t.tokens = true, true, true
	return t
}

func gohubTarget(transport string, viaRedis bool) *Target {
	t := &Target{Name: targetName("gohub", transport, viaRedis), Server: "gohub", Transport: transport, Redis: viaRedis,
		addr: gohubAddr, args: []string{"-listen", gohubAddr}, first: "?c=", next: ",", publish: "/pub?c="}
	if viaRedis {
		t.args = append(t.args, "-redis", redisAddr)
	}
	return t
}

func idealTarget(transport string) *Target {
	return &Target{Name: targetName("goideal", transport, false), Server: "goideal", Transport: transport,
		addr: idealAddr, args: []string{"-listen", idealAddr}, first: "?c=", next: ",", publish: "/pub?c="}
}

func targetName(server, transport string, viaRedis bool) string {
	name := server + "-" + transport
	if viaRedis {
		name += "-redis"
	}
	return name
}

// rival returns the name of the target that t is compared with: without its terms, or else gohub.
func (t *Target) rival() string {
	if t.terms != nil {
		return targetName("sluice", t.Transport, t.Redis)
	}
	return targetName("gohub", t.Transport, t.Redis)
}

// targets returns those that can take part in s.
func (s *Scenario) targets() []*Target {
	if s.Terms == nil {
		return targets()
	}
	var ts []*Target
	for _, transport := range []string{"ws", "sse"} {
		ts = append(ts, sluiceTarget(transport, false))
		for i := range s.Terms {
			t := sluiceTarget(transport, false)
			t.terms = &s.Terms[i]
			if t.terms.Envelopes {
				if transport != "ws" {
					continue
				}
				t = envelopes(t)
			}
			t.Name += "+" + t.terms.Name
			ts = append(ts, t)
		}
	}
	for _, t := range ts {
		t.args = append(t.args, s.Settings...)
	}
	return ts
}

// unfit says why t can't take part in s; "" if it can.
func (t *Target) unfit(s *Scenario) string {
	switch {
	case s.resumes() && !t.tokens:
		return "its clients can't resume"
	case s.Stalled > 0 && t.Server == "goideal":
		return "it does not handle partial writes"
	}
	return ""
}

// chooseTargets returns the targets of s: those named, or else all that fit. Envelopes are left
// out where plain frames can do the same, since the baselines have only those.
func chooseTargets(s *Scenario, names []string, redis bool) ([]*Target, error) {
	var chosen []*Target
	known := map[string]*Target{}
	for _, t := range s.targets() {
		known[t.Name] = t
		if t.unfit(s) == "" && (redis || !t.Redis) && (s.resumes() || t.terms != nil || !t.Envelopes) {
			chosen = append(chosen, t)
		}
	}
	if len(names) == 0 {
		return chosen, nil
	}
	chosen = nil
	for _, n := range names {
		t := known[n]
		if t == nil {
			return nil, fmt.Errorf("no target %q; see bench list", n)
		}
		if t.unfit(s) == "" {
			chosen = append(chosen, t)
		}
	}
	return chosen, nil
}

// request returns a subscriber's HTTP request; with a token it resumes.
func (t *Target) request(channels []uint32, token string) []byte {
	var b strings.Builder
	b.WriteString("GET /" + t.Transport)
	for i, c := range channels {
		sep := t.next
		if i == 0 {
			sep = t.first
		}
		b.WriteString(sep + channelName(c))
	}
	if t.terms != nil {
		b.WriteString(t.terms.Query)
	}
	if token != "" && t.Transport == "ws" {
		b.WriteString("&resume=" + token)
	}
	b.WriteString(" HTTP/1.1\r\nHost: " + t.addr + "\r\n")
	if t.Transport == "ws" {
		b.WriteString("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2x1aWNlIGJlbmNobWFyaw==\r\n")
	} else {
		b.WriteString("Accept: text/event-stream\r\n")
	}
	if t.Envelopes {
		b.WriteString("Sec-WebSocket-Protocol: sluice.v1.json\r\n")
	}
	if token != "" && t.Transport == "sse" {
		b.WriteString("Last-Event-ID: " + token + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}
