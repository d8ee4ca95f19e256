package transport

import (
	"bytes"
	"encoding/json"
	"io"
)

// maxDepth is how deep objects and arrays may be nested in what clients send as JSON. encoding/json goes down to 10,000.
const maxDepth = 64

// maxKeys is how many members an object of ours is looked through for; it has no more than that.
const maxKeys = 24

// decodeOnly reads data into in and says what is wrong with it: that it is not JSON, has a field that in does not have, or is not alone. "" is
// nothing. What encoding/json takes nevertheless is for checkJSON.
func decodeOnly(data []byte, in any) string {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return plain(err)
	}
	if _, extra := d.Token(); extra != io.EOF {
		return "something follows it"
	}
	return ""
}

// checkJSON says what is wrong with JSON that encoding/json would take: that it is nested too deeply, or that the object at depth
// objects has a member twice, of which the last would count here and perhaps the first in front of here. "" is nothing; JSON that
// is none is left to encoding/json. It is one pass, and copies nothing.
func checkJSON(b []byte, objects int) string {
	var keys [maxKeys][]byte
	depth, n := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return "it is nested more than 64 deep"
			}
			if depth == objects {
				n = 0
			}
		case '}', ']':
			depth--
		case '"':
			end := endOfString(b, i+1)
			text := b[i+1 : end]
			i = end
			if depth != objects || !isKey(b[min(end+1, len(b)):]) {
				continue
			}
			if bytes.IndexByte(text, '\\') >= 0 {
				return "a member's name has an escape in it"
			}
			for _, k := range keys[:n] {
				if bytes.EqualFold(k, text) { // as encoding/json compares them
					return "a member is there twice"
				}
			}
			if n == maxKeys {
				return "it has too many members"
			}
			keys[n] = text
			n++
		}
	}
	return ""
}

// endOfString returns where the string that begins at i ends: the index of its quote, or len(b).
func endOfString(b []byte, i int) int {
	for {
		q := bytes.IndexByte(b[i:], '"')
		if q < 0 {
			return len(b)
		}
		end := i + q
		escapes := 0
		for end-1-escapes >= i && b[end-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		i = end + 1
	}
}

// isKey reports whether what follows a string makes it a member's name.
func isKey(b []byte) bool {
	for _, c := range b {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == ':'
		}
	}
	return false
}
