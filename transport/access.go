package transport

import "net/http"

// Access is the one place where it is asked who may do what: once per request or handshake, before
// a session exists. An error is answered with the code forbidden (403) and its text.
// Implementations are called concurrently and must not keep the request.
type Access interface {
	Authorize(r *http.Request) (Grant, error)
}

// Grant is what one caller may do; a session keeps its grant as long as it lives and asks it again
// for every channel. A nil error lets the caller in; any other is answered with forbidden and its text.
// Methods are called concurrently.
//
// A Grant that knows who it is for may have the method Subject() string, constant for its life: a stable name,
// the same for all credentials of that user or service, "" if there is none. What has a subject is limited by it
// and no longer by its address.
//
// A Grant may have the method Trace() error, which says whether its sessions may ask for traces of all their messages (trace=1);
// without it they may not.
type Grant interface {
	Subscribe(channel string) error
	Publish(channel string) error
}
