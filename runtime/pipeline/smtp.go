package pipeline

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/wneessen/go-mail"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// actingFields are the fields that webhook and smtp have in common.
func actingFields(inFlight int, key, what string) []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringListField("kinds").Description("The rows that are acted on: alert, row, late, error.").Default([]any{"alert"}),
		service.NewStringEnumField("delivery", "at_least_once", "at_most_once").Description("What may happen when nobody knows whether " + what + " was heard: once more, or never again.").Default("at_least_once"),
		service.NewStringField("journal").Description("The file that remembers what was done and, with at_most_once, what was tried. `--fresh` moves it to PATH.old.").Optional().Example("./state/" + key + ".sent"),
		service.NewObjectField("limit",
			service.NewStringField("key").Description("Whom to count by.").Example("{row.source_ip}"),
			service.NewIntField("max").Description("How many actions, at most 10000."),
			service.NewStringField("per").Description("In any span of time this long, by the clock, from 1s to 30d."),
			service.NewStringEnumField("over", "error", "drop").Description("What becomes of one too many: an error row, or nothing; it is counted in the log.").Default("error"),
		).Description("Bounds actions by entity. A restart begins anew; beyond 100 000 keys at once all others are one.").Optional(),
		service.NewStringField("timeout").Description("How long to wait for an answer, from 1s to 10m.").Default("10s"),
		service.NewStringField("retry_for").Description("How long to try again before the row goes back to the state, at most 1h.").Default("10s"),
		service.NewIntField("max_in_flight").Description("How many at the same time, at most 256; with 1 they are in the order of the rows.").Default(inFlight),
		service.NewBoolField("dry_run").Description("Whether what would be done is only printed.").Default(false),
	}
}

func smtpSpec() *service.ConfigSpec {
	auth := append([]*service.ConfigField{service.NewStringField("username").Description("The name that the server knows us by.").Optional()}, secretFields("password", "the password")...)
	return service.NewConfigSpec().
		Categories("Services").
		Summary("Writes a mail for each alert.").
		Description(`Texts of `+"`to`, `subject`, `body` and `limit.key`"+` may hold `+"`{field}`"+`, as those of `+"`webhook`"+`. In `+"`to`"+` only the part before the @ may, and what fills it has letters,
digits and . _ % + - alone: a row must not choose where mails go. A mail is a plain text.

Its Message-ID is the result id, with `+"`.REVISION`"+` for a revision, at the sender's domain: the same however often it is tried, so that a mailbox can tell. A revision
refers to the first mail, and mail programs show them together.

What the server accepts is done; who gets it after that is its matter. `+"`at_least_once`"+`: 4xx and no answer are tried again, with pauses that double; after `+"`retry_for`"+` the row
goes back to the state and is sent again from there, alone; so is one whose login the server refuses, or whose certificate is not trusted. 5xx will not
be otherwise tomorrow, and becomes an error row with the server's words. If one of several recipients is refused, nobody gets the mail.
`+"`at_most_once`"+`: what is tried is written to the journal first. A connection that is lost while the server takes the mail becomes an error row that says so; all that was
certainly not accepted is as above.

Rows of other kinds than `+"`kinds`"+` are passed over: put an output beside it that keeps them, error rows above all. Each mail has a connection of its own; an address that is
flooded with alerts reads none: give mails a `+"`limit`"+`, or alerts a `+"`suppress`."+``).
		Fields(
			service.NewStringField("server").Description("The server and its port: 587 for starttls, 465 for tls.").Example("mail.example.com:587"),
			service.NewStringEnumField("encryption", "starttls", "tls", "none").Description("How the connection is encrypted: after STARTTLS, which must be there; from the first byte on; or not at all.").Default("starttls"),
			service.NewObjectField("auth", auth...).Description("Who we are. The strongest way that the server offers is taken.").Optional(),
			tlsField(),
			service.NewStringField("from").Description("Who writes.").Example("Tocsin <tocsin@example.com>"),
			service.NewStringListField("to").Description("Who is written to, at most 50 addresses.").Example([]any{"soc@example.com", "{row.owner}@example.com"}),
			service.NewStringField("subject").Description("The subject; up to 250 bytes of it are sent.").Default(subjectUsual),
			service.NewStringField("body").Description("The text, of which up to 1 MiB is sent; by default what an alert says of itself, and its row.").Optional(),
		).
		Fields(actingFields(mailsAtOnce, "mail", "a mail")...).
		Example("Writes of an address that fails to log in", runs+" It prints the mails; without `dry_run` it sends them.", `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: smtp
    state: ./state/smtp
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures:
        window: { from: logins, tumbling: 1m, key: source_ip, where: { status: failure }, aggregate: { n: count }, having: { n|gte: 5 } }
        alert: { title: "{n} failures from {source_ip}", severity: medium }
output:
  smtp:
    server: mail.example.com:587
    from: Tocsin <tocsin@example.com>
    to: [soc@example.com]
    dry_run: true
`).
		Example("A mail for each alert, at most three an address in an hour", "", "output:\n  smtp:\n    server: mail.example.com:587\n    auth: { username: tocsin, password_env: MAIL_PASSWORD }\n"+
			"    from: Tocsin <tocsin@example.com>\n    to: [soc@example.com]\n    limit: { key: \"{row.source_ip}\", max: 3, per: 1h, over: drop }\n")
}

