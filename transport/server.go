// Package transport carries messages between a broker and its clients: Server-Sent Events,
// WebSocket, polls and the publish API, on one HTTP server (docs/protocol.md).
//
// What it promises:
//   - All transports serve the same sessions: same order, same resume tokens, same limits.
//   - A session that reads slowly costs nobody else anything: it is owed what is behind its cursors,
//     and at most one write, of some 16 KiB of payloads, is held for it.
//   - All that is ready for a session leaves in one write. After quiet a message leaves at once;
//     under load it waits at most Config.Coalesce for others.
//   - What a policy holds back stays in its channel's log. A writer has one timer for all that it will have
//     to look at again, and none while there is nothing.
//   - An idle session has no goroutine, no timer and no buffer (plain TCP on Linux).
//   - A server that stops tells its clients when to come back, and sends what it owes first.
package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"sluice/broker"
	"sluice/middleware"
	"sluice/otel"
	"sluice/static"
)

// Server serves the clients of one node.
type Server struct {
	broker  *broker.Broker
	config  Config
	log     *slog.Logger
	limits  *limits
	memory  *memoryGuard // nil: it is not limited
	handler http.Handler
	poller  *poller
	writers []*writer
	started time.Time

	ctx      context.Context // ends when the sessions are to be given up
	stop     context.CancelFunc
	running  sync.WaitGroup // writers, poller, readers
	draining atomic.Bool
	sessions atomic.Int64 // admitted and not ended
	policies *middleware.Policies
	next     atomic.Uint32
	reloads  atomic.Uint32 // calls of Reload
	counts   counts
	sockets  sockets
	failures rate.Sometimes // what publishers meet when the backend is away is logged now and then
	asked    atomic.Int32   // commands of other nodes that are being done
	faults   *faults        // nil unless Config.Faults
	surveys  chan struct{}  // full while the writers are asked for what operators want to know

	publishTime [carriers]*otel.Histogram // nil unless Config.Measured
}

