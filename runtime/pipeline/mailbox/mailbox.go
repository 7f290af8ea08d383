// Package mailbox is a stand-in for a mail server in tests: SMTP with STARTTLS or TLS from the first byte on, AUTH PLAIN, and faults to order. It
// counts how often each mail was accepted, so that a test can tell one that is there once from one that was sent twice.
package mailbox

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
)

// Server is the double; its fields are set by what New is given.
type Server struct {
	Addr     string               // host:port
	Plain    bool                 // offers no STARTTLS
	Whole    bool                 // TLS from the first byte on
	User     string               // who may send, after AUTH; empty: anybody
	Password string               // of User
	Fault    func(dial int) Fault // what goes wrong with a connection, by its number from 1 on
	CA       []byte               // PEM of the authority that signed its certificate, which is for example.com and 127.0.0.1

	listen net.Listener
	conf   *tls.Config
	wg     sync.WaitGroup

	mu    sync.Mutex
	mails []Mail
	dials int
}

// Mail is one that was accepted.
type Mail struct {
	From   string
	To     []string
	Header mail.Header
	Text   string // the whole of it
	Secret bool   // it came over TLS
}

// Fault is what goes wrong: at a command (CONNECT, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, or "." at a mail's end) the answer is another line, or, if that is
// empty, the connection is closed. With Lost the mail is accepted before.
type Fault struct {
	At, Say string
	Lost    bool
}

// New starts a double, once its fields are set; its address is known then.
func New(set func(s *Server)) *Server {
	web := httptest.NewUnstartedServer(nil) // for its certificate
	web.StartTLS()
	cert := web.TLS.Certificates[0]
	web.Close()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &Server{Addr: listen.Addr().String(), listen: listen, conf: &tls.Config{Certificates: []tls.Certificate{cert}}}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		panic(err)
	}
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	set(s)
	s.wg.Go(s.accept)
	return s
}

// Close ends it.
func (s *Server) Close() {
	s.listen.Close()
	s.wg.Wait()
}

// Mails are those that were accepted, in their order.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Dials says how many connections there were.
func (s *Server) Dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

func (s *Server) accept() {
	for {
		conn, err := s.listen.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			defer conn.Close()
			s.mu.Lock()
			s.dials++
			c := &session{s: s, conn: conn}
			if s.Fault != nil {
				c.fault = s.Fault(s.dials)
			}
			s.mu.Unlock()
			if s.Whole {
				c.conn, c.secret = tls.Server(conn, s.conf), true
			}
			c.serve()
		})
	}
}

// session is a connection.
type session struct {
	s      *Server
	conn   net.Conn
	in     *bufio.Reader
	fault  Fault
	secret bool
	known  bool
	mail   Mail
}

// say answers; with a fault at this command it says another thing, or nothing, and ok is false.
func (c *session) say(at, line string) (ok bool) {
	if c.fault.At != at || at == "" {
		_, err := fmt.Fprintf(c.conn, "%s\r\n", line)
		return err == nil
	}
	if c.fault.Say == "" {
		c.conn.Close()
		return false
	}
	fmt.Fprintf(c.conn, "%s\r\n", c.fault.Say)
	return false
}

func (c *session) serve() {
	c.in = bufio.NewReader(c.conn)
	if !c.say("CONNECT", "220 mailbox ESMTP") && c.fault.At == "CONNECT" {
		return
	}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil || !c.command(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

// command does what a line asks for; more says whether the connection goes on.
func (c *session) command(line string) (more bool) {
	verb, rest, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	if c.fault.At == verb && verb != "DATA" {
		c.say(verb, "")
		return c.fault.Say != ""
	}
	switch verb {
	case "EHLO":
		text := "250-mailbox\r\n250-8BITMIME\r\n"
		if !c.s.Plain && !c.secret {
			text += "250-STARTTLS\r\n"
		}
		if c.s.User != "" && (c.secret || c.s.Plain) {
			text += "250-AUTH PLAIN\r\n"
		}
		return c.say(verb, text+"250 SIZE 10000000")
	case "STARTTLS":
		if !c.say(verb, "220 go on") {
			return false
		}
		c.conn, c.secret = tls.Server(c.conn, c.s.conf), true
		c.in = bufio.NewReader(c.conn)
		return true
	case "AUTH":
		return c.auth(rest)
	case "MAIL":
		if c.s.User != "" && !c.known {
			return c.say(verb, "530 5.7.0 authentication required")
		}
		c.mail = Mail{From: address(rest), Secret: c.secret}
		return c.say(verb, "250 ok")
	case "RCPT":
		c.mail.To = append(c.mail.To, address(rest))
		return c.say(verb, "250 ok")
	case "DATA":
		return c.data()
	case "RSET", "NOOP":
		return c.say(verb, "250 ok")
	case "QUIT":
		c.say(verb, "221 bye")
		return false
	}
	return c.say(verb, "502 unknown")
}

func address(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

func (c *session) auth(rest string) bool {
	kind, coded, _ := strings.Cut(rest, " ")
	text, err := base64.StdEncoding.DecodeString(coded)
	if c.known = kind == "PLAIN" && err == nil && bytes.Equal(text, []byte("\x00"+c.s.User+"\x00"+c.s.Password)); !c.known {
		return c.say("AUTH", "535 5.7.8 the credentials are wrong")
	}
	return c.say("AUTH", "235 ok")
}

// data reads a mail.
func (c *session) data() bool {
	if c.fault.At == "DATA" {
		c.say("DATA", "")
		return c.fault.Say != ""
	}
	if !c.say("", "354 go on") {
		return false
	}
	var b strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	c.mail.Text = b.String()
	if m, err := mail.ReadMessage(strings.NewReader(c.mail.Text)); err == nil {
		c.mail.Header = m.Header
	}
	if c.fault.At == "." && !c.fault.Lost {
		c.say(".", "")
		return c.fault.Say != ""
	}
	c.s.mu.Lock()
	c.s.mails = append(c.s.mails, c.mail)
	c.s.mu.Unlock()
	if c.fault.Lost {
		return false
	}
	return c.say("", "250 ok")
}
