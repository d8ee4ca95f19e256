package redis

import (
	"sync/atomic"

	"sluice/otel"
)

// Stats counts what a Backend did since it was made. To be read only.
type Stats struct {
	Connections   atomic.Int64 // Pub/Sub connections that are up now
	Reconnects    atomic.Int64 // attempts to make a Pub/Sub connection again
	Announcements atomic.Int64 // messages of publish functions received
	Raw           atomic.Int64 // messages of plain PUBLISH received
	Retries       atomic.Int64 // publishes tried again within their time
	Loads         atomic.Int64 // times the functions or scripts were missing and loaded

	DroppedTooLarge  atomic.Int64 // payloads over MaxPayload
	DroppedMalformed atomic.Int64 // announcements and stream entries that are not Sluice's
}

// Measure tells the backend's numbers.
func (b *Backend) Measure(r *otel.Readings) {
	s := &b.stats
	connected := 0.0
	if b.Connected() {
		connected = 1
	}
	r.Value(otel.RedisConnected, connected)
	r.Value(otel.RedisConnections, float64(s.Connections.Load()))
	r.Value(otel.RedisReconnects, float64(s.Reconnects.Load()))
	r.Value(otel.RedisReceived, float64(s.Announcements.Load()), "announcement")
	r.Value(otel.RedisReceived, float64(s.Raw.Load()), "plain")
	r.Value(otel.RedisDropped, float64(s.DroppedTooLarge.Load()), "too_large")
	r.Value(otel.RedisDropped, float64(s.DroppedMalformed.Load()), "malformed")
	r.Value(otel.RedisRetries, float64(s.Retries.Load()))
	r.Value(otel.RedisLoads, float64(s.Loads.Load()))
}
