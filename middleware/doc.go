// Package middleware is what stands in front of the transports: request middleware, which judges an
// HTTP request before a session exists and never sees a message.
//
// What it promises:
//   - A page from an origin that is not allowed gets no answer that it may read, no stream and no
//     WebSocket; one list decides for all of them (Origins).
package middleware
