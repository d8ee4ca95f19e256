// Package auth decides who may listen and who may publish (docs/security.md).
//
// What it promises:
//   - Closed by default: what no rule, token, key or backend allows is refused, and what can't be decided, because a
//     key set or a webhook is away, is refused too, as something to try again.
//   - One place: all transports ask the same Guard, and it answers with a Grant that holds until it expires or is revoked.
//   - What strangers send costs a bounded amount of memory and time, and decides about no I/O: a key ID is only looked up.
//   - No error, and nothing that is logged, repeats a credential or a part of one.
//
// It knows no messages and no sockets.
package auth
