package wsframe

import "fmt"

// Close codes of RFC 6455 §7.4.1 and the IANA registry that this package decides about. Others go through.
const (
	CloseNormal         uint16 = 1000
	CloseProtocolError  uint16 = 1002
	CloseNoStatus       uint16 = 1005 // a close frame without a code; never on the wire
	CloseInvalidPayload uint16 = 1007
	CloseTooBig         uint16 = 1009
)

// Error says what a peer did that ends the connection. Both fields are fit for a close frame:
// AppendClose(dst, e.Code, e.Reason).
type Error struct {
	Code   uint16 // from a Decoder: CloseProtocolError, CloseInvalidPayload or CloseTooBig
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("websocket: %s (%d)", e.Reason, e.Code) }

func protocolError(reason string) error { return &Error{CloseProtocolError, reason} }
func tooBig(reason string) error        { return &Error{CloseTooBig, reason} }

// validCloseCode reports whether an endpoint may put code into a close frame: those that are defined
// for it (1004, 1005, 1006 and 1015 are not), and the ranges for libraries and for applications.
func validCloseCode(code uint16) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}
