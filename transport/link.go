package transport

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"sluice/broker"
)

// link is the socket under a session. Its writer calls write and close; what a link has to say it
// posts back to the writer: wrote when it can take more, gone when the peer went away.
type link interface {
	// write takes as much of b as the socket has room for, without blocking. If busy is true the
	// link calls session.wrote when it can take more. b is kept for longer only if it is shared, since it never changes then.
	write(b []byte, shared bool) (n int, busy bool, err error)
	// pinned is how many bytes of a write that is under way the link holds. Its writer calls it.
	pinned() int
	// unread reports whether something has come that nobody has read yet.
	unread() bool
	// finish ends the output once all of it is written (FIN); the peer may still send.
	finish()
	// close gives the socket up. It may be called more than once.
	close()
}

// streamLink writes where only a blocking Write exists: TLS, HTTP/2 streams, and systems without
// epoll. A goroutine exists only while something is being written.
type streamLink struct {
	session *session
	dst     io.Writer
	flush   func() error            // nil: dst does not buffer
	timeout func(t time.Time) error // sets the deadline of one write
	end     func()                  // closes what is under dst
	active  sync.WaitGroup          // the write under way
	writing atomic.Bool
	size    int // of the write that was last begun; the writer's
	once    sync.Once
}

func (l *streamLink) write(b []byte, shared bool) (int, bool, error) {
	own := b
	if !shared {
		own = append([]byte(nil), b...)
	}
	l.size = len(b)
	l.active.Add(1)
	l.writing.Store(true)
	go func() {
		defer l.active.Done()
		_ = l.timeout(time.Now().Add(l.session.server.config.WriteTimeout))
		_, err := l.dst.Write(own)
		if err == nil && l.flush != nil {
			err = l.flush()
		}
		l.writing.Store(false)
		_ = l.timeout(time.Time{}) // of HTTP/2 it would end the stream, whether anything is being written or not
		l.session.wrote(err, broker.Now())
	}()
	return len(b), true, nil
}

func (l *streamLink) pinned() int { return l.size }

// unread is not known: what comes is read at once.
func (l *streamLink) unread() bool { return false }

// finish closes at once: TLS and HTTP/2 tell the end of the stream themselves.
func (l *streamLink) finish() { l.close() }

// close may find a write under way; closing the connection ends it.
func (l *streamLink) close() { l.once.Do(l.end) }
