// Command bench measures push servers side by side: Sluice, the usual hub with goroutines per
// client (gohub), and the least that a Go server could do (goideal).
//
// For each scenario and target it starts the server pinned to one core, opens the subscribers
// from another core, publishes the way the server's users would (HTTP or Redis PUBLISH) and
// appends one JSON line to a file. Targets take turns within each repetition, so that what
// disturbs the machine disturbs all of them. `bench summary` makes the tables of
// docs/performance.md from such files; run.sh does everything in one go.
//
// The scenarios prices, laggards and idle-policy compare Sluice with itself instead: with what clients or
// the settings file ask for, and without. The first two also check what no policy may bring about,
// with the numbers in the payloads: that a client ends without the newest message of a key, that something
// comes twice, out of order or too often. A run in which that happens fails and is in no table.
//
// The scenario hostile compares Sluice with itself, too: beside 5,000 connections that want it to suffer, and without.
//
// How it measures:
//
//   - One goroutine reads all connections through one epoll instance with raw non-blocking system
//     calls and publishes in between. There is no goroutine and no buffer per connection, so that
//     the tool is not what limits the server.
//   - Paced stages keep a fixed rate. A message carries the time at which it was *due*, so a slow
//     server can't hide its delay by slowing the sender down. Saturated stages keep a number of
//     messages in flight.
//   - Every payload carries time, sequence number and channel. Loss, duplicates and reordering are
//     counted for every connection and channel.
//   - Messages with keys have them in turn, so a number tells the key. What comes together and has no key
//     twice is one delivery: that needs no parser, and works for every wire format.
//   - When nothing is ready the tool sleeps on the clock (-nap) and not in epoll. On one machine the
//     server would otherwise pay for waking the tool up, which clients elsewhere never cost it.
//     Latencies gain up to one nap.
//
// It runs on Linux only: epoll, taskset, /proc and sock_diag are what it is made of.
package main
