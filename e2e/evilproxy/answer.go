package evilproxy

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// answer passes an answer on and reports whether the client may send another request.
func (l *link) answer(req *http.Request, res *http.Response) bool {
	res.Header.Del("Connection")
	stream := strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	encoding := res.Header.Get("Content-Encoding")
	plain := (encoding == "" || encoding == "identity") && res.ContentLength != 0 && strings.Contains(req.Header.Get("Accept-Encoding"), "gzip")
	var err error
	switch a := l.mode.Answers; {
	case a == AnswersRefused && stream:
		l.refuse(http.StatusServiceUnavailable)
		return false
	case a == AnswersHeld:
		err = l.hold(res)
	case a == AnswersHeld16K && res.ContentLength < 0:
		err = l.send(res, false, func(w io.Writer) error { return inBlocks(w, res.Body) })
	case plain && (a == AnswersGzip || a == AnswersGzipPolite && mayChange(res)):
		res.Header.Set("Content-Encoding", "gzip")
		res.Header.Del("Content-Length")
		res.ContentLength = -1
		err = l.send(res, true, func(w io.Writer) error {
			z := gzip.NewWriter(w)
			_, err := io.Copy(z, res.Body)
			return errors.Join(err, z.Close())
		})
	default:
		if a == AnswersHTML && stream {
			res.Header.Set("Content-Type", "text/html")
		}
		err = l.send(res, true, func(w io.Writer) error { return l.pass(w, res.Body) })
	}
	return err == nil && !l.mode.HTTP10
}

// mayChange reports whether an answer may be compressed by who passes it on (RFC 9111 §5.2.2.6).
func mayChange(res *http.Response) bool {
	return res.Header.Get("Content-Encoding") == "" && !strings.Contains(res.Header.Get("Cache-Control"), "no-transform")
}

// hold sends a whole answer, once it is there.
func (l *link) hold(res *http.Response) error {
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	l.touch()
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	res.ContentLength = int64(len(body))
	return l.send(res, true, func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	})
}

// inBlocks copies in blocks of 16 KiB, each with one write.
func inBlocks(w io.Writer, r io.Reader) error {
	block := make([]byte, 16<<10)
	for {
		n, err := io.ReadFull(r, block)
		if n > 0 {
			if _, err := w.Write(block[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// pass copies what comes as it comes, while the link is not lost.
func (l *link) pass(w io.Writer, r io.Reader) error {
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		if n > 0 && !l.lost.Load() {
			l.touch()
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
		}
		if l.lost.Load() && err != nil {
			_, _ = io.Copy(io.Discard, l.in) // until the client gives up
			return io.ErrClosedPipe
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// send sends a head and what body writes, in the framing of the answer. The head is early, or comes with the first of the body.
func (l *link) send(res *http.Response, early bool, body func(io.Writer) error) error {
	version := "HTTP/1.1"
	chunked := res.ContentLength < 0 && !l.mode.HTTP10
	switch {
	case chunked:
		res.Header.Set("Transfer-Encoding", "chunked")
	case l.mode.HTTP10:
		version = "HTTP/1.0"
		res.Header.Set("Connection", "close")
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %03d %s\r\n", version, res.StatusCode, http.StatusText(res.StatusCode))
	_ = res.Header.Write(&head) // a Buffer takes everything
	head.WriteString("\r\n")
	out := &framed{w: l.client, chunked: chunked, head: head.Bytes()}
	if early {
		if _, err := l.client.Write(head.Bytes()); err != nil {
			return err
		}
		out.head = nil
	}
	if err := body(out); err != nil {
		return err
	}
	return out.end()
}

// framed writes a body, in chunks if it is to be, with a head in front that waits for it.
type framed struct {
	w       io.Writer
	head    []byte
	chunked bool
}

func (f *framed) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil // an empty chunk would be the last
	}
	frame := f.head
	f.head = nil
	if f.chunked {
		frame = fmt.Appendf(frame, "%x\r\n%s\r\n", len(b), b)
	} else {
		frame = append(frame, b...)
	}
	if _, err := f.w.Write(frame); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *framed) end() error {
	last := f.head
	if f.chunked {
		last = append(last, "0\r\n\r\n"...)
	}
	_, err := f.w.Write(last)
	return err
}
