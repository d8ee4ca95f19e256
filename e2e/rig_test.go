package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// rig is the set-up of a fault test: a redis-server, nodes on it, clients that listen and publishers
// that publish while the test breaks something, and the ledger that tells whether it worked.
type rig struct {
	*testing.T
	ctx      context.Context
	rng      *rand.Rand
	redis    *redisServer
	nodes    []*node
	channels []string
	write    func(channel, by string) outgoing // what the publishers publish
	ledger   *ledger
	http     *http.Client
	clients  []*client

	listening  sync.WaitGroup
	publishing sync.WaitGroup
	stop       chan struct{} // closed when the publishers shall stop
	hangUp     context.CancelFunc
}

// rigTime bounds a fault test, whatever happens in it.
const rigTime = 90 * time.Second

// newRig starts Redis with the given configuration and n nodes with the given flags. The nodes keep
// enough history for all of a run unless the flags say otherwise.
func newRig(t *testing.T, redisConfig []string, n int, flags ...string) *rig {
	t.Helper()
	return newRigIn(t, nil, redisConfig, n, flags...)
}

// newRigIn is newRig with variables of the environment for all nodes, NAME=value.
func newRigIn(t *testing.T, env, redisConfig []string, n int, flags ...string) *rig {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SLUICE_E2E_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SLUICE_E2E_SEED: %v", err)
		}
	}
	t.Logf("SLUICE_E2E_SEED=%d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), rigTime)
	r := &rig{T: t, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 0)), redis: startRedis(t, redisConfig...),
		channels: []string{"orders", "news", "chat:1"}, write: bare, ledger: newLedger(), http: httpClient(t, 5*time.Second), stop: make(chan struct{})}
	flags = append([]string{"--redis", r.redis.URL(), "--history-messages", "50000"}, flags...)
	for i := range n {
		r.nodes = append(r.nodes, startNodeIn(t, env, string(rune('A'+i)), flags...))
	}
	t.Cleanup(func() {
		cancel()
		r.publishing.Wait()
		r.listening.Wait()
	})
	return r
}

// at returns a base for clients that stay with node i.
func (r *rig) at(i int) func(int) string { return func(int) string { return r.nodes[i].url() } }

// listen adds a client.
func (r *rig) listen(k kind, where string, base func(int) string) *client {
	c := newClient(r.T, fmt.Sprintf("%s at %s", k, where), k, r.channels, base)
	r.clients = append(r.clients, c)
	return c
}

// listenEverywhere adds a client of each kind at each node.
func (r *rig) listenEverywhere(kinds ...kind) {
	for i, n := range r.nodes {
		for _, k := range kinds {
			r.listen(k, n.name, r.at(i))
		}
	}
}

// connect starts all clients and waits until they listen.
func (r *rig) connect() {
	r.Helper()
	ctx, hangUp := context.WithCancel(r.ctx)
	r.hangUp = hangUp
	for _, c := range r.clients {
		r.listening.Go(func() { c.run(ctx) })
	}
	probe := time.NewTicker(20 * time.Millisecond)
	defer probe.Stop()
	for _, c := range r.clients {
		for waiting := true; waiting; {
			select {
			case <-c.ready:
				waiting = false
			case <-probe.C:
				for _, ch := range r.channels {
					if c.kind != viaWSPlain {
						break // a welcome tells
					}
					_, _ = publish(r.ctx, r.http, r.nodes[0].url(), ch, "live=1", probeMark+ch) // again in a moment
				}
			case <-r.ctx.Done():
				r.Fatalf("client %s does not listen: %v", c.name, c.closeErrs)
			}
		}
	}
}

// publish starts publishers on all ways that there are: HTTP at each node and FCALL at Redis.
func (r *rig) publish(pace time.Duration) {
	add := func(name string, send sendFunc) {
		p := &publisher{name: name, channels: r.channels, pace: pace, ledger: r.ledger, send: send, write: r.write,
			rng: rand.New(rand.NewPCG(r.rng.Uint64(), 0))}
		r.publishing.Go(func() { p.run(r.ctx, r.stop) })
	}
	for _, n := range r.nodes {
		for i := range 2 {
			add(fmt.Sprintf("http %s%d", n.name, i), r.viaHTTP(n))
		}
	}
	for i := range 2 {
		add(fmt.Sprintf("fcall %d", i), r.redis.send)
	}
}

