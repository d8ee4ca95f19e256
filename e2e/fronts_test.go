package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"sluice/e2e/evilproxy"
)

// front is one way to a node: a proxy in one configuration.
type front struct {
	name string
	url  string // without a slash at the end
}

// alone ends the names of fronts whose pages may use streams only: WebSockets would win.
const alone = ", streams alone"

// fronts are proxies in all their configurations. Each has an address of its own, 127.0.1.n: browsers open one WebSocket after the other to
// the same address (RFC 6455 §4.1), so that one that hangs would hold up those of other fronts.
type fronts struct {
	t     *testing.T
	dir   string
	pem   string // a certificate for all addresses and its key, in one file
	own   string // host:port of a node, which takes its own pages only
	brisk string // host:port of one that holds polls for less than evilproxy.Limit besides
	all   []front
	hosts map[string]string // by name of the front
	port  int               // of the process that is being started
	http  *http.Client
}

// newFronts has no fronts yet. The nodes are own and brisk, in this order.
func newFronts(t *testing.T, nodes []*node) *fronts {
	t.Helper()
	f := &fronts{t: t, dir: t.TempDir(), own: nodes[0].addr, brisk: nodes[1].addr, hosts: map[string]string{}, http: httpClient(t, 5*time.Second)}
	f.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	f.pem = filepath.Join(f.dir, "edge.pem")
	if err := os.WriteFile(f.pem, selfSigned(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// startFrontNodes starts the nodes behind fronts. Their heartbeat is to the limits of 5 s as the usual one is to those of the world.
func startFrontNodes(t *testing.T) []*node {
	t.Helper()
	start := func(name string, flags ...string) *node {
		return startNode(t, name, append(flags, "--heartbeat", "2s", "--history-messages", "5000")...)
	}
	return []*node{start("own"), start("brisk", "--poll-wait", "3s")}
}

// host is the address of a front. It is the same however often it is asked for.
func (f *fronts) host(name string) string {
	if f.hosts[name] == "" {
		f.hosts[name] = fmt.Sprintf("127.0.1.%d", 1+len(f.hosts))
	}
	return f.hosts[name]
}

// at is the address and port of a front of the process that is being started.
func (f *fronts) at(name string) string { return fmt.Sprintf("%s:%d", f.host(name), f.port) }

// add adds the fronts of names, which are there.
func (f *fronts) add(scheme string, names ...string) {
	for _, name := range names {
		f.all = append(f.all, front{name, scheme + "://" + f.at(name)})
	}
}

// write fills proxies/name with addresses and returns where it is, and the fronts in it. recommended is the file of deploy/proxies that it
// includes.
func (f *fronts) write(name, recommended string) (path string, names []string) {
	f.t.Helper()
	seen := map[string]bool{}
	file, err := template.New(name).Funcs(template.FuncMap{"host": f.host, "at": func(front string) string {
		if !seen[front] {
			seen[front] = true
			names = append(names, front)
		}
		return f.at(front)
	}}).ParseFiles(filepath.Join("proxies", name))
	if err != nil {
		f.t.Fatal(err)
	}
	var text strings.Builder
	if err := file.Execute(&text, map[string]string{"Dir": f.dir, "Own": f.own, "Modules": "/usr/lib/apache2/modules", "Recommended": recommended}); err != nil {
		f.t.Fatal(err)
	}
	return f.save(name, text.String()), names
}

// recommended writes a file of deploy/proxies with other names, addresses and certificates in it: old ones and new ones in turn, each of
// which must be there.
func (f *fronts) recommended(name string, swaps ...string) string {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "deploy", "proxies", name))
	if err != nil {
		f.t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(swaps); i += 2 {
		if !strings.Contains(text, swaps[i]) {
			f.t.Fatalf("deploy/proxies/%s has no %q", name, swaps[i])
		}
		text = strings.ReplaceAll(text, swaps[i], swaps[i+1])
	}
	return f.save("recommended-"+name, text)
}

func (f *fronts) save(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// start starts a proxy and adds its fronts: plain ones of the file in proxies/, and the recommended one, which has TLS.
func (f *fronts) start(program, recommended string, command func(path string) (*exec.Cmd, []string)) {
	f.t.Helper()
	path := wantProgram(f.t, "PROXIES", program, "install nginx, haproxy, apache2 and caddy", program, "/usr/sbin/"+program)
	var names []string
	startProcess(f.t, program, 1, func(ports []int) (cmd *exec.Cmd) {
		f.port = ports[0]
		cmd, names = command(path)
		return cmd
	}, func(ctx context.Context, _ []int) error {
		for _, name := range names {
			if err := answers(ctx, f.http, "http://"+f.at(name)+"/healthz"); err != nil {
				return err
			}
		}
		return answers(ctx, f.http, "https://"+f.at(recommended)+"/healthz")
	})
	f.add("http", names...)
	f.add("https", recommended, recommended+alone)
}

func (f *fronts) startNginx() {
	const best = "nginx, recommended, HTTP/2"
	f.start("nginx", best, func(path string) (*exec.Cmd, []string) {
		config, names := f.write("nginx.conf", f.recommended("nginx.conf",
			"listen 443 ", "listen "+f.at(best)+" ssl http2; listen "+f.at(best+alone)+" ", "/etc/ssl/edge.example.com.pem", f.pem, "/etc/ssl/edge.example.com.key", f.pem, "127.0.0.1:8080", f.own))
		return exec.Command(path, "-p", f.dir, "-e", "stderr", "-c", config), names
	})
}

func (f *fronts) startHAProxy() {
	const best = "HAProxy, recommended, HTTP/2"
	f.start("haproxy", best, func(path string) (*exec.Cmd, []string) {
		config, names := f.write("haproxy.cfg", "")
		return exec.Command(path, "-db", "-f", f.recommended("haproxy.cfg",
			"maxconn 20000", "maxconn 400", "bind :443 ", "bind "+f.at(best)+","+f.at(best+alone)+" ", "/etc/haproxy/edge.example.com.pem", f.pem, "127.0.0.1:8080", f.own), "-f", config), names
	})
}

func (f *fronts) startApache() {
	const best = "Apache, recommended, HTTP/2"
	var cmd *exec.Cmd
	f.start("apache2", best, func(path string) (*exec.Cmd, []string) {
		config, names := f.write("apache.conf", f.recommended("apache.conf",
			"*:443", f.at(best)+" "+f.at(best+alone), "/etc/ssl/edge.example.com.pem", f.pem, "/etc/ssl/edge.example.com.key", f.pem, "127.0.0.1:8080", f.own))
		plain := names[:0]
		for _, name := range names {
			if !strings.HasPrefix(name, best) {
				plain = append(plain, name)
			}
		}
		cmd = exec.Command(path, "-X", "-d", f.dir, "-f", config)
		return cmd, plain
	})
	f.t.Cleanup(func() { // before it is killed: its balancer's shared memory would outlive it
		for end := time.Now().Add(3 * time.Second); cmd.Process.Signal(syscall.SIGTERM) == nil && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
	})
}

func (f *fronts) startCaddy() {
	const best = "Caddy, recommended, HTTP/2"
	f.start("caddy", best, func(path string) (*exec.Cmd, []string) {
		config, names := f.write("Caddyfile", f.recommended("Caddyfile",
			"edge.example.com {", "https://"+f.at(best)+", https://"+f.at(best+alone)+" {\n\tbind "+f.host(best)+" "+f.host(best+alone)+"\n\ttls "+f.pem+" "+f.pem, "127.0.0.1:8080", f.own))
		cmd := exec.Command(path, "run", "--adapter", "caddyfile", "--config", config)
		cmd.Env = append(os.Environ(), "HOME="+f.dir, "XDG_DATA_HOME="+f.dir, "XDG_CONFIG_HOME="+f.dir)
		return cmd, names
	})
}

// startEvil adds the evil proxy in all its modes.
func (f *fronts) startEvil() {
	f.t.Helper()
	for _, mode := range evilproxy.Modes() {
		target := f.own
		if mode.IdleEnd == evilproxy.IdleLost {
			target = f.brisk // that a poll is lost is only known when it should have been answered
		}
		p, err := evilproxy.Start(f.host(mode.Name)+":0", target, mode)
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(p.Close)
		f.all = append(f.all, front{mode.Name, p.URL()})
	}
}

// selfSigned returns a certificate for the loopback addresses of fronts, and its key, as PEM.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "edge.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	for i := range 80 {
		cert.IPAddresses = append(cert.IPAddresses, net.IPv4(127, 0, 1, byte(i+1)))
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
}