// New returns a server for b. It starts nothing but opens the poller; call Serve, once.
func New(b *broker.Broker, c Config, log *slog.Logger) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Writers <= 0 {
		c.Writers = runtime.GOMAXPROCS(0)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{broker: b, config: c, policies: c.Policies, log: log, started: time.Now(), surveys: make(chan struct{}, 1)}
	if s.policies == nil {
		s.policies = new(middleware.Policies)
	}
	s.sockets.server = s
	s.failures.First, s.failures.Interval = 10, time.Second
	s.counts.init()
	if c.Measured() {
		s.publishTime[overHTTP], s.publishTime[overWS] = otel.PublishTime.Histogram(), otel.PublishTime.Histogram()
	}
	var err error
	if s.limits, err = newLimits(&c, log); err != nil {
		return nil, err
	}
	s.memory = newMemory(c.MemoryLimit)
	if s.poller, err = newPoller(); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	for range c.Writers {
		s.writers = append(s.writers, newWriter(s))
	}
	if c.Faults {
		s.faults = newFaults()
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.handler = s.routes()
	return s, nil
}

// routes mounts the endpoints behind the request middleware, here from the outermost to the innermost:
//
//	request id     is in the answer and in all that is logged about the request
//	chunks         make the request the last of its connection
//	access log     (access-log) sees every answer, also the refusals of those below
//	recover        makes a panic an answer like any other, 500
//	span           of a request to publish, or to listen; what is below is in it
//	origin, CORS   before all that refuses for other reasons, so that an allowed page can read why
//	rate limits    (connect-rate, client-command-rate, publish-rate) of the client's address, before anyone's credentials are looked at
//	capacity       (max-sessions, node-connect-rate, memory-limit) before anybody's credentials cost a look elsewhere
//	the handler    asks Access, then the limits of the subject (settle), and the size of the body
//
// The first four are for every path, the others for the endpoints of clients. WebSocket and streams over HTTP/1.1 leave
// net/http in the handler: nothing of the chain outlives their handshake.
func (s *Server) routes() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.handleError
	e.Use(middleware.RequestIDs(), lastIfChunked)
	if s.config.AccessLog {
		e.Use(middleware.AccessLog{Log: s.log, Clients: s.limits.clients}.Middleware())
	}
	e.Use(middleware.Recover{Log: s.log, Answer: func(echo.Context) error { return problem(Internal, "") }}.Middleware())
	if s.faults != nil {
		e.Use(s.barriers)
	}
	origins := middleware.Origins(s.config.Origins)
	cors := origins.Middleware(func(c echo.Context) error {
		return problem(OriginForbidden, "add the page's origin to the setting origins")
	})
	stream := s.limits.connects.Middleware(s.limits.clients, func(c echo.Context, wait time.Duration) error {
		return s.refuseSSE(c, s.limits.refuse(limitConnect, c.Request(), wait))
	})
	socket := s.limits.connects.Middleware(s.limits.clients, func(c echo.Context, wait time.Duration) error {
		return s.limits.refuse(limitConnect, c.Request(), wait)
	})
	publish := s.limits.publishes.Middleware(s.limits.clients, func(c echo.Context, wait time.Duration) error {
		return s.limits.refuse(limitPublish, c.Request(), wait)
	})
	polls := s.limits.commands.Middleware(s.limits.clients, func(c echo.Context, wait time.Duration) error {
		return s.limits.refuse(limitPoll, c.Request(), wait)
	})
	gateStream, gateSocket := s.gate(s.refuseSSE), s.gate(func(_ echo.Context, p *Problem) error {
		p.Retry = max(p.Retry, s.retry())
		return p
	})
	n := &s.counts
	e.GET("/sse", s.serveSSE, s.connecting(overSSE), counting(n.connects[overSSE]), cors, stream, gateStream)
	e.POST("/sse", s.servePostedSSE, s.connecting(overSSE), counting(n.connects[overSSE]), cors, stream, gateStream)
	e.GET("/ws", s.serveWS, s.connecting(overWS), counting(n.connects[overWS]), cors, socket, gateSocket)
	e.POST("/poll", s.servePoll, s.connecting(overPoll), counting(n.connects[overPoll]), cors, polls, gateSocket)
	e.POST("/publish", s.servePublish, s.tracing, counting(n.publishes[overHTTP]), cors, publish, s.spare)
	e.POST("/publish/*", s.servePublishRaw, s.tracing, counting(n.publishes[overHTTP]), cors, publish, s.spare)
	e.POST("/ack", s.serveAck, cors)
	e.POST("/sessions/:id", s.serveSession, cors)
	for _, path := range []string{"/sse", "/poll", "/publish", "/publish/*", "/ack", "/sessions/:id"} {
		e.OPTIONS(path, func(c echo.Context) error { return c.NoContent(http.StatusNoContent) }, cors)
	}
	if s.faults != nil {
		e.POST("/dev/break", s.serveBreak, cors)
	}
	e.GET("/healthz", s.serveHealth)
	e.GET("/readyz", s.serveReady)
	client := echo.WrapHandler(static.Client(s.config.Version))
	for _, path := range static.ClientPaths() {
		e.Match([]string{http.MethodGet, http.MethodHead}, path, client)
	}
	if s.config.Demo {
		e.GET("/demo.json", s.serveDemo)
		page := echo.WrapHandler(static.Handler())
		for _, path := range static.Paths() {
			e.Match([]string{http.MethodGet, http.MethodHead}, path, page)
		}
	}
	return e
}

// lastIfChunked closes the connection after a request that came in chunks. One that has a length as well must be the last (RFC 9112
// §6.1): a proxy that goes by the length takes the rest for its body, and this server for another request. net/http hides which
// have one; nor does it close after trailers that are too long, and takes what is left of them for a request.
func lastIfChunked(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if len(c.Request().TransferEncoding) > 0 {
			c.Response().Header().Set("Connection", "close")
		}
		return next(c)
	}
}

