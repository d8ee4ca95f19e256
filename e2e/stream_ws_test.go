package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

const subprotocol = "sluice.v1.json"

// wsStream is GET /ws as a stream: bare payloads, or the envelopes of sluice.v1.json.
type wsStream struct {
	conn     *websocket.Conn
	envelope bool
}

// deadAfter is the silence after which a client takes its connection for dead: several heartbeats.
const deadAfter = 20 * time.Second

func openWS(ctx context.Context, url string, envelope bool) (*wsStream, error) {
	d := websocket.Dialer{HandshakeTimeout: 5 * time.Second}
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

// next implements stream.
func (s *wsStream) next() (event, error) {
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
	e.kind, e.token, e.data = e.body.Type, e.body.Token, e.body.payload()
	return e, nil
}

// send sends a command.
func (s *wsStream) send(command map[string]any) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	return s.conn.WriteJSON(command)
}

func (s *wsStream) close() { s.conn.Close() }
