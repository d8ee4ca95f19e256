package main

import (
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// publisher publishes from the loop. A channel's messages always go over the same connection, so
// they are published in order.
type publisher struct {
	loop    *loop
	redis   bool
	addr    unix.SockaddrInet4
	depth   int // requests under way per connection
	bundle  int // messages in a request; offered one after the other on the same channel
	conns   []*pubConn
	payload []byte
	body    []byte   // of the last request for several messages
	seq     []uint32 // last number per channel
	subs    []int64  // subscribers who read, per channel
	queued  int      // offered, not sent yet
	keys    int      // messages have one of so many, by their number; 0: none

	expected int64 // deliveries that the counted messages must make
	sent     int64
	errs     int64
	lastErr  string
	lag      hist // how late the tool itself was
}

type pubJob struct {
	channel uint32
	counted bool
	due     int64 // 0: now
}

type pubConn struct {
	id      int32
	fd      int // -1: closed by the server
	out, in []byte
	pending int // requests without an answer
	jobs    []pubJob
}

// newPublisher connects. Messages go to Redis where the target has it, unless durable asks for the
// server's own publish request, which stores them.
func newPublisher(l *loop, channels int, durable bool) (*publisher, error) {
	p := &publisher{loop: l, redis: l.target.Redis && !durable, depth: 8,
		seq: make([]uint32, channels), subs: make([]int64, channels), bundle: 1}
	addr, conns := l.target.addr, 4
	if p.redis {
		addr, conns, p.depth = redisAddr, 1, 4096
	}
	var err error
	if p.addr, err = sockaddr(addr); err != nil {
		return nil, err
	}
	for i := range conns {
		c := &pubConn{id: int32(i | pubBit), fd: -1}
		p.conns = append(p.conns, c)
		if err := p.open(c); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func sockaddr(addr string) (unix.SockaddrInet4, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return unix.SockaddrInet4{}, fmt.Errorf("address %q: %w", addr, err)
	}
	return unix.SockaddrInet4{Addr: [4]byte(a.IP.To4()), Port: a.Port}, nil
}

func (p *publisher) open(c *pubConn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("publisher: %w", err)
	}
	err = errorsOf(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.Connect(fd, &p.addr),
		unix.SetNonblock(fd, true),
		p.loop.watch(fd, c.id),
	)
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("publisher: %w", err)
	}
	c.fd, c.in, c.out, c.pending = fd, c.in[:0], c.out[:0], 0
	return nil
}

func (p *publisher) close() {
	for _, c := range p.conns {
		if c.fd >= 0 {
			_ = unix.Close(c.fd)
			c.fd = -1
		}
	}
}

// reset starts a stage.
func (p *publisher) reset() {
	p.expected, p.sent, p.errs, p.lastErr, p.lag = 0, 0, 0, "", hist{}
}

// offer queues one message and sends what the depth allows. due is when it should leave; 0 is now.
func (p *publisher) offer(channel uint32, due int64, counted bool) {
	c := p.conns[int(channel)%len(p.conns)]
	c.jobs = append(c.jobs, pubJob{channel: channel, counted: counted, due: due})
	p.queued++
	p.flush(c)
}

func (p *publisher) flush(c *pubConn) {
	if c.fd < 0 && len(c.jobs) > 0 { // the server had closed an idle connection
		if err := p.open(c); err != nil {
			p.fail(err.Error())
			return
		}
	}
	sent := 0
	for ; sent+p.bundle <= len(c.jobs) && c.pending < p.depth && len(c.out) < 256<<10; sent += p.bundle {
		if p.bundle > 1 {
			c.out = p.encodeArray(c.out, c.jobs[sent:sent+p.bundle])
		} else {
			c.out = p.encode(c.out, c.jobs[sent])
		}
		c.pending++
	}
	p.queued -= sent
	c.jobs = c.jobs[:copy(c.jobs, c.jobs[sent:])]
	p.write(c)
}

func (p *publisher) write(c *pubConn) {
	for len(c.out) > 0 {
		n, err := rawWrite(c.fd, c.out)
		if err != nil {
			if err != unix.EAGAIN {
				p.fail(err.Error())
			}
			return
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
}

func (p *publisher) fail(why string) {
	p.errs++
	p.lastErr = why
}

// stamp puts the mark of j into the payload.
func (p *publisher) stamp(j pubJob) mark {
	t := now()
	m := mark{at: j.due, channel: j.channel}
	if m.at == 0 {
		m.at = t
	}
	if j.counted {
		p.lag.add(t - m.at)
		p.seq[j.channel]++
		m.seq = p.seq[j.channel]
		p.expected += p.subs[j.channel]
		p.sent++
	}
	m.put(p.payload[markAt:])
	return m
}

// encode appends the request for one message.
func (p *publisher) encode(b []byte, j pubJob) []byte {
	m := p.stamp(j)
	name := channelName(j.channel)
	if p.redis {
		b = append(b, "*3\r\n$7\r\nPUBLISH\r\n$"...)
		b = strconv.AppendInt(b, int64(len(name)), 10)
		b = append(append(append(b, "\r\n"...), name...), "\r\n$"...)
		b = strconv.AppendInt(b, int64(len(p.payload)), 10)
		b = append(append(b, "\r\n"...), p.payload...)
		return append(b, "\r\n"...)
	}
	path := p.loop.target.publish + name
	if p.keys > 0 {
		path += "?key=" + p.key(m)
	}
	return p.post(b, path, p.payload)
}

// encodeArray appends one request for several messages, which only Sluice takes.
func (p *publisher) encodeArray(b []byte, jobs []pubJob) []byte {
	body := append(p.body[:0], '[')
	for i, j := range jobs {
		if i > 0 {
			body = append(body, ',')
		}
		m := p.stamp(j)
		body = append(append(append(body, `{"channel":"`...), channelName(j.channel)...), '"')
		if p.keys > 0 {
			body = append(append(append(body, `,"key":"`...), p.key(m)...), '"')
		}
		body = append(append(append(body, `,"data":`...), p.payload...), '}')
	}
	p.body = append(body, ']')
	return p.post(b, "/publish", p.body)
}

// key returns the key of a message: they have them in turn.
func (p *publisher) key(m mark) string { return strconv.Itoa(int(m.seq) % p.keys) }

func (p *publisher) post(b []byte, path string, body []byte) []byte {
	b = append(append(b, "POST "...), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), p.loop.target.addr...)
	b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// event reads answers; each makes room for a request.
func (p *publisher) event(i int, ev uint32) {
	c := p.conns[i]
	if c.fd < 0 {
		return
	}
	if ev&unix.EPOLLOUT != 0 {
		p.write(c)
	}
	if ev&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	for {
		n, err := unix.Read(c.fd, p.loop.buf)
		if err == unix.EAGAIN {
			break
		}
		if err != nil || n <= 0 {
			if c.pending > 0 {
				p.fail(fmt.Sprintf("connection closed with %d requests unanswered: %v", c.pending, err))
			}
			_ = unix.Close(c.fd)
			c.fd = -1
			return
		}
		c.in = append(c.in, p.loop.buf[:n]...)
		if n < len(p.loop.buf) {
			break
		}
	}
	rest := c.in
	for len(rest) > 0 {
		n, problem := httpReply(rest)
		if p.redis {
			n, problem = redisReply(rest)
		}
		if n == 0 {
			break
		}
		if problem != "" {
			p.fail(problem)
		}
		rest = rest[n:]
		c.pending--
	}
	c.in = c.in[:copy(c.in, rest)]
	p.flush(c)
}
