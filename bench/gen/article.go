package gen

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// The kinds of logs of an Article, which are the places in ArticleFiles.
const (
	LoginLog    = iota // sshd, by syslog with times of RFC 3339
	FirewallLog        // ufw, by syslog
	IDSLog             // Suricata's EVE
	WebLog             // nginx, combined
	articleKinds
)

// ArticleFiles are the names of the four logs.
var ArticleFiles = [articleKinds]string{"auth.log", "firewall.log", "eve.json", "access.log"}

// Attacker is the address that an Article's attack comes from: it scans ports, tries passwords until one fits, and takes what it finds
// on the web server.
const Attacker = "203.0.113.66"

// Article are the logs of a small network with an attack in them: of all lines, Attacker's begin at 40 of 100 and end at 60.
type Article struct {
	Seed   uint64
	Events int     // lines together
	Rate   float64 // lines a second; the times are those of writing then. 0: at once, 50 a second by their times, from Start on
}

// Write appends the logs to the four files in dir. It ends early with the context.
func (a Article) Write(ctx context.Context, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var out [articleKinds]*bufio.Writer
	for i, name := range ArticleFiles {
		f, e := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if e != nil {
			return errors.Join(err, e)
		}
		out[i] = bufio.NewWriter(f)
		defer func() { err = errors.Join(err, out[i].Flush(), f.Close()) }()
	}
	return a.lines(ctx, func(kind int, line string) error {
		_, err := io.WriteString(out[kind], line+"\n")
		if err == nil && a.Rate > 0 {
			err = out[kind].Flush()
		}
		return err
	})
}

// lines says the lines, in their order.
func (a Article) lines(ctx context.Context, say func(kind int, line string) error) error {
	r := rand.New(rand.NewPCG(a.Seed, 4))
	began := time.Now()
	for i := range a.Events {
		at := Start.Add(time.Duration(i) * 20 * time.Millisecond)
		if a.Rate > 0 {
			due := began.Add(time.Duration(float64(i) / a.Rate * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
				return nil
			}
			at = time.Now().UTC()
		}
		kind, line := a.line(r, i, at)
		if err := say(kind, line); err != nil {
			return err
		}
	}
	return nil
}

var (
	articleUsers = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}
	articleNames = []string{"root", "admin", "test", "oracle", "ubuntu", "postgres", "git", "backup"}
	articlePages = []string{"/", "/index.html", "/products", "/products?id=17", "/search?q=%22blue%22", "/static/app.js", "/login", "/api/v1/orders"}
	articleLoot  = []string{"/.git/config", "/.env", "/admin/", "/admin/users", "/backup.zip", "/wp-login.php", "/phpmyadmin/", "/admin/export?all=1"}
)

// line makes one line of what happens then.
func (a Article) line(r *rand.Rand, i int, at time.Time) (kind int, line string) {
	part := i * 100 / max(a.Events, 1)
	if i == (55*a.Events+99)/100 {
		return LoginLog, sshd(r, at, "Accepted", "backup", Attacker)
	}
	if part >= 40 && part < 60 && r.IntN(3) == 0 {
		return attack(r, part, at)
	}
	home := fmt.Sprintf("192.0.2.%d", 1+r.IntN(200))
	stranger := fmt.Sprintf("198.51.100.%d", 1+r.IntN(250))
	switch n := r.IntN(100); {
	case n < 60:
		status := 200
		if r.IntN(20) == 0 {
			status = 404
		}
		return WebLog, nginx(r, at, home, articlePages[r.IntN(len(articlePages))], status)
	case n < 84:
		if r.IntN(4) == 0 {
			return FirewallLog, ufw(r, at, "BLOCK", stranger, []int{22, 23, 445, 3389}[r.IntN(4)])
		}
		return FirewallLog, ufw(r, at, "ALLOW", home, []int{80, 443}[r.IntN(2)])
	case n < 95:
		user := articleUsers[r.IntN(len(articleUsers))]
		if r.IntN(8) == 0 {
			return LoginLog, sshd(r, at, "Failed", user, home)
		}
		return LoginLog, sshd(r, at, "Accepted", user, home)
	}
	return IDSLog, suricata(r, at, stranger, 2_010_935, "ET SCAN Suspicious inbound to MSSQL port 1433", "Potentially Bad Traffic", 2, 1433)
}

