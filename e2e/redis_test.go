package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/broker/redistest"
)

// redisServer is a redis-server as a publisher sees it that does not know Sluice.
type redisServer struct {
	*redistest.Server
	t *testing.T
}

// startRedis starts a server with the given configuration, names and values in turn.
func startRedis(t *testing.T, config ...string) *redisServer {
	t.Helper()
	var args []string
	for i := 0; i < len(config); i += 2 {
		args = append(args, "--"+config[i], config[i+1])
	}
	return &redisServer{redistest.Start(t, args...), t}
}

// do runs a command that must work and returns its answer as text.
func (s *redisServer) do(args ...any) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := s.Client().Do(ctx, args...).Result()
	if err != nil {
		s.t.Fatalf("redis: %.40q: %v", fmt.Sprint(args...), err)
	}
	return fmt.Sprint(v)
}

// fcall publishes a durable message the way any Redis client can.
func (s *redisServer) fcall(ctx context.Context, channel, id, data string) (published, error) {
	return s.send(ctx, outgoing{channel: channel, id: id, data: data})
}

// send is fcall as a sendFunc.
func (s *redisServer) send(ctx context.Context, m outgoing) (published, error) {
	channel := m.channel
	args := []any{m.data, "messages", 50000}
	for _, option := range [][2]string{{"id", m.id}, {"key", m.key}, {"event", m.event}} {
		if option[1] != "" {
			args = append(args, option[0], option[1])
		}
	}
	return receipt(s.Client().FCall(ctx, "sluice_publish", []string{channel}, args...))
}

// receipt reads the function's answer: the position, and whether the id was known.
func receipt(c *redis.Cmd) (p published, err error) {
	v, err := c.Slice()
	if err != nil {
		return p, err
	}
	if len(v) != 2 {
		return p, fmt.Errorf("sluice_publish answered %v", v)
	}
	p.Position, _ = v[0].(string)
	p.Duplicate = v[1] == int64(1)
	return p, nil
}
