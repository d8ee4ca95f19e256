package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TLS is a certificate authority of a test's own, with certificates for 127.0.0.1 and for a client, in PEM files.
type TLS struct {
	CA                    string // certificate of the authority
	ServerCert, ServerKey string
	ClientCert, ClientKey string
}

// NewTLS makes an authority that nobody has heard of before.
func NewTLS(t testing.TB) *TLS {
	t.Helper()
	dir := t.TempDir()
	caKey, ca := newKey(t), &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority " + rand.Text()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c := &TLS{CA: write(t, dir, "ca.pem", "CERTIFICATE", sign(t, ca, ca, caKey, caKey))}
	leaf := func(name string, use x509.ExtKeyUsage) (cert, key string) {
		k := newKey(t)
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		x := &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
		}
		return write(t, dir, name+".pem", "CERTIFICATE", sign(t, x, ca, k, caKey)), write(t, dir, name+".key", "PRIVATE KEY", der)
	}
	c.ServerCert, c.ServerKey = leaf("server", x509.ExtKeyUsageServerAuth)
	c.ClientCert, c.ClientKey = leaf("client", x509.ExtKeyUsageClientAuth)
	return c
}

// StartTLS is Start for a server that speaks TLS only and wants a client certificate of c's authority. It skips the
// test if the binary can't.
func StartTLS(t testing.TB, c *TLS, args ...string) *Server {
	t.Helper()
	binary := Binary(t)
	probe := exec.Command(binary, "--port", "0", "--tls-port", "0") // it ends at once: there is nothing to listen on
	if out, _ := probe.CombinedOutput(); strings.Contains(string(out), "Bad directive") {
		t.Skipf("%s knows no TLS", binary)
	}
	return (&Server{t: t, binary: binary, dir: t.TempDir(), args: args, tls: c}).start()
}

// args are those of a server that listens on a port.
func (c *TLS) args(port int) []string {
	return []string{
		"--port", "0", "--tls-port", strconv.Itoa(port), "--tls-ca-cert-file", c.CA,
		"--tls-cert-file", c.ServerCert, "--tls-key-file", c.ServerKey, "--tls-auth-clients", "yes",
	}
}

// client is what Server.Client connects with: the test looks at others' certificates, not at its own.
func (c *TLS) client() *tls.Config {
	pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
	if err != nil {
		return &tls.Config{MinVersion: tls.VersionTLS12} // the server refuses it
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign returns a certificate for key, by the parent's.
func sign(t testing.TB, x, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	x.SerialNumber, x.NotBefore, x.NotAfter = serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, x, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t testing.TB, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
