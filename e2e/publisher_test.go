package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Payloads of a run are CHANNEL|PUBLISHER|NUMBER; these two are about the run itself.
const (
	probeMark = "probe|" // live, until plain WebSocket clients get one: nothing else tells that they listen
	endMark   = "end|"   // the last message of a channel
)

// publisher publishes one message after the other, each until it is acknowledged, always with the
// message's own idempotency key.
type publisher struct {
	name     string
	channels []string
	pace     time.Duration // between two messages
	rng      *rand.Rand
	ledger   *ledger
	send     sendFunc
	write    func(channel, by string) outgoing // what it publishes; by is CHANNEL|PUBLISHER|NUMBER
}

// outgoing is one message to publish. id, key and event may be empty.
type outgoing struct{ channel, id, key, event, data string }

// bare writes messages that are nothing but their number.
func bare(channel, by string) outgoing { return outgoing{channel: channel, id: by, data: by} }

// sendFunc publishes one durable message.
type sendFunc func(ctx context.Context, m outgoing) (published, error)

// run publishes until stop is closed; the message that is on its way then is still finished within ctx.
func (p *publisher) run(ctx context.Context, stop <-chan struct{}) {
	tick := time.NewTicker(p.pace)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ch := p.channels[p.rng.IntN(len(p.channels))]
		p.publish(ctx, p.write(ch, fmt.Sprintf("%s|%s|%d", ch, p.name, i)))
	}
}

// publish publishes m until it is acknowledged or ctx ends.
func (p *publisher) publish(ctx context.Context, m outgoing) bool {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 4*time.Second)
		answer, err := p.send(try, m)
		cancel()
		if err == nil {
			p.ledger.ack(m.channel, m.data, answer.Position, answer.Duplicate)
			return true
		}
		p.ledger.retried()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return false
}
