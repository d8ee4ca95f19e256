package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// visit is one connection of a test that looks at every event by itself, on a channel of its own.
type visit struct {
	*client
	st   stream
	via  string
	stop []func()
}

// visitTime bounds a visit.
const visitTime = 20 * time.Second

// visit connects c to node i as kind k, with what c knows to resume, and returns when it listens.
func (r *rig) visit(c *client, k kind, i int) (*visit, error) {
	v := &visit{client: c, via: "sse"}
	c.kind = k
	connect := c.connectSSE
	if k == viaWS {
		connect, v.via = c.connectWS, "ws"
	}
	c.joins = 0
	ctx, cancel := context.WithTimeout(r.ctx, visitTime)
	st, err := connect(ctx, r.nodes[i].url())
	if err != nil {
		cancel()
		return nil, err
	}
	stop := context.AfterFunc(ctx, st.close)
	v.st, v.stop = st, []func(){func() { stop() }, cancel, st.close}
	byCommand := v.via == "ws" && len(c.since) > 0
	_, err = v.until(func(e event) bool { return e.kind == "welcome" && !byCommand || e.kind == "reply" })
	return v, err
}

// until reads up to the first event that is it.
func (v *visit) until(it func(event) bool) (event, error) {
	for {
		e, err := v.st.next()
		if err != nil {
			return e, fmt.Errorf("after %d messages: %w", len(v.got), err)
		}
		v.take(e, v.via)
		if it(e) {
			return e, nil
		}
	}
}

// message reads up to the message that by is the number of.
func (v *visit) message(by string) error {
	_, err := v.until(func(e event) bool { return e.kind == "message" && numberOf(e.data) == by })
	if err != nil {
		err = fmt.Errorf("message %q does not come: %w", by, err)
	}
	return err
}

// ping asks for the token of all that has come, which makes the client forget the positions.
func (v *visit) ping() error {
	if err := v.st.(*wsStream).send(map[string]any{"type": "ping", "ref": 99}); err != nil {
		return err
	}
	_, err := v.until(func(e event) bool { return e.kind == "reply" && e.token != "" })
	return err
}

// end breaks the connection off.
func (v *visit) end() {
	for _, stop := range v.stop {
		stop()
	}
}

// visitor returns a client for visits to a channel of its own.
func (r *rig) visitor(channel string, w wish) *client {
	c := newClient(r.T, channel, viaSSE, []string{channel}, r.at(0))
	c.wish = w
	return c
}

// say publishes quotes whose number begins with their symbol: "a1", or "-1" for none. In capitals it is noise.
func (r *rig) say(channel string, numbers ...string) error {
	for _, by := range numbers {
		q := quote{By: by, Symbol: strings.ToLower(strings.TrimPrefix(by[:1], "-")), Side: "buy", Event: "trade"}
		if by != strings.ToLower(by) {
			q.Event = "noise"
		}
		m := q.outgoing(channel)
		m.id = channel + by
		answer, err := r.viaHTTP(r.nodes[0])(r.ctx, m)
		if err != nil {
			return err
		}
		r.ledger.ack(channel, m.data, answer.Position, answer.Duplicate)
	}
	return nil
}

// TestHeldIsDelivered: what rate or batch hold back when a connection breaks comes after the resume,
// itself or what superseded it, wherever and however the client comes back.
func TestHeldIsDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2)
	var work sync.WaitGroup
	n := 0
	each := func(w, then wish, first, back kind, node int) {
		n++
		channel := fmt.Sprintf("held.%d", n)
		work.Go(func() {
			c := r.visitor(channel, w)
			if err := heldAndBack(r, c, then, first, back, node); err != nil {
				t.Errorf("%v, %s, then %v, %s at %s: %v", w, first, then, back, r.nodes[node].name, err)
				return
			}
			under := termsOf(w)
			if then == (wish{}) {
				under = terms{} // it had only the first message: all others are still owed
			}
			v := r.ledger.judge(c.got, c.channels, map[string]terms{channel: under})
			if v.lost+v.duplicated+v.misordered+v.foreign+v.unwanted+len(v.gaps) > 0 {
				t.Errorf("%v, %s, then %v, %s at %s: %s (%+v)", w, first, then, back, r.nodes[node].name, v.first, v)
			}
		})
	}
	for _, w := range []wish{
		{rate: "2/s"},
		{rate: "2/s", conflate: "key"},
		{rate: "2/s", conflate: "latest"},
		{batch: "300ms"},
		{batch: "300ms,4", conflate: "key"},
		{rate: "2/s", batch: "200ms", filter: `event != "noise"`},
	} {
		for _, first := range resumable {
			for _, back := range resumable {
				for node := range r.nodes {
					each(w, w, first, back, node)
					if node == 0 == (first == back) {
						each(w, wish{}, first, back, node)
					}
				}
			}
		}
	}
	work.Wait()
	t.Logf("%d clients", n)
}

