package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	mathrand "math/rand/v2"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
)

// ownWindow is how long the idempotency key of a publish lives that came without an ID: only our
// own retries use it, and at high rates these keys are what fills Redis' memory.
const ownWindow = 30 * time.Second

// Bounds of one round trip of a worker.
const (
	batchMessages = 128
	batchBytes    = 4 << 20
)

// worker publishes what waits in its queue, as much as there is in one round trip. It never waits
// for more: under load the queue fills while Redis answers. Its goroutine lives while there is work.
type worker struct {
	b     *Backend
	queue chan *request

	mu      sync.Mutex
	running bool // its goroutine is there and will look into queue again
	closed  bool
}

// request is one attempt to publish one message.
type request struct {
	ctx    context.Context // of the caller; when it is over nobody waits for the answer
	m      *broker.Message
	keys   []string
	args   []any
	direct bool // a live message without an ID: args are those of the plain command
	cmd    *goredis.Cmd
	answer chan answer // has room for the one answer
}

type answer struct {
	receipt broker.Receipt
	err     error
}

// Publish implements broker.Backend.
func (b *Backend) Publish(ctx context.Context, m *broker.Message, o broker.PublishOptions) (broker.Receipt, error) {
	if err := broker.CheckChannel(m.Channel); err != nil {
		return broker.Receipt{}, err
	}
	if !deliverable(&broker.Message{Event: m.Event, Key: m.Key}) || !cleanText(o.ID) {
		return broker.Receipt{}, fmt.Errorf("%w: event, key or ID", broker.ErrMessage)
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	r := b.newRequest(m, o)
	w := b.workers[maphash.String(b.seed, m.Channel)%uint64(len(b.workers))]
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		attempt := *r
		attempt.ctx, attempt.answer = ctx, make(chan answer, 1)
		receipt, err := w.do(&attempt)
		// Without an ID nothing may be repeated that could have been delivered.
		if err == nil || !retryable(err) || r.direct && !unsent(err) {
			return receipt, unavailable(err)
		}
		if !sleep(ctx, pause) {
			return receipt, unavailable(err)
		}
		b.stats.Retries.Add(1)
	}
}

// newRequest makes keys and arguments of the publish function, or for a live message without an ID
// those of the plain command: it has nothing to be atomic with.
func (b *Backend) newRequest(m *broker.Message, o broker.PublishOptions) *request {
	trace := m.Trace
	if !cleanText(trace) {
		trace = "" // it is a stranger's header, and no reason to refuse the message
	}
	if o.Live && o.ID == "" {
		size := len(m.Data) + len(m.Event) + len(m.Key) + len(trace) + 48
		return &request{m: m, direct: true, args: []any{
			b.publish, b.keys.announce(m.Channel), appendLive(make([]byte, 0, size), m, trace),
		}}
	}
	window := b.config.IdempotencyWindow
	if o.ID == "" {
		o.ID = rand.Text()[:20] // 100 bits
		window = min(window, ownWindow)
	}
	if o.Messages <= 0 {
		o.Messages = broker.DefaultHistoryMessages
	}
	if o.Age <= 0 {
		o.Age = broker.DefaultHistoryAge
	}
	live := "0"
	if o.Live {
		live = "1"
	}
	return &request{
		m:    m,
		keys: []string{b.keys.stream(m.Channel), b.keys.meta(m.Channel), b.keys.seen(m.Channel, o.ID)},
		args: []any{
			m.Data, b.publish, tagText(uint16(mathrand.Uint32())), publishMicros(m.Time), o.Messages, max(o.Age.Milliseconds(), 1),
			b.config.MetaAge.Milliseconds(), max(window.Milliseconds(), 1), m.Event, m.Key, trace, live,
		},
	}
}

// do has r published and waits for the answer, but not longer than its context.
func (w *worker) do(r *request) (broker.Receipt, error) {
	select {
	case w.queue <- r:
	case <-r.ctx.Done():
		return broker.Receipt{}, w.b.ended(r.ctx)
	case <-w.b.life.Done():
		return broker.Receipt{}, w.b.ended(r.ctx)
	}
	w.start()
	select {
	case a := <-r.answer:
		return a.receipt, a.err
	case <-r.ctx.Done():
		return broker.Receipt{}, w.b.ended(r.ctx)
	case <-w.b.life.Done():
		return broker.Receipt{}, w.b.ended(r.ctx)
	}
}

// start sees to it that somebody looks into the queue.
func (w *worker) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running && !w.closed {
		w.running = true
		w.b.wg.Go(w.run)
	}
}

// done reports whether the queue is empty, and then the goroutine must end: start counts on it.
func (w *worker) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = len(w.queue) > 0
	return !w.running
}

func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

func (w *worker) run() {
	var batch []*request
	for {
		select {
		case r := <-w.queue:
			batch = w.take(batch[:0], r)
			w.flush(batch)
			clear(batch)
		default:
			if w.done() {
				return
			}
		}
	}
}

// take adds what waits in the queue to the first request, up to the bounds, and leaves out what
// nobody waits for any more.
func (w *worker) take(batch []*request, r *request) []*request {
	size := 0
	for {
		if r.ctx.Err() == nil {
			batch = append(batch, r)
			size += len(r.m.Data)
		}
		if len(batch) == batchMessages || size >= batchBytes {
			return batch
		}
		select {
		case r = <-w.queue:
		default:
			return batch
		}
	}
}

// flush publishes the batch in one round trip, and once more what failed because the functions were missing.
func (w *worker) flush(batch []*request) {
	ctx, cancel := context.WithTimeout(w.b.life, w.b.config.CommandTimeout)
	defer cancel()
	w.exec(ctx, batch)
	again := batch[:0]
	for _, r := range batch {
		if missing(r.cmd.Err()) {
			again = append(again, r)
			continue
		}
		r.reply()
	}
	if len(again) == 0 {
		return
	}
	if err := w.b.load(ctx); err != nil {
		for _, r := range again {
			r.answer <- answer{err: err}
		}
		return
	}
	w.exec(ctx, again)
	for _, r := range again {
		r.reply()
	}
}

func (w *worker) exec(ctx context.Context, batch []*request) {
	if len(batch) == 0 {
		return
	}
	p := w.b.client.Pipeline()
	for _, r := range batch {
		if r.direct {
			r.cmd = p.Do(ctx, r.args...)
		} else {
			r.cmd = w.b.call(ctx, p, publishFunction, r.keys, r.args...)
		}
	}
	_, _ = p.Exec(ctx) // every command has its own error
}

// reply answers with what Redis said: {position, duplicate}, or how many nodes a plain PUBLISH reached.
func (r *request) reply() {
	if err := r.cmd.Err(); err != nil || r.direct {
		r.answer <- answer{err: err}
		return
	}
	var receipt broker.Receipt
	values, _ := r.cmd.Val().([]any)
	if len(values) != 2 {
		r.answer <- answer{err: errReply}
		return
	}
	text, ok := values[0].(string)
	duplicate, ok2 := values[1].(int64)
	position, err := broker.ParsePosition(text)
	if text == "" {
		err = nil // a live message
	}
	if !ok || !ok2 || err != nil {
		r.answer <- answer{err: errReply}
		return
	}
	receipt.Position, receipt.Duplicate = position, duplicate == 1
	r.answer <- answer{receipt: receipt}
}
