// Package redistest runs real redis-server processes for tests, and kills, pauses and restarts them.
//
// Servers listen on a free loopback port, keep their files in the test's own directory, and end
// with the test, even if that crashes (Linux). The binary is $REDIS_SERVER_BIN, or redis-server or
// valkey-server of the path. If there is none the test is skipped, or fails if SLUICE_REQUIRE_REDIS=1.
package redistest

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startTimeout bounds how long a server may take until it answers PING.
const startTimeout = 15 * time.Second

// Server is one redis-server process. Its methods are for the test's own goroutine.
type Server struct {
	t      testing.TB
	binary string
	dir    string
	port   atomic.Int32
	args   []string
	user   *url.Userinfo // of URL; nil: everybody may do everything
	tls    *TLS          // nil: plain
	client *redis.Client

	process *exec.Cmd     // nil while it is not running
	exited  chan struct{} // closed when process has been waited for
}

// Start runs a server without persistence and waits until it answers. args are further
// configuration arguments, such as "--appendonly", "yes", "--appendfsync", "always".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return (&Server{t: t, binary: Binary(t), dir: t.TempDir(), args: args}).start()
}

// User and Password are those of StartUser.
const (
	User     = "sluice"
	Password = "s3cret/with:odd@characters"
)

// admin is the user of Client where nobody may do everything.
const (
	admin         = "admin"
	adminPassword = "admin's"
)

// StartUser is Start with access control: the default user is off, and URL is that of User, who may do
// what the rules of ACL SETUSER say, such as "+ping", "~*". Client may do everything.
func StartUser(t testing.TB, rules []string, args ...string) *Server {
	t.Helper()
	args = append(args, "--user", "default", "off", "--user", admin, "on", ">"+adminPassword, "~*", "&*", "+@all")
	args = append(append(args, "--user", User, "on", ">"+Password), rules...)
	s := &Server{t: t, binary: Binary(t), dir: t.TempDir(), args: args, user: url.UserPassword(User, Password)}
	return s.start()
}

func (s *Server) start() *Server {
	t := s.t
	t.Helper()
	s.client = s.newClient()
	t.Cleanup(s.close)
	// Between finding a free port and the server taking it somebody else may: try another one then.
	for range 5 {
		s.port.Store(int32(freePort(t)))
		if err := s.run(); err == nil {
			return s
		}
	}
	t.Fatalf("redis-server did not start:\n%s", s.Log())
	return nil
}

// Binary returns the path of the server binary, or skips or fails the test if there is none.
func Binary(t testing.TB) string {
	t.Helper()
	names := []string{"redis-server", "valkey-server"}
	if b := os.Getenv("REDIS_SERVER_BIN"); b != "" {
		names = []string{b}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const help = "needs a Redis server: put redis-server or valkey-server on the path, or set REDIS_SERVER_BIN"
	if os.Getenv("SLUICE_REQUIRE_REDIS") == "1" {
		t.Fatal(help)
	}
	t.Skip(help)
	return ""
}

// Addr returns host:port.
func (s *Server) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(s.port.Load())))
}

// URL returns the address as Sluice's and go-redis' settings take it.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.Addr(), User: s.user}
	if s.tls != nil {
		u.Scheme = "rediss"
	}
	return u.String()
}

// Client returns a client for the test's own commands. It is closed with the test; several
// goroutines may use it.
func (s *Server) Client() *redis.Client { return s.client }

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Kill ends the server as a crash does: SIGKILL.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server in order: SIGTERM. Clients see their connections close.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Pause stops the process with SIGSTOP: its connections stay open, and nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// Restart starts the server again, after Kill or Stop or instead of them, on the same port and
// with the same files, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.run(); err != nil {
		s.t.Fatalf("restart redis-server: %v\n%s", err, s.Log())
	}
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "redis.log") }

func (s *Server) newClient() *redis.Client {
	o := &redis.Options{
		// The port is not known yet, and it is the same after a restart.
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.dial(ctx)
		},
		Protocol:                 2,
		DisableIdentity:          true,
		DialerRetries:            1,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if s.user != nil {
		o.Username, o.Password = admin, adminPassword
	}
	return redis.NewClient(o)
}

// run starts the process and waits for its first PONG; LOADING is no answer.
func (s *Server) run() error {
	port := []string{"--port", strconv.Itoa(int(s.port.Load()))}
	if s.tls != nil {
		port = s.tls.args(int(s.port.Load()))
	}
	args := append(port, []string{
		"--bind", "127.0.0.1", "--dir", s.dir, "--logfile", s.logFile(),
		"--save", "", "--daemonize", "no",
	}...)
	args = append(args, s.args...)
	s.process = exec.Command(s.binary, args...)
	s.process.SysProcAttr = dieWithParent()
	if err := s.process.Start(); err != nil {
		s.process = nil
		return err
	}
	s.exited = make(chan struct{})
	go func(p *exec.Cmd, exited chan struct{}) {
		_ = p.Wait() // that it was killed is no news
		close(exited)
	}(s.process, s.exited)

	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			s.process = nil
			return err
		case <-ctx.Done():
			s.Kill()
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// dial connects as Client does.
func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	if s.tls != nil {
		d := tls.Dialer{Config: s.tls.client()}
		return d.DialContext(ctx, "tcp", s.Addr())
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.Addr())
}

// ping asks over a fresh connection: the pool's may still be those of the previous process.
func (s *Server) ping(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.Addr()) // go-redis would log every refusal
	if err != nil {
		return err
	}
	_ = conn.Close()
	c := s.newClient()
	defer c.Close()
	return c.Ping(ctx).Err()
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatalf("%v: redis-server is not running", sig)
	}
	if err := s.process.Process.Signal(sig); err != nil {
		s.t.Fatalf("%v to redis-server: %v", sig, err)
	}
}

func (s *Server) end(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(sig)             // it may be gone already
	_ = s.process.Process.Signal(syscall.SIGCONT) // a paused process would never see SIGTERM
	<-s.exited
	s.process = nil
}

func (s *Server) close() {
	_ = s.client.Close()
	s.Kill()
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
