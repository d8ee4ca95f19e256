package main

import (
	"bytes"
	"strconv"
	"strings"
)

// httpReply returns the length of the first HTTP response in b, 0 if it is not complete, and what
// it says if it is not a success.
func httpReply(b []byte) (n int, problem string) {
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		return 0, ""
	}
	head := strings.ToLower(string(b[:i+2]))
	n = i + 4
	if _, v, ok := strings.Cut(head, "content-length: "); ok {
		length, _ := strconv.Atoi(v[:strings.IndexByte(v, '\r')])
		n += length
	} else if strings.Contains(head, "transfer-encoding: chunked") {
		end := bytes.Index(b[n:], []byte("0\r\n\r\n"))
		if end < 0 {
			return 0, ""
		}
		n += end + 5
	}
	if len(b) < n {
		return 0, ""
	}
	if !strings.HasPrefix(head, "http/1.1 2") || strings.HasPrefix(head, "http/1.1 207") { // 207: some of an array
		problem = string(b[:min(n, 300)])
	}
	return n, problem
}

// redisReply does the same for the answer to a PUBLISH: an integer or an error.
func redisReply(b []byte) (n int, problem string) {
	i := bytes.Index(b, []byte("\r\n"))
	if i < 0 {
		return 0, ""
	}
	if b[0] != ':' {
		problem = string(b[:i])
	}
	return i + 2, problem
}
