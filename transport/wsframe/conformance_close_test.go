package wsframe

import (
	"fmt"
	"strings"
)

// closeCases is group 7: the closing handshake, what may be in a close frame, and that nothing counts after it.
func closeCases() []conformanceCase {
	const hello = "Hello World!"
	bye := closeFrame(1000, "")
	fragment1, fragment2 := spec{more | OpText, "fragment1"}, spec{final, "fragment2"}
	large := strings.Repeat("BAsd7&jh23", 256<<10/10+1)[:256<<10]
	notText := kosme + "\xed\xa0\x80" + "edited"
	cases := []conformanceCase{
		{"7.1.1", "text, then close", one(send(textFrame(hello))), one(event{"text", hello}), clean()},
		{"7.1.2", "two close frames: the second is ignored", one(send(bye, spec{final | OpClose, ""})), nil, answered(1000)},
		{"7.1.3", "ping after close: no pong", one(send(bye, pingFrame(""))), nil, answered(1000)},
		{"7.1.4", "text after close: no echo", one(send(bye, textFrame(hello))), nil, answered(1000)},
		{"7.1.5", "fragment, close, fragment: no echo", one(send(fragment1, bye, fragment2)), nil, answered(1000)},
		{"7.1.6", "256 KiB, text, close, ping: both are echoed before the close (the suite takes any outcome)",
			one(send(textFrame(large), textFrame(hello), bye, pingFrame(""))), []event{{"text", large}, {"text", hello}}, answered(1000)},
		{"7.3.1", "close without payload: answered by the same", one(send(spec{final | OpClose, ""})), nil, answered(CloseNoStatus)},
		{"7.3.2", "close of one byte", one(send(spec{final | OpClose, "a"})), nil, failed(1002)},
		{"7.3.3", "close with code", one(send(bye)), nil, answered(1000)},
		{"7.3.4", "close with code and reason", one(send(closeFrame(1000, hello))), nil, answered(1000)},
		{"7.3.5", "close with the longest reason", one(send(closeFrame(1000, strings.Repeat("*", 123)))), nil, answered(1000)},
		{"7.3.6", "close with a reason of 124 bytes", one(send(closeFrame(1000, strings.Repeat("*", 124)))), nil, failed(1002)},
		{"7.5.1", "close with a reason that is not UTF-8", one(send(closeFrame(1000, notText))), nil, failed(1007)},
		{"7.13.1", "close code 5000 (the suite takes any outcome)", one(send(closeFrame(5000, ""))), nil, failed(1002)},
		{"7.13.2", "close code 65535 (the suite takes any outcome)", one(send(closeFrame(65535, ""))), nil, failed(1002)},
	}
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, conformanceCase{fmt.Sprintf("7.7.%d", i+1), fmt.Sprintf("valid close code %d is echoed", code),
			one(send(closeFrame(code, ""))), nil, answered(code)})
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		cases = append(cases, conformanceCase{fmt.Sprintf("7.9.%d", i+1), fmt.Sprintf("invalid close code %d", code),
			one(send(closeFrame(code, ""))), nil, failed(1002)})
	}
	return cases
}
