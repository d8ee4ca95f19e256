package redis

import "sync/atomic"

// Stats counts what a Backend did since it was made. To be read only.
type Stats struct {
	Connections   atomic.Int64 // Pub/Sub connections that are up now
	Reconnects    atomic.Int64 // Pub/Sub connections made after one was lost
	Announcements atomic.Int64 // messages of publish functions received
	Raw           atomic.Int64 // messages of plain PUBLISH received
	Retries       atomic.Int64 // publishes tried again within their time
	Loads         atomic.Int64 // times the functions or scripts were missing and loaded

	DroppedTooLarge  atomic.Int64 // payloads over MaxPayload
	DroppedMalformed atomic.Int64 // announcements and stream entries that are not Sluice's
}