// attack is a line of the attacker: first it looks at ports, then it tries passwords, then it takes what it finds.
func attack(r *rand.Rand, part int, at time.Time) (kind int, line string) {
	rare := r.IntN(10) == 0
	switch {
	case part < 45 && rare:
		return IDSLog, suricata(r, at, Attacker, 2_009_582, "ET SCAN NMAP -sS window 1024", "Attempted Information Leak", 2, 1+r.IntN(1024))
	case part < 45:
		return FirewallLog, ufw(r, at, "BLOCK", Attacker, 1+r.IntN(1024))
	case part < 55 && rare:
		return IDSLog, suricata(r, at, Attacker, 2_001_219, "ET SCAN Potential SSH Scan", "Attempted Information Leak", 1, 22)
	case part < 55:
		return LoginLog, sshd(r, at, "Failed", articleNames[r.IntN(len(articleNames))], Attacker)
	case rare:
		return IDSLog, suricata(r, at, Attacker, 2_031_502, "ET WEB_SERVER Request to Hidden Environment File", "Web Application Attack", 1, 80)
	}
	page := articleLoot[r.IntN(len(articleLoot))]
	status := 404
	if page == "/admin/export?all=1" {
		status = 200
	}
	return WebLog, nginx(r, at, Attacker, page, status)
}

func sshd(r *rand.Rand, at time.Time, result, user, ip string) string {
	who := user
	if result == "Failed" && r.IntN(3) == 0 {
		who = "invalid user " + user
	}
	return fmt.Sprintf("%s web1 sshd[%d]: %s password for %s from %s port %d ssh2", at.Format("2006-01-02T15:04:05.000000Z07:00"), 1000+r.IntN(60_000), result, who, ip, 1024+r.IntN(60_000))
}

func ufw(r *rand.Rand, at time.Time, action, src string, port int) string {
	return fmt.Sprintf("%s fw1 kernel: [UFW %s] IN=eth0 OUT= MAC=52:54:00:12:34:56:52:54:00:65:43:21:08:00 SRC=%s DST=192.0.2.250 LEN=60 TOS=0x00 PREC=0x00 TTL=%d ID=%d DF PROTO=TCP SPT=%d DPT=%d WINDOW=1024 RES=0x00 SYN URGP=0",
		at.Format("2006-01-02T15:04:05.000000Z07:00"), action, src, 40+r.IntN(24), r.IntN(65_536), 1024+r.IntN(60_000), port)
}

func suricata(r *rand.Rand, at time.Time, src string, id int, signature, category string, severity, port int) string {
	type alert struct {
		Action    string `json:"action"`
		ID        int    `json:"signature_id"`
		Signature string `json:"signature"`
		Category  string `json:"category"`
		Severity  int    `json:"severity"`
	}
	line, err := json.Marshal(struct {
		Timestamp string `json:"timestamp"`
		Flow      int64  `json:"flow_id"`
		Type      string `json:"event_type"`
		Src       string `json:"src_ip"`
		SrcPort   int    `json:"src_port"`
		Dest      string `json:"dest_ip"`
		DestPort  int    `json:"dest_port"`
		Proto     string `json:"proto"`
		Alert     alert  `json:"alert"`
	}{at.Format("2006-01-02T15:04:05.000000Z07:00"), r.Int64N(1 << 50), "alert", src, 1024 + r.IntN(60_000), "192.0.2.250", port, "TCP", alert{"allowed", id, signature, category, severity}})
	if err != nil {
		panic(err) // of texts and numbers
	}
	return string(line)
}

func nginx(r *rand.Rand, at time.Time, ip, page string, status int) string {
	agent := []string{"Mozilla/5.0 (X11; Linux x86_64)", `Mozilla/5.0 \"Win\"`, "curl/8.7.1"}[r.IntN(3)]
	return fmt.Sprintf(`%s - - [%s] "GET %s HTTP/1.1" %d %d "-" "%s"`, ip, at.Format("02/Jan/2006:15:04:05 -0700"), page, status, 200+r.IntN(9000), agent)
}