func init() { registerRows("smtp", smtpSpec(), newSMTP) }

// smtpOutput is the output.
type smtpOutput struct {
	conf smtpConfig
	tls  *tls.Config
	*actor
}

func newSMTP(conf *service.ParsedConfig, res *service.Resources) (*smtpOutput, error) {
	c, err := decodeParsed(conf, "smtp", decodeSMTP)
	if err != nil {
		return nil, err
	}
	o := &smtpOutput{conf: c}
	if o.tls, err = c.tls.Config(); err != nil {
		return nil, fmt.Errorf("smtp: %w", err)
	}
	if o.tls.ServerName == "" {
		o.tls.ServerName = c.host
	}
	if c.auth.kind != "" {
		if _, err := c.auth.secret.Read(); err != nil {
			return nil, fmt.Errorf("smtp: auth: %w", err)
		}
	}
	o.actor = newActor("smtp", &o.conf.acting, res, actorFuncs{o.write, o.send, o.shown})
	return o, nil
}

// Close gives up the journal.
func (o *smtpOutput) Close(context.Context) error {
	o.sent.close()
	return nil
}

// mailText is a mail before it has its form.
type mailText struct {
	to            []string
	subject, body string
}

// localPart is what may stand before the @.
var localPart = regexp.MustCompile(`^[A-Za-z0-9._%+-]{1,64}$`)

// addressRow gives cells as parts of an address, where they cannot become another one.
type addressRow struct {
	hookRow
	fault *error
}

func (r addressRow) Value(f event.Field) event.Value {
	v := r.hookRow.Value(f)
	if v.Missing() || !localPart.Match(v.Text) {
		*r.fault = fmt.Errorf("`to` needs {%s}, and %q is no part of an address", r.hook.fields.Path(f), clean(string(v.Text), 100))
	}
	return v
}

// write fills the templates.
func (o *smtpOutput) write(a *action, row hookRow, _ []byte) (err error) {
	m := &mailText{subject: cutText(headerText(string(o.conf.subject.Fill(nil, row))), subjectMost), body: cutText(string(o.conf.body.Fill(nil, row)), mailMost)}
	for i := range o.conf.to {
		address := string(o.conf.to[i].Fill(nil, addressRow{row, &err}))
		if err != nil {
			return err
		}
		if !slices.Contains(m.to, address) {
			m.to = append(m.to, address)
		}
	}
	a.mail = m
	return nil
}

// cutText is the beginning of a text, up to so many bytes of whole characters.
func cutText(s string, most int) string {
	if s = strings.ToValidUTF8(s, "\uFFFD"); len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// shown is the mail in a line.
func (o *smtpOutput) shown(a *action) string {
	return fmt.Sprintf("mail to %s  %s  %s", strings.Join(a.mail.to, ", "), clean(a.mail.subject, subjectMost), clean(a.mail.body, len(a.mail.body)))
}

// message gives a mail its form.
func (o *smtpOutput) message(a *action) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	err := m.From(o.conf.from.String())
	for _, to := range a.mail.to {
		err = errors.Join(err, m.AddTo(to))
	}
	if err != nil {
		return nil, err
	}
	_, domain, _ := cutLast(o.conf.from.Address, "@")
	m.SetMessageIDWithValue(a.id + "@" + domain)
	if first, _, revised := strings.Cut(a.id, "."); revised {
		m.SetGenHeaderPreformatted(mail.HeaderInReplyTo, "<"+first+"@"+domain+">")
		m.SetGenHeaderPreformatted(mail.HeaderReferences, "<"+first+"@"+domain+">")
	}
	m.SetGenHeaderPreformatted("Auto-Submitted", "auto-generated")
	m.SetDateWithValue(o.now())
	m.Subject(a.mail.subject)
	m.SetBodyString(mail.TypeTextPlain, a.mail.body)
	return m, nil
}

