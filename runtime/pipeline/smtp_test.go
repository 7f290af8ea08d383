package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/quotedprintable"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/pipeline/mailbox"
)

const mailPassword = "geheim-5"

// newMailbox starts a server that trusts one user, and gives what an output says of it, without from and to.
func newMailbox(t *testing.T, change func(s *mailbox.Server)) (s *mailbox.Server, conf string) {
	t.Helper()
	s = mailbox.New(func(s *mailbox.Server) {
		s.User, s.Password = "tocsin", mailPassword
		change(s)
	})
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, s.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MAIL_PASSWORD", mailPassword)
	return s, "server: " + s.Addr + "\nauth: { username: tocsin, password_env: MAIL_PASSWORD }\ntls: { ca_file: " + ca + ", server_name: example.com }\nretry_for: 100ms\n"
}

func smtpOf(yaml string) (*smtpOutput, error) {
	conf, err := smtpSpec().ParseYAML(yaml, nil)
	if err != nil {
		return nil, err
	}
	return newSMTP(conf, service.MockResources())
}

func newMail(t *testing.T, yaml string) *smtpOutput {
	t.Helper()
	if !strings.Contains(yaml, "from:") {
		yaml += "\nfrom: Tocsin <tocsin@example.com>\nto: [soc@example.com]\n"
	}
	o, err := smtpOf(yaml)
	if err != nil {
		t.Fatal(err)
	}
	o.link.detect, o.pause = true, time.Millisecond
	if err := o.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close(context.Background()) })
	return o
}

// mailBody is the text of a mail.
func mailBody(t *testing.T, m mailbox.Mail) string {
	t.Helper()
	_, coded, _ := strings.Cut(m.Text, "\r\n\r\n")
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(coded)))
	if err != nil || m.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
		t.Fatalf("%v\n%s", err, m.Text)
	}
	return strings.TrimSuffix(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
}

