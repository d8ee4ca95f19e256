package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// BenchmarkConnect is a whole connect over loopback, from the dial to the welcome, one after the other: without access rules, with
// a token that the node has seen before, and with a new one each time. Both sides are in it.
func BenchmarkConnect(b *testing.B) {
	secret := rand.Text() + rand.Text()
	nodes := map[string]*node{"open": startNode(b, "--dev"), "known": startNode(b, "--jwt-secret", secret)}
	nodes["new"] = nodes["known"]
	for _, over := range []string{"sse", "ws"} {
		for _, access := range []string{"open", "known", "new"} {
			b.Run(over+"/token="+access, func(b *testing.B) {
				n, header, i := nodes[access], "", 0
				for b.Loop() {
					if i++; access == "new" || access == "known" && header == "" {
						header = "Authorization: Bearer " + hs256(secret, i) + "\r\n"
					}
					if err := connect(n.Addr().String(), over, header); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// hs256 returns a token whose name is i, which lets its holder listen to channel a.
func hs256(secret string, i int) string {
	now := time.Now().Unix()
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(
		fmt.Appendf(nil, `{"sub":"alice","jti":"%d","iat":%d,"exp":%d,"subscribe":["news","a"]}`, i, now, now+3600))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// connect listens to channel a until it is welcome, and hangs up with a reset, which leaves nothing behind.
func connect(addr, over, header string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0)
	if over == "ws" {
		header += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sluice.v1.json\r\n"
	}
	if _, err := io.WriteString(c, "GET /"+over+"?channel=a HTTP/1.1\r\nHost: x\r\n"+header+"\r\n"); err != nil {
		return err
	}
	for r := bufio.NewReaderSize(c, 1024); ; {
		b, err := r.ReadSlice('}') // of the welcome, in either format
		if strings.Contains(string(b), "welcome") {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%.200q: %w", b, err)
		}
	}
}