// heldAndBack has c receive one message, then go away while others are held back, and come back with
// another wish for all the rest.
func heldAndBack(r *rig, c *client, then wish, first, back kind, node int) error {
	ch := c.channels[0]
	v, err := r.visit(c, first, 0)
	if err != nil {
		return err
	}
	defer v.end()
	if err := errors.Join(r.say(ch, "a1"), v.message("a1")); err != nil {
		return err
	}
	if first == viaWS && back != viaWS {
		if err := v.ping(); err != nil {
			return err
		}
	}
	if err := r.say(ch, "a2", "A3", "b1", "-1", "B2", "a4", "c1"); err != nil {
		return err
	}
	v.end()
	c.wish = then
	if v, err = r.visit(c, back, node); err != nil {
		return err
	}
	defer v.end()
	return v.message("c1")
}

// TestDroppedCountsAsDelivered: what was filtered or conflated does not come back by resuming, not
// even to those who now want everything.
func TestDroppedCountsAsDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2, "--heartbeat", "200ms")
	for _, k := range resumable {
		for node := range r.nodes {
			t.Run(fmt.Sprintf("filtered, %s, then at %s", k, r.nodes[node].name), func(t *testing.T) {
				c := r.visitor(fmt.Sprintf("filtered.%s.%d", strings.ReplaceAll(string(k), " ", "."), node), wish{filter: `event != "noise"`})
				got := comeBack(t, r, c, k, node, func(v *visit) error {
					err := errors.Join(r.say(c.channels[0], "a1"), v.message("a1"))
					token := c.token
					err = errors.Join(err, r.say(c.channels[0], "A2")) // one: a heartbeat could come between two
					_, waited := v.until(func(e event) bool { return e.kind == "heartbeat" && e.token != "" && e.token != token })
					return errors.Join(err, waited)
				})
				if want := []string{"a9"}; !slices.Equal(got, want) {
					t.Errorf("after a heartbeat's token came %q, want %q", got, want)
				}
			})
			t.Run(fmt.Sprintf("conflated, %s, then at %s", k, r.nodes[node].name), func(t *testing.T) {
				c := r.visitor(fmt.Sprintf("conflated.%s.%d", strings.ReplaceAll(string(k), " ", "."), node), wish{rate: "5/s", conflate: "key"})
				got := comeBack(t, r, c, k, node, func(v *visit) error {
					err := errors.Join(r.say(c.channels[0], "a1"), v.message("a1"))
					err = errors.Join(err, r.say(c.channels[0], "a2", "a3", "b1", "a4"))
					return errors.Join(err, v.message("b1")) // a2 and a3 were before it
				})
				if want := []string{"a4", "a9"}; !slices.Equal(got, want) {
					t.Errorf("after b1 came %q, want %q", got, want)
				}
			})
		}
	}
}

// comeBack has c do something, then break off and come back without wishes, and returns the numbers
// of all that comes up to a new message a9.
func comeBack(t *testing.T, r *rig, c *client, k kind, node int, do func(*visit) error) (numbers []string) {
	t.Helper()
	v, err := r.visit(c, k, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = do(v)
	v.end()
	if err != nil {
		t.Fatal(err)
	}
	c.got, c.wish = nil, wish{}
	if v, err = r.visit(c, k, node); err != nil {
		t.Fatal(err)
	}
	defer v.end()
	if err := errors.Join(r.say(c.channels[0], "a9"), v.message("a9")); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.got {
		if m.gap != nil {
			t.Errorf("a gap %+v", m.gap)
		}
		numbers = append(numbers, numberOf(m.data))
	}
	return numbers
}
