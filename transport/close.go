package transport

// Close codes of RFC 6455 §7.4.1 and the 1012 and 1013 of the IANA registry; 4xxx are Sluice's own
// (docs/protocol.md).
const (
	closeUnsupported uint16 = 1003
	closePolicy      uint16 = 1008
	closeRestart     uint16 = 1012
	closeTryAgain    uint16 = 1013
	closeBad         uint16 = 4400
	closeDenied      uint16 = 4401
	closeSilent      uint16 = 4408
	closeTooFast     uint16 = 4429
)

// closeReason says why a session ended; it is counted.
type closeReason uint8

const (
	closedByPeer closeReason = iota
	closedByUs
	closedSlow   // it did not read
	closedSilent // it gave no sign of life
	closeReasons
)

var closeNames = [closeReasons]string{"peer", "server", "slow", "silent"}
