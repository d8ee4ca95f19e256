// Package otel is what a node tells about itself: its metrics, all of them on one page (metrics.go), and what the OTEL_*
// variables of the environment have it export (telemetry.go).
//
// What it promises:
//   - Observing costs a few nanoseconds and no allocation: a Histogram is plain buckets. Those who observe often have
//     one of their own, and they are added up when somebody asks.
//   - Nothing is computed while nobody asks. Counters live where things are counted; a Source reads them.
//   - Counts of buckets are exact: what is at most a bound is counted under it.
//   - Labels take their values from closed sets, but for the patterns of channel rules, which the operator writes. No
//     channel's, user's or token's name is a label.
//   - Nothing is exported unless the environment asks for it; then what goes out over OTLP is what the page says.
//   - A span that has ended is exported, failed or dropped, and counted as one of them. Whatever a collector does, nothing
//     waits for it but Shutdown, and that for some seconds.
//   - What nobody may see of the environment (credentials, headers) is in no error and no log line.
package otel
