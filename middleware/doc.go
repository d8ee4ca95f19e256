// Package middleware is what stands in front of the transports and between the broker and them. Two
// kinds, in one folder: request middleware, which judges an HTTP request before a session exists and never
// sees a message, and delivery stages, which decide what becomes of messages and never see a request.
//
// What request middleware promises:
//   - A page from an origin that is not allowed gets no answer that it may read, no stream and no
//     WebSocket; one list decides for all of them (Origins).
//   - Who a client is, is said in one place (Clients). No header of a stranger changes it.
//   - A client does no more than its rate, whatever it claims to be; memory is bounded (Limiter). Who
//     waits as long as it was told is not refused again, unless it has been at it elsewhere.
//   - Logs have no query string, no header but the request id, and one line for each request (AccessLog).
//   - Nothing of this is left of a request once its stream or WebSocket has begun.
//
// What the stages promise (Filter, Conflate, Throttle, Batch; Policies puts them in a row), in this order and in any
// other in which Filter stands before Conflate:
//   - What goes out is a part of what was published, in its order.
//   - Of what is conflated, the newest of each key that passes the filter goes out.
//   - There are never two deliveries in one interval, and the last state is late by the longer of interval and window at most.
//   - A batch never waits longer than its window and never has more messages than it may.
//   - A filter costs a payload's length at most, for each of its parts; it can't fail, and nothing that a subscriber
//     writes lets through what the operator's filter drops.
//   - Whoever is under the same policy shares one evaluation.
package middleware