// viaHTTP publishes at n, and at the other nodes when that does not answer.
func (r *rig) viaHTTP(n *node) sendFunc {
	at := slices.Index(r.nodes, n)
	return func(ctx context.Context, m outgoing) (published, error) {
		q := url.Values{"id": {m.id}}
		for name, value := range map[string]string{"key": m.key, "event": m.event} {
			if value != "" {
				q.Set(name, value)
			}
		}
		p, err := publish(ctx, r.http, r.nodes[at].url(), m.channel, q.Encode(), m.data)
		if err != nil {
			at = (at + 1) % len(r.nodes)
		}
		return p, err
	}
}

// end ends the publishing with a last message on each channel, waits until all clients have those,
// and hangs up.
func (r *rig) end() {
	r.Helper()
	close(r.stop)
	r.publishing.Wait()
	last := &publisher{ledger: r.ledger, send: r.viaHTTP(r.nodes[len(r.nodes)-1])}
	for _, ch := range r.channels {
		if !last.publish(r.ctx, r.write(ch, endMark+ch)) {
			r.Fatalf("the last message of %s was never acknowledged", ch)
		}
	}
	r.settle()
	r.hangUp()
	r.listening.Wait()
}

// finish ends the run and returns each client's verdict.
func (r *rig) finish() map[*client]verdict {
	r.Helper()
	r.end()
	r.Logf("%d acknowledged, %d retries, %d of them had been stored", r.ledger.total(), r.ledger.retries, r.ledger.repeated)
	for _, f := range r.ledger.check() {
		r.Error(f)
	}
	verdicts := map[*client]verdict{}
	for _, c := range r.clients {
		v := r.ledger.judge(c.got, c.channels, c.terms)
		verdicts[c] = v
		r.Logf("%-24s %2d connections, %5d messages, lost %d (silently %d), duplicated %d, misordered %d, superseded %d, gaps %v",
			c.name, c.connected, v.got, v.lost, v.silent, v.duplicated, v.misordered, v.superseded, v.gaps)
		if len(c.errs) > 0 {
			r.Errorf("%s: errors from the node: %q", c.name, c.errs)
		}
	}
	return verdicts
}

// settle waits until all clients have the last messages, as long as there is progress.
func (r *rig) settle() {
	got, since := 0, time.Now()
	for time.Since(since) < 10*time.Second && r.ctx.Err() == nil {
		n, complete := 0, true
		for _, c := range r.clients {
			n += c.count()
			complete = complete && c.complete()
		}
		if complete {
			return
		}
		if n > got {
			got, since = n, time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// finishWhole is finish where Redis has lost nothing: each client must have everything, once, in
// order, and must not have been told of a gap in what is durable. Under a delivery policy, everything is
// what that lets through.
func (r *rig) finishWhole(atLeast int) {
	r.Helper()
	verdicts := r.finish()
	if n := r.ledger.total(); n < atLeast {
		r.Errorf("only %d messages were acknowledged, the test wants %d", n, atLeast)
	}
	for _, c := range r.clients {
		v := verdicts[c]
		if v.lost+v.duplicated+v.misordered+v.foreign+v.unwanted > 0 {
			r.Errorf("%s: %s (lost %d, duplicated %d, misordered %d, foreign %d, unwanted %d)",
				c.name, v.first, v.lost, v.duplicated, v.misordered, v.foreign, v.unwanted)
		}
		for reason, n := range v.gaps {
			if reason != "interrupted" {
				r.Errorf("%s: %d gaps %q though the history was whole", c.name, n, reason)
			}
		}
	}
}

// during calls do at random moments, on average once a period, until n more messages have been
// acknowledged and it was called at least times.
func (r *rig) during(n, times int, period time.Duration, do func()) {
	r.Helper()
	for want := r.ledger.total() + n; times > 0 || r.ledger.total() < want; times-- {
		r.pause(period/2 + time.Duration(r.rng.Int64N(int64(period))))
		do()
	}
}

// pause lets a fault last.
func (r *rig) pause(d time.Duration) {
	r.Helper()
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
		r.Fatalf("the test takes longer than %v", rigTime)
	}
}

// published waits until n more messages have been acknowledged.
func (r *rig) published(n int) {
	r.Helper()
	want := r.ledger.total() + n
	until(r.T, 30*time.Second, fmt.Sprintf("%d more messages are acknowledged", n), func() bool { return r.ledger.total() >= want })
}