// Serve accepts connections from ln until ctx ends; then it drains: it accepts no more, tells every
// client when to come back, spreads that over Config.DrainTime, and returns nil when all are gone. With t it
// speaks TLS and HTTP/2, without it HTTP/1.1 and h2c.
func (s *Server) Serve(ctx context.Context, ln net.Listener, t *tls.Config) error {
	for _, w := range s.writers {
		s.running.Go(func() { w.loop(s.ctx) })
	}
	s.running.Go(func() { s.poller.run(s.ctx) })
	s.sockets.Listener = ln
	ln = &s.sockets
	hs := &http.Server{
		Handler:           s.handler,
		TLSConfig:         t,
		ReadHeaderTimeout: s.config.HeaderTimeout,
		ReadTimeout:       s.config.HeaderTimeout + s.config.BodyTimeout, // of requests; streams lift it
		WriteTimeout:      s.config.answerTime(),                         // from the end of the head on; streams lift it
		IdleTimeout:       s.config.IdleTimeout,
		MaxHeaderBytes:    s.config.MaxHeader,
		Protocols:         new(http.Protocols),
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250, WriteByteTimeout: s.config.WriteTimeout},
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetHTTP2(t != nil)
	hs.Protocols.SetUnencryptedHTTP2(t == nil)
	if s.memory != nil {
		s.running.Go(func() { s.memory.run(s.ctx, func() { s.shed(hs) }) })
	}
	failed := make(chan error, 1)
	go func() {
		if t != nil {
			failed <- hs.ServeTLS(ln, "", "")
		} else {
			failed <- hs.Serve(ln)
		}
	}()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		s.drain(hs)
		<-failed
	}
	s.stop()
	_ = hs.Close()
	s.running.Wait()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// shed makes room in memory: logs get shorter, and those go who hold what they do not read, or wait for another request while they
// are many.
func (s *Server) shed(hs *http.Server) {
	s.broker.Trim()
	if s.sockets.open.Load()-s.sessions.Load() > scarceSockets {
		hs.SetKeepAlivesEnabled(false) // closes those that are idle
		hs.SetKeepAlivesEnabled(true)
	}
	for _, w := range s.writers {
		w.post(w.shed)
	}
}

// drain lets the sessions go. http.Server.Shutdown knows nothing of hijacked connections, so they
// are told and waited for here; it then waits for requests and HTTP/2 streams.
func (s *Server) drain(hs *http.Server) {
	s.draining.Store(true)
	limit := s.config.DrainTime + 5*time.Second
	s.log.Info("draining", "sessions", s.sessions.Load(), "over", s.config.DrainTime)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, w := range s.writers {
		w.post(w.drain)
	}
	if err := hs.Shutdown(ctx); err != nil {
		s.log.Warn("some requests did not end in time", "err", err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.sessions.Load() > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// newSession returns a session with a writer of its own choice, not started.
func (s *Server) newSession(g Grant, over carrier) *session {
	w := s.writers[int(s.next.Add(1))%len(s.writers)]
	ss := &session{server: s, writer: w, over: over, id: newSessionID()}
	ss.holder.Store(&holder{g})
	return ss
}

// now is in milliseconds since the server was made, by the monotonic clock; never 0.
func (s *Server) now() int64 { return time.Since(s.started).Milliseconds() + 1 }

// retry is when a client may come back: spread, so that they don't come all at once.
func (s *Server) retry() time.Duration {
	return s.config.Retry + rand.N(max(s.config.Retry, time.Millisecond))
}

// side runs n pieces of work, some of them at once, and waits for all.
func (s *Server) side(n int, do func(i int)) {
	var wg sync.WaitGroup
	lanes := min(n, 16)
	for lane := range lanes {
		wg.Go(func() {
			for i := lane; i < n; i += lanes {
				do(i)
			}
		})
	}
	wg.Wait()
}

func emptyReader() *bufio.Reader { return bufio.NewReaderSize(strings.NewReader(""), 16) }

// handleError answers whatever a handler returned.
func (s *Server) handleError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	var he *echo.HTTPError
	p := problemOf(err)
	if errors.As(err, &he) {
		switch he.Code {
		case http.StatusNotFound:
			p = problem(NotFound, "see docs/protocol.md for the endpoints")
		case http.StatusMethodNotAllowed:
			p = problem(MethodNotAllowed, "")
		default:
			p = problem(BadRequest, "")
		}
	}
	if p.Code == Internal {
		id := middleware.RequestID(c)
		s.log.ErrorContext(c.Request().Context(), "request failed", "path", c.Path(), "request_id", id, "err", err)
		p = problem(Internal, "tell the operator the request id "+id)
	}
	p.write(c.Response())
}