// What comes from events stays a text, wherever it is put: it makes no header, no recipient and no end of a mail.
func TestMailTemplates(t *testing.T) {
	s, conf := newMailbox(t, func(*mailbox.Server) {})
	o := newMail(t, conf+`
from: '"Tocsin, quiet" <tocsin@example.com>'
to: ["soc@example.com", "{row.owner}@example.com", "soc+{@operator}@sub.example.com"]
subject: "{severity}: {title} {none} {{x}}"
body: "first\n{row.note}\n.\nlast {row.n} {row}"
`)
	const odd = `{"severity":"high","title":"\u00fcber\r\nBcc: evil@example.net","row":{"owner":"ann.b","note":"a\r\n.\r\nMAIL FROM:<x@y>","n":7}}`
	const id = "A2345"
	msg := alertMessage(id, odd)
	msg.MetaSetMut("operator", "known")
	if err := o.WriteBatch(t.Context(), service.MessageBatch{msg}); err != nil {
		t.Fatal(err)
	}
	revised := alertMessage(id, odd)
	revised.MetaSetMut("operator", "known")
	revised.MetaSetMut("revision", "3")
	if err := o.WriteBatch(t.Context(), service.MessageBatch{revised}); err != nil {
		t.Fatal(err)
	}
	mails := s.Mails()
	if len(mails) != 2 {
		t.Fatalf("%d mails", len(mails))
	}
	m := mails[0]
	if m.From != "tocsin@example.com" || !slices.Equal(m.To, []string{"soc@example.com", "ann.b@example.com", "soc+known@sub.example.com"}) || !m.Secret {
		t.Errorf("%+v", m)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "high: über  Bcc: evil@example.net - {x}" || m.Header.Get("Bcc") != "" {
		t.Errorf("%v, %q", err, subject)
	}
	if body, want := mailBody(t, m), "first\na\n.\nMAIL FROM:<x@y>\n.\nlast 7 "+`{"owner":"ann.b","note":"a\r\n.\r\nMAIL FROM:<x@y>","n":7}`; body != want {
		t.Errorf("%q, want %q", body, want)
	}
	if m.Header.Get("Message-ID") != "<A2345@example.com>" || m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("From") != `"Tocsin, quiet" <tocsin@example.com>` || m.Header.Get("In-Reply-To") != "" {
		t.Errorf("%v", m.Header)
	}
	if when, err := m.Header.Date(); err != nil || time.Since(when) > time.Hour {
		t.Errorf("%v %v", err, when)
	}
	if h := mails[1].Header; h.Get("Message-ID") != "<A2345.3@example.com>" || h.Get("In-Reply-To") != "<A2345@example.com>" || h.Get("References") != "<A2345@example.com>" {
		t.Errorf("%v", h)
	}
	for _, owner := range []string{`"x@evil.example.net"`, `"a, b"`, `"a>\r\nRCPT TO:<b"`, `""`, `null`, `"` + strings.Repeat("x", 65) + `"`, `{"a":1}`} {
		bad := alertMessage("B"+strconv.Itoa(len(owner)), `{"row":{"owner":`+owner+`}}`)
		bad.MetaSetMut("operator", "known")
		if got := verdictOf(t, &webhook{actor: o.actor}, bad); !strings.HasPrefix(got, "refused: `to` needs {row.owner}, and ") {
			t.Errorf("%s: %s", owner, got)
		}
	}
	if n := len(s.Mails()); n != 2 {
		t.Errorf("%d mails", n)
	}
}

// Without texts of one's own a mail says what an alert says; what is too long is cut at a character.
func TestMailTexts(t *testing.T) {
	s, conf := newMailbox(t, func(*mailbox.Server) {})
	o := newMail(t, conf)
	if err := o.WriteBatch(t.Context(), service.MessageBatch{alertMessage("a", `{"title":"T","severity":"low","description":"D","risk_score":25,"time":"2026-03-02T08:00:00.000Z","rule":{"id":"r/1"},"attack":["T1078"],"row":{"ip":"::1"}}`),
		alertMessage("b", `{"title":"`+strings.Repeat("é", 200)+`"}`), rowMessage(`{}`, "result_id", "c", "kind", "row")}); err != nil {
		t.Fatal(err)
	}
	mails := s.Mails()
	if len(mails) != 2 {
		t.Fatalf("%d mails", len(mails))
	}
	slices.SortFunc(mails, func(a, b mailbox.Mail) int {
		return strings.Compare(a.Header.Get("Message-ID"), b.Header.Get("Message-ID"))
	})
	want := "T\n\nD\n\nseverity    low, risk 25\ntime        2026-03-02T08:00:00.000Z\nrule        r/1\ntechniques  [\"T1078\"]\n\n{\"ip\":\"::1\"}\n"
	if body := mailBody(t, mails[0]); body != strings.TrimSuffix(want, "\n") && body != want {
		t.Errorf("%q, want %q", body, want)
	}
	subject, _ := new(mime.WordDecoder).DecodeHeader(mails[1].Header.Get("Subject"))
	if subject != "[-] "+strings.Repeat("é", 123) {
		t.Errorf("%q", subject)
	}
}

// What a server does, what becomes of the row, and how often it is tried.
func TestMailAnswers(t *testing.T) {
	times := func(n int, f mailbox.Fault) func(int) mailbox.Fault {
		return func(dial int) mailbox.Fault {
			if dial > n {
				return mailbox.Fault{}
			}
			return f
		}
	}
	const always = 1 << 30
	for _, tc := range []struct {
		name        string
		change      func(s *mailbox.Server)
		more        string
		least, most string
		mails       [2]int // that were accepted
		tries       int    // at_least_once; 0: as many as there is time for
	}{
		{"accepted", func(*mailbox.Server) {}, "", "delivered", "delivered", [2]int{1, 1}, 1},
		{"tls from the first byte", func(s *mailbox.Server) { s.Whole = true }, "encryption: tls", "delivered", "delivered", [2]int{1, 1}, 1},
		{"451 twice", func(s *mailbox.Server) { s.Fault = times(2, mailbox.Fault{At: "RCPT", Say: "451 4.7.1 greylisted"}) }, "retry_for: 1m", "delivered", "delivered", [2]int{1, 1}, 3},
		{"451 always", func(s *mailbox.Server) {
			s.Fault = times(always, mailbox.Fault{At: "RCPT", Say: "451 4.7.1 greylisted"})
		}, "", "blocked: 127.0.0.1: ", "blocked: 127.0.0.1: ", [2]int{}, 0},
		{"452 at the end", func(s *mailbox.Server) { s.Fault = times(1, mailbox.Fault{At: ".", Say: "452 full"}) }, "retry_for: 1m", "delivered", "delivered", [2]int{1, 1}, 2},
		{"421 at the door", func(s *mailbox.Server) { s.Fault = times(always, mailbox.Fault{At: "CONNECT", Say: "421 too many"}) }, "", "busy: 1 of 1 rows not taken: 127.0.0.1: ", "busy: ", [2]int{}, 0},
		{"no such user", func(s *mailbox.Server) {
			s.Fault = times(always, mailbox.Fault{At: "RCPT", Say: "550 5.1.1 no such user"})
		}, "", "refused: 127.0.0.1: ", "refused: ", [2]int{}, 1},
		{"sender refused", func(s *mailbox.Server) { s.Fault = times(always, mailbox.Fault{At: "MAIL", Say: "553 5.1.8 not you"}) }, "", "refused: 127.0.0.1: ", "refused: ", [2]int{}, 1},
		{"spam", func(s *mailbox.Server) { s.Fault = times(always, mailbox.Fault{At: ".", Say: "554 5.7.1 spam"}) }, "", "refused: 127.0.0.1: ", "refused: ", [2]int{}, 1},
		{"wrong password", func(s *mailbox.Server) { s.Password = "x" }, "", "blocked: 127.0.0.1: SMTP AUTH failed: 535 \"5.7.8 the credentials are wrong\"; correct `auth`", "blocked: 127.0.0.1: SMTP AUTH failed", [2]int{}, 1},
		{"closed at MAIL", func(s *mailbox.Server) { s.Fault = times(1, mailbox.Fault{At: "MAIL"}) }, "retry_for: 1m", "delivered", "delivered", [2]int{1, 1}, 2},
		{"closed at AUTH", func(s *mailbox.Server) { s.Fault = times(1, mailbox.Fault{At: "AUTH"}) }, "retry_for: 1m", "delivered", "delivered", [2]int{1, 1}, 2},
		{"closed at STARTTLS", func(s *mailbox.Server) { s.Fault = times(1, mailbox.Fault{At: "STARTTLS"}) }, "retry_for: 1m", "delivered", "delivered", [2]int{1, 1}, 2},
		{"closed always", func(s *mailbox.Server) { s.Fault = times(always, mailbox.Fault{At: "CONNECT"}) }, "", "blocked: 127.0.0.1: ", "blocked: 127.0.0.1: ", [2]int{}, 0},
		{"closed at the end, not accepted", func(s *mailbox.Server) { s.Fault = times(1, mailbox.Fault{At: "."}) }, "retry_for: 1m", "delivered", "refused: it was tried, and at_most_once does not try again: 127.0.0.1: ", [2]int{1, 0}, 2},
		{"accepted, and the answer lost", func(s *mailbox.Server) { s.Fault = times(1, mailbox.Fault{At: ".", Lost: true}) }, "retry_for: 1m", "delivered", "refused: it was tried, and at_most_once does not try again: 127.0.0.1: ", [2]int{2, 1}, 2},
		{"closed after it was accepted", func(s *mailbox.Server) { s.Fault = times(always, mailbox.Fault{At: "RSET"}) }, "", "delivered", "delivered", [2]int{1, 1}, 1},
		{"no STARTTLS", func(s *mailbox.Server) { s.Plain = true }, "", "blocked: 127.0.0.1: STARTTLS mode set to", "blocked: ", [2]int{}, 0},
		{"TLS where STARTTLS is wanted", func(s *mailbox.Server) { s.Whole = true }, "timeout: 1s", "blocked: 127.0.0.1: ", "blocked: ", [2]int{}, 0},
		{"STARTTLS where TLS is wanted", func(*mailbox.Server) {}, "encryption: tls", "blocked: 127.0.0.1: tls: first record does not look like a TLS handshake; it speaks no TLS before STARTTLS: take encryption: starttls", "blocked: ", [2]int{}, 0},
	} {
		for i, want := range []string{tc.least, tc.most} {
			s, conf := newMailbox(t, tc.change)
			for _, key := range []string{"retry_for", "encryption"} {
				if strings.HasPrefix(tc.more, key) {
					conf = strings.ReplaceAll(conf, "retry_for: 100ms\n", map[string]string{"retry_for": "", "encryption": "retry_for: 100ms\n"}[key])
				}
			}
			conf += tc.more + "\n"
			if i == 1 {
				conf += "delivery: at_most_once\njournal: " + filepath.Join(t.TempDir(), "sent") + "\n"
			}
			o := newMail(t, conf)
			got := verdictOf(t, &webhook{actor: o.actor}, alertMessage("", `{"title":"x"}`))
			if !strings.HasPrefix(got, want) || strings.Contains(got, mailPassword) {
				t.Errorf("%s, at most once: %v: %s, want %s", tc.name, i == 1, got, want)
			}
			if n := s.Dials(); i == 0 && (tc.tries > 0 && n != tc.tries || n == 0) {
				t.Errorf("%s: %d tries", tc.name, n)
			}
			ids := map[string]bool{}
			for _, m := range s.Mails() {
				ids[m.Header.Get("Message-ID")] = true
			}
			if n := len(s.Mails()); n != tc.mails[i] || n > 0 && len(ids) != 1 {
				t.Errorf("%s, at most once: %v: %d mails, %v", tc.name, i == 1, n, ids)
			}
			if i == 1 && strings.HasPrefix(want, "refused: it was tried,") { // nor after a restart
				o.Close(t.Context())
				again := newMail(t, conf)
				if got := verdictOf(t, &webhook{actor: again.actor}, alertMessage("", `{"title":"x"}`)); !strings.HasPrefix(got, "refused: it was tried before") {
					t.Errorf("%s: again: %s", tc.name, got)
				}
			}
		}
	}
}

// A certificate that nobody trusts, or that is another's, is said with what to do; so is a server that is not there.
func TestMailTrust(t *testing.T) {
	for _, encryption := range []string{"starttls", "tls"} {
		s, conf := newMailbox(t, func(s *mailbox.Server) { s.Whole = encryption == "tls" })
		conf += "encryption: " + encryption + "\n"
		for what, change := range map[string][2]string{"unknown": {"ca_file: ", "cert_nothing: "}, "another's": {"server_name: example.com", "server_name: mail.example.net"}} {
			text := strings.Replace(conf, change[0], change[1], 1)
			if what == "unknown" {
				at := strings.Index(text, "tls: {")
				end := strings.Index(text[at:], "\n")
				text = text[:at] + "tls: { server_name: example.com }" + text[at+end:]
			}
			got := verdictOf(t, &webhook{actor: newMail(t, text).actor}, alertMessage("", `{}`))
			if !strings.HasPrefix(got, "blocked: 127.0.0.1: tls: failed to verify certificate") || !strings.Contains(got, "name the authority that signed it with `tls: { ca_file }`, or the name in it with `server_name`") {
				t.Errorf("%s, %s: %s", encryption, what, got)
			}
		}
		if got := verdictOf(t, &webhook{actor: newMail(t, conf+"").actor}, alertMessage("", `{}`)); got != "delivered" {
			t.Error(got)
		}
		if n := len(s.Mails()); n != 1 {
			t.Errorf("%d mails", n)
		}
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if got := verdictOf(t, &webhook{actor: newMail(t, "server: "+gone.Addr().String()+"\nencryption: none\nretry_for: 20ms").actor}, alertMessage("", "{}")); !strings.HasPrefix(got, "blocked: 127.0.0.1: dial tcp") {
		t.Error(got)
	}
}

// A dry run asks nobody and shows no secret; the limit holds.
func TestMailDryRun(t *testing.T) {
	s, conf := newMailbox(t, func(*mailbox.Server) {})
	var out bytes.Buffer
	was := consoleOut
	consoleOut = &out
	defer func() { consoleOut = was }()
	o := newMail(t, conf+"dry_run: true\n")
	if err := o.WriteBatch(t.Context(), service.MessageBatch{alertMessage("a", `{"title":"T\u001b[1m","severity":"low"}`)}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.HasPrefix(text, `DRY RUN  mail to soc@example.com  [low] T\x1b[1m  T\x1b[1m`) && !strings.HasPrefix(text, `DRY RUN  mail to soc@example.com  [low] T [1m`) || strings.Count(text, "\n") != 1 || strings.Contains(text, mailPassword) {
		t.Errorf("%q", text)
	}
	if s.Dials() != 0 {
		t.Error("it was asked")
	}
	o = newMail(t, conf+"limit: { key: '{row.ip}', max: 2, per: 1h, over: drop }\n")
	var batch service.MessageBatch
	for i := range 10 {
		batch = append(batch, alertMessage(fmt.Sprint(i), fmt.Sprintf(`{"row":{"ip":%d}}`, i%2)))
	}
	if err := o.WriteBatch(t.Context(), batch); err != nil || len(s.Mails()) != 4 {
		t.Errorf("%v, %d mails", err, len(s.Mails()))
	}
}

// Secrets are found at the start, and never said.
func TestMailSecrets(t *testing.T) {
	for conf, want := range map[string]string{
		"auth: { username: a, password_env: NO_SUCH_VARIABLE }": "the environment has no variable NO_SUCH_VARIABLE",
		"auth: { username: a, password: " + mailPassword + " }": "the password must not stand in a pipeline",
		"auth: { token_env: A }":                                "auth of a mail server is username with password_env or password_file",
		"tls: { ca_file: /no/such }":                            "ca_file",
	} {
		if _, err := smtpOf("server: mail.example.com:587\nfrom: a@example.com\nto: [b@example.com]\n" + conf); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), mailPassword) {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

// Batches of random rows, with random faults: at least once each mail is there, or at most once.
func TestMailRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, delivery := range []string{"at_least_once", "at_most_once"} {
		faults := rand.New(rand.NewPCG(seed, 1)) // used under the double's lock
		s, conf := newMailbox(t, func(s *mailbox.Server) {
			s.Fault = func(int) (f mailbox.Fault) {
				if faults.IntN(2) == 0 {
					f.At = []string{"CONNECT", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", ".", "."}[faults.IntN(8)]
					f.Lost = f.At == "." && faults.IntN(2) == 0
					if !f.Lost && faults.IntN(2) == 0 {
						f.Say = "451 later"
					}
				}
				return f
			}
		})
		o := newMail(t, strings.ReplaceAll(conf, "retry_for: 100ms", "retry_for: 1m")+"max_in_flight: 4\ndelivery: "+delivery+"\njournal: "+filepath.Join(t.TempDir(), "sent")+"\n")
		unknown := 0
		for i := range 40 {
			err := o.WriteBatch(t.Context(), service.MessageBatch{alertMessage("m"+fmt.Sprint(i), `{}`)})
			if err != nil && delivery == "at_least_once" {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err != nil {
				unknown++
			}
			if err == nil { // again, it is known
				if err := o.WriteBatch(t.Context(), service.MessageBatch{alertMessage("m"+fmt.Sprint(i), `{}`)}); err != nil {
					t.Fatalf("seed %d: again: %v", seed, err)
				}
			}
		}
		heard := map[string]int{}
		for _, m := range s.Mails() {
			heard[m.Header.Get("Message-ID")]++
		}
		for id, n := range heard {
			if n > 1 && delivery == "at_most_once" {
				t.Errorf("seed %d: %s is there %d times", seed, id, n)
			}
		}
		if len(heard) != 40 && delivery == "at_least_once" || len(heard)+unknown < 40 {
			t.Errorf("seed %d: %s: %d mails, %d unknown", seed, delivery, len(heard), unknown)
		}
	}
}
