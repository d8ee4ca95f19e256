package broker

import "errors"

var (
	// ErrUnavailable: the backend can't be reached or did not answer in time. Retry later, with the same ID.
	ErrUnavailable = errors.New("backend unavailable")
	// ErrClosed: the broker has been shut down.
	ErrClosed = errors.New("broker closed")
	// ErrChannel: the name breaks the grammar of channel names.
	ErrChannel = errors.New("bad channel name")
	// ErrTooLarge: the payload, event name, key or ID is over its limit.
	ErrTooLarge = errors.New("too large")
	// ErrMessage: the message has something in it that can't be delivered faithfully.
	ErrMessage = errors.New("bad message")
	// ErrRevocation: the revocation names nothing that can be stored.
	ErrRevocation = errors.New("bad revocation")
	// ErrRevocationsFull: MaxRevocations are in force; there is room when some of them have ended.
	ErrRevocationsFull = errors.New("too many revocations")
	// ErrNoAnswer: no other node has what was asked for.
	ErrNoAnswer = errors.New("no other node has answered")
)
