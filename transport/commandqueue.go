package transport

import (
	"sync"
)

// commandQueue makes the commands of a session that have to wait, in order: at most one goroutine,
// and only while there are any.
type commandQueue struct {
	refused int32 // over the rate; owned by the reading side of a WebSocket

	mu      sync.Mutex
	bytes   int32 // of waiting; the order of the fields keeps an idle connection small
	waiting []command
	running bool
}

// maxQueued bounds what a session's publishes that wait for the backend may hold.
const maxQueued = 1 << 20

// enqueue has c, of so many bytes, done after those that wait in q, or says why not. It does not block. Any goroutine may call it.
func (s *session) enqueue(q *commandQueue, c command, size int) *Problem {
	if c.Type == "publish" {
		if c.held = s.server.memory.hold(size, size); !c.held {
			return s.server.limits.full(limitNodeMemory, "bytes of memory")
		}
	}
	if !q.add(c, size) {
		s.done(&c, size)
		s.server.limits.refused[limitSessionQueue].Add(1)
		return problem(RateLimited, "too many commands wait for their answers")
	}
	if q.begin() {
		s.server.running.Go(func() { s.runCommands(q) })
	}
	return nil
}

func (q *commandQueue) add(c command, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if int(q.bytes)+size > maxQueued {
		return false
	}
	c.size = size
	q.bytes += int32(size)
	q.waiting = append(q.waiting, c)
	return true
}

// begin reports whether the caller has to start the goroutine.
func (q *commandQueue) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	start := !q.running && len(q.waiting) > 0
	q.running = q.running || start
	return start
}

func (q *commandQueue) next() (c command, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.running, q.waiting = false, nil
		return c, false
	}
	c = q.waiting[0]
	q.waiting = q.waiting[1:]
	q.bytes -= int32(c.size)
	return c, true
}

func (s *session) runCommands(q *commandQueue) {
	for {
		c, ok := q.next()
		if !ok {
			return
		}
		switch c.Type {
		case "subscribe":
			s.subscribe(c)
		case "unsubscribe":
			s.unsubscribe(c)
		case "publish":
			s.publish(c)
		case "ping":
			s.ping(c)
		case "ack":
			s.ack(c)
		case "refresh":
			s.refresh(c)
		default:
			s.refuse(c.asker(), problem(BadRequest, "unknown type "+quoted(c.Type)+"; there are subscribe, unsubscribe, publish, refresh, ack and ping"))
		}
		s.done(&c, c.size)
	}
}

// done gives back what is held of the memory for a command.
func (s *session) done(c *command, size int) {
	if c.held {
		s.server.memory.free(size)
	}
}