// send sends a mail once, over a connection of its own.
func (o *smtpOutput) send(ctx context.Context, a *action) reply {
	m, err := o.message(a)
	if err != nil {
		return mailReply{err: err, never: true}
	}
	line := &mailLine{conf: o.tls, whole: o.conf.encryption == "tls", timeout: o.conf.timeout}
	defer line.close()
	client, err := o.client(line)
	if err != nil {
		return mailReply{err: err, unsent: true, at: o.conf.host}
	}
	defer context.AfterFunc(ctx, line.close)()
	c, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return mailReply{err: err, unsent: true, dialing: true, at: o.conf.host}
	}
	err = client.SendWithSMTPClient(c, m)
	if m.IsDelivered() { // what goes wrong after that does not matter
		_ = client.CloseWithSMTPClient(c)
		return mailReply{}
	}
	var at *mail.SendError
	lost := errors.As(err, &at) && at.Reason == mail.ErrSMTPDataClose && at.ErrorCode() == 0
	return mailReply{err: err, unsent: !lost, at: o.conf.host}
}

func (o *smtpOutput) client(line *mailLine) (*mail.Client, error) {
	options := []mail.Option{mail.WithPort(o.conf.port), mail.WithTimeout(o.conf.timeout), mail.WithTLSConfig(o.tls), mail.WithDialContextFunc(line.dial), mail.WithoutNoop()}
	switch o.conf.encryption {
	case "starttls":
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case "tls": // the line is encrypted before it is handed over, and says so
		options = append(options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	default:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	}
	if o.conf.auth.kind != "" {
		password, err := o.conf.auth.secret.Read()
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(o.conf.auth.user), mail.WithPassword(password))
	}
	return mail.NewClient(o.conf.host, options...)
}

// mailLine is a connection that is closed whatever becomes of it: the library leaves one open whose greeting fails.
type mailLine struct {
	conf    *tls.Config
	whole   bool // TLS from the first byte on
	timeout time.Duration

	mu   sync.Mutex
	conn net.Conn
}

func (l *mailLine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, done := context.WithTimeout(ctx, l.timeout)
	defer done()
	var conn net.Conn
	var err error
	if l.whole {
		conn, err = (&tls.Dialer{Config: l.conf}).DialContext(ctx, network, address)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
	}
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	return conn, nil
}

func (l *mailLine) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
}

// mailReply is what a server said, or why it said nothing.
type mailReply struct {
	err     error
	at      string
	unsent  bool // the server certainly has not accepted it
	dialing bool // it was not even asked to
	never   bool // the mail has no possible form
}

// code is the server's, 0 if it said nothing.
func (r mailReply) code() int {
	var sent *mail.SendError
	if errors.As(r.err, &sent) {
		return sent.ErrorCode()
	}
	var said *textproto.Error
	if errors.As(r.err, &said) {
		return said.Code
	}
	return 0
}

func (r mailReply) done() bool           { return r.err == nil }
func (r mailReply) after() time.Duration { return 0 }

// full is a server that closes the door (421), or takes nobody for now.
func (r mailReply) full() bool {
	return r.code() == 421 || r.dialing && r.code()/100 == 4
}

// unheard leaves out what the server will never take: it is settled. What is wrong with ourselves is not.
func (r mailReply) unheard() bool {
	return r.unsent && (r.dialing || r.code()/100 != 5 || slices.Contains([]int{530, 534, 535, 538}, r.code()))
}

func (r mailReply) passes() bool { return !r.never && r.code()/100 != 5 }

func (r mailReply) why() string {
	text := clean(strings.Join(strings.Fields(r.err.Error()), " "), 500)
	var unknown *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	hint := ""
	switch {
	case errors.As(r.err, &unknown):
		hint = "; name the authority that signed it with `tls: { ca_file }`, or the name in it with `server_name`"
	case errors.As(r.err, &record):
		hint = "; it speaks no TLS before STARTTLS: take encryption: starttls"
	case strings.Contains(text, "does not support STARTTLS"):
		hint = "; if it speaks TLS from the first byte on, as port 465 does, take encryption: tls"
	case r.dialing && slices.Contains([]int{530, 534, 535, 538}, r.code()):
		hint = "; correct `auth`"
	}
	if r.never {
		return text
	}
	return r.at + ": " + text + hint
}
