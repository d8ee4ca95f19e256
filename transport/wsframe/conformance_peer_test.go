package wsframe

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// echoLimits let the largest messages and the smallest fragments of the suite through.
var echoLimits = Limits{MaxMessage: 16 << 20, MaxFragments: 1 << 17}

// startEcho starts the server under test and returns its address. It ends with t, and waits for its connections.
func startEcho(t *testing.T) string {
	var conns sync.WaitGroup
	upgrader := websocket.Upgrader{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("handshake: %v", err)
			return
		}
		conns.Add(1)
		defer conns.Done()
		serveEcho(c.NetConn())
	}))
	t.Cleanup(func() {
		server.Close()
		conns.Wait()
	})
	return strings.TrimPrefix(server.URL, "http://")
}

// serveEcho is what a server does with a Decoder, at its simplest.
func serveEcho(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	var d Decoder
	h := &echo{conn: conn}
	b := make([]byte, 4096)
	for !h.closed {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		err = d.Feed(b[:n], echoLimits, h)
		var e *Error
		if errors.As(err, &e) {
			h.Close(e.Code, []byte(e.Reason))
		} else if err != nil {
			return
		}
	}
	// Closing now, with input unread, would send a reset, which can overtake the close frame.
	conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, conn)
}

// echo is a Handler that sends everything back.
type echo struct {
	conn   net.Conn
	out    []byte
	closed bool
}

func (e *echo) write(b []byte) error {
	e.out = b[:0]
	_, err := e.conn.Write(b)
	return err
}

func (e *echo) Message(data []byte, text bool) error {
	opcode := OpBinary
	if text {
		opcode = OpText
	}
	return e.write(AppendFrame(e.out, opcode, data))
}

func (e *echo) Ping(data []byte) error { return e.write(AppendFrame(e.out, OpPong, data)) }
func (e *echo) Pong([]byte) error      { return nil }
func (e *echo) Close(code uint16, reason []byte) error {
	e.closed = true
	return e.write(AppendClose(e.out, code, string(reason)))
}

// peer is the suite's client: it sends whatever it is told to, and reads what comes with no mercy.
type peer struct {
	conn   net.Conn
	in     *bufio.Reader
	random *rand.Rand
}

// patience bounds each connection of the suite.
const patience = 30 * time.Second

// dial makes the opening handshake.
func dial(t *testing.T, address string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	p := &peer{conn, bufio.NewReader(conn), rand.New(rand.NewPCG(6455, 13))}
	p.write(t, []byte("GET / HTTP/1.1\r\nHost: "+address+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"), 1<<30)
	response, err := http.ReadResponse(p.in, nil)
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	accept := response.Header.Get("Sec-WebSocket-Accept") // for that key, RFC 6455 §1.3
	if response.StatusCode != http.StatusSwitchingProtocols || accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("handshake: got %s and %q", response.Status, accept)
	}
	return p
}

// encode masks the frames, each with a key of its own.
func (p *peer) encode(frames []spec) []byte {
	var b []byte
	for _, f := range frames {
		var key [4]byte
		binary.LittleEndian.PutUint32(key[:], p.random.Uint32())
		b = appendMasked(slices.Grow(b, len(f.payload)+14), key, f.first, f.payload)
	}
	return b
}

// write sends b in writes of n bytes.
func (p *peer) write(t *testing.T, b []byte, n int) {
	t.Helper()
	for piece := range slices.Chunk(b, n) {
		if _, err := p.conn.Write(piece); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
}

// expect reads the events, and fails the test at the first that is another.
func (p *peer) expect(t *testing.T, want []event) {
	t.Helper()
	for _, w := range want {
		if got, err := p.read(); err != nil || got != w {
			t.Fatalf("got %v and error %v, want %v", got, err, w)
		}
	}
}

// expectEnd reads the server's close frame and the end of the stream.
func (p *peer) expectEnd(t *testing.T, code uint16) {
	t.Helper()
	got, err := p.read()
	if err != nil || got.kind != "close" {
		t.Fatalf("got %v and error %v, want close with code %d", got, err, code)
	}
	sent := CloseNoStatus
	if got.data != "" {
		sent = binary.BigEndian.Uint16([]byte(got.data))
	}
	if sent != code {
		t.Fatalf("got close code %d, want %d (%v)", sent, code, got)
	}
	if got, err := p.read(); err != io.EOF {
		t.Fatalf("after the close frame got %v and error %v, want the end of the stream", got, err)
	}
}

// quiet waits a moment in which nothing may come.
func (p *peer) quiet(t *testing.T) {
	t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := p.in.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the server said something (error %v), want silence", err)
	}
	p.conn.SetReadDeadline(time.Now().Add(patience))
}

// read reads one frame, which must be as a server has to send it: final, since echoes are not
// fragmented here, without RSV bits and mask, its length in the shortest form, text in UTF-8.
// It returns io.EOF only where a frame may begin.
func (p *peer) read() (event, error) {
	first, err := p.in.ReadByte()
	if err != nil {
		return event{}, err
	}
	kind, ok := map[byte]string{final | OpText: "text", final | OpBinary: "binary", final | OpClose: "close",
		final | OpPing: "ping", final | OpPong: "pong"}[first]
	if !ok {
		return event{}, errors.New("bad first byte of a frame")
	}
	n, err := p.readLength()
	if err != nil {
		return event{}, err
	}
	if first&0x08 != 0 && n > 125 {
		return event{}, errors.New("control frame over 125 bytes")
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(p.in, payload); err != nil {
		return event{}, errors.Join(io.ErrUnexpectedEOF, err)
	}
	text := payload
	if kind == "close" {
		if n == 1 {
			return event{}, errors.New("close frame of one byte")
		}
		text = payload[min(2, n):]
	}
	if (kind == "text" || kind == "close") && !utf8.Valid(text) {
		return event{}, errors.New("text is not valid UTF-8")
	}
	return event{kind, string(payload)}, nil
}

func (p *peer) readLength() (int, error) {
	b, err := p.in.ReadByte()
	if err != nil {
		return 0, errors.Join(io.ErrUnexpectedEOF, err)
	}
	var least, n uint64
	switch b {
	default:
		n = uint64(b)
	case 126:
		var long uint16
		err = binary.Read(p.in, binary.BigEndian, &long)
		least, n = 126, uint64(long)
	case 127:
		err = binary.Read(p.in, binary.BigEndian, &n)
		least = 1 << 16
	}
	switch {
	case err != nil:
		return 0, errors.Join(io.ErrUnexpectedEOF, err)
	case b > 127:
		return 0, errors.New("a server's frame is masked")
	case n < least || n > uint64(echoLimits.MaxMessage):
		return 0, errors.New("length not in its shortest form, or absurd")
	}
	return int(n), nil
}
