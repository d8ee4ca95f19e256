package transport

import (
	"io"
	"net/http"
)

// promised is up to which length a body's buffer is made before it is there.
const promised = 64 << 10

// readBody reads the body of r to its end. The buffer grows with what has come, not with what was announced: else a header
// would be enough to take memory. Bounding it is the caller's.
func readBody(r *http.Request) ([]byte, error) {
	body := make([]byte, 0, min(max(r.ContentLength, 512), promised)+1) // one more, so that the end is seen without growing
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, err
		}
		if len(body) == cap(body) {
			size := 2 * cap(body)
			if r.ContentLength >= 0 {
				size = min(size, int(r.ContentLength)+1)
			}
			grown := make([]byte, len(body), max(size, len(body)+1))
			copy(grown, body)
			body = grown
		}
	}
}
