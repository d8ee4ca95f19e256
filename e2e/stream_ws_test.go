package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

const subprotocol = "sluice.v1.json"

// wsStream is GET /ws as a stream: bare payloads, or the envelopes of sluice.v1.json.
type wsStream struct {
	conn     *websocket.Conn
	envelope bool
	rest     []event // of a batch, to be returned before anything else
}

// dialFunc makes a connection.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// deadAfter is the silence after which a client takes its connection for dead: several heartbeats.
const deadAfter = 20 * time.Second

func openWS(ctx context.Context, url string, envelope bool) (*wsStream, error) {
	return openWSBy(ctx, nil, url, envelope)
}

// openWSBy is openWS over a connection that dial makes; nil: an ordinary one.
func openWSBy(ctx context.Context, dial dialFunc, url string, envelope bool) (*wsStream, error) {
	d := websocket.Dialer{HandshakeTimeout: 5 * time.Second, NetDialContext: dial}
	if envelope {
		d.Subprotocols = []string{subprotocol}
	}
	conn, res, err := d.DialContext(ctx, url, nil)
	if err != nil {
		if res != nil {
			b, _ := io.ReadAll(io.LimitReader(res.Body, 512))
			err = fmt.Errorf("%w: %s: %s", err, res.Status, b)
		}
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols || envelope && conn.Subprotocol() != subprotocol {
		conn.Close()
		return nil, fmt.Errorf("handshake: %s, subprotocol %q", res.Status, conn.Subprotocol())
	}
	s := &wsStream{conn: conn, envelope: envelope}
	alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(deadAfter)) }
	pong := conn.PingHandler()
	conn.SetPingHandler(func(data string) error { return errors.Join(alive(data), pong(data)) })
	_ = alive("")
	return s, nil
}

// next implements stream. A batch is returned as its messages, one by one.
func (s *wsStream) next() (event, error) {
	if len(s.rest) > 0 {
		e := s.rest[0]
		s.rest = s.rest[1:]
		return e, nil
	}
	kind, data, err := s.conn.ReadMessage()
	if err != nil {
		return event{}, err
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(deadAfter))
	if !s.envelope {
		return event{kind: "message", data: string(data)}, nil
	}
	var e event
	if kind != websocket.TextMessage {
		return e, fmt.Errorf("a frame of type %d", kind)
	}
	if err := json.Unmarshal(data, &e.body); err != nil {
		return e, fmt.Errorf("frame %.80q: %w", data, err)
	}
	if e.body.Type == "batch" {
		return s.unpack(&e.body)
	}
	e.kind, e.token, e.data = e.body.Type, e.body.Token, e.body.payload()
	return e, nil
}

// unpack returns the first message of a batch and keeps the others.
func (s *wsStream) unpack(batch *body) (event, error) {
	for i, m := range batch.Messages {
		if m.Type != "" || m.Channel != "" || m.Skipped != 0 {
			return event{}, fmt.Errorf("message %d of a batch repeats what the batch says: %+v", i, m)
		}
		m.Type, m.Channel = "message", batch.Channel
		if i == 0 {
			m.Skipped = batch.Skipped
		}
		s.rest = append(s.rest, event{kind: "message", data: m.payload(), body: m})
	}
	if len(s.rest) == 0 {
		return event{}, fmt.Errorf("a batch without messages: %+v", batch)
	}
	return s.next()
}

// send sends a command.
func (s *wsStream) send(command map[string]any) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	return s.conn.WriteJSON(command)
}

func (s *wsStream) close() { s.conn.Close() }
