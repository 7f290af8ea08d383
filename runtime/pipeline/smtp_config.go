package pipeline

import (
	"net"
	"net/mail"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// smtpConfig is the configuration of smtp, checked.
type smtpConfig struct {
	host       string
	port       int
	encryption string // starttls, tls or none
	auth       elasticAuth
	tls        credential.TLS
	from       mail.Address
	to         []alert.Text
	subject    alert.Text
	body       alert.Text
	acting
}

// The limits of smtp.
const (
	recipientsMost = 50
	subjectMost    = 250     // bytes
	mailMost       = 1 << 20 // bytes of a body
	mailsAtOnce    = 2
)

// What a mail says if nobody says otherwise.
const (
	subjectUsual = "[{severity}] {title}"
	bodyUsual    = `{title}

{description}

severity    {severity}, risk {risk_score}
time        {time}
rule        {rule.id}
techniques  {attack}

{row}
`
)

// decodeSMTP reads the mapping under an output's `smtp`.
func decodeSMTP(n *yaml.Node) (c smtpConfig, problems []match.Problem) {
	d := newDecoder()
	c.fields = &hookFields{}
	if m := d.mapping(n, "smtp"); m != nil {
		d.smtp(&c, m)
	}
	c.fields.done()
	return c, d.sorted()
}

func (d *decoder) smtp(c *smtpConfig, m *mapping) {
	if n := m.need("server", "a host and its port, such as mail.example.com:587"); n != nil {
		d.mailServer(c, n)
	}
	c.encryption = d.enum(m.get("encryption"), "encryption", "starttls", "starttls", "tls", "none")
	d.mailAuth(c, m)
	tls := m.get("tls")
	if c.tls = d.tlsFiles(tls); c.tls != (credential.TLS{}) && c.encryption == "none" {
		d.wrong(m.key("tls"), "without encryption there is no tls; leave it out, or take encryption: starttls")
	}
	if n := m.need("from", "who writes, such as tocsin@example.com"); n != nil {
		if a, err := mail.ParseAddress(d.text(n, "from")); err == nil {
			c.from = *a
		} else if n.Kind == yaml.ScalarNode && n.Value != "" {
			d.wrong(n, "from must be an address such as tocsin@example.com, or Tocsin <tocsin@example.com>, not %s", shown(n))
		}
	}
	d.list(m.need("to", "a list of addresses, such as [soc@example.com]"), "to", func(x *yaml.Node) {
		d.recipient(c, x)
		if len(c.to) == recipientsMost+1 {
			d.wrong(x, "to are at most %d addresses", recipientsMost)
		}
	})
	c.subject = d.mailText(m.get("subject"), "subject", subjectUsual, c)
	c.body = d.mailText(m.get("body"), "body", bodyUsual, c)
	d.acting(&c.acting, m, mailsAtOnce)
	m.done()
}

func (d *decoder) mailServer(c *smtpConfig, n *yaml.Node) {
	host, port, err := net.SplitHostPort(d.text(n, "server"))
	c.host = host
	if c.port, _ = strconv.Atoi(port); n.Kind == yaml.ScalarNode && n.Value != "" && (err != nil || host == "" || c.port < 1 || c.port > 65535) {
		d.wrong(n, "server must be a host and its port, such as mail.example.com:587, not %s", shown(n))
	}
}

func (d *decoder) mailAuth(c *smtpConfig, m *mapping) {
	n := m.get("auth")
	if n == nil {
		return
	}
	faults := len(d.problems)
	d.elasticAuth(&c.auth, n)
	switch {
	case len(d.problems) > faults:
	case c.auth.kind != "basic":
		d.wrong(n, "auth of a mail server is username with password_env or password_file")
	case c.encryption == "none":
		d.wrong(n, "without encryption anybody on the way reads the password; take encryption: starttls or tls")
	}
}

func (d *decoder) mailText(n *yaml.Node, what, usual string, c *smtpConfig) alert.Text {
	if n == nil {
		n = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: usual}
	}
	return d.holes(n, what, c.fields)
}

// mailDomain is a domain as an address has it.
var mailDomain = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$`)

// recipient reads an address, of which fields may fill the part before the @ alone: whoever writes events must not choose where mails go.
func (d *decoder) recipient(c *smtpConfig, n *yaml.Node) {
	text := d.text(n, "to")
	if text == "" {
		return
	}
	local, domain, _ := cutLast(text, "@")
	sample := hole.ReplaceAllString(text, "x")
	switch _, err := mail.ParseAddress(sample); {
	case strings.Contains(domain, "{") || domain == "" && strings.Contains(text, "{"):
		d.wrong(n, "to: the domain must not come from a row: write it out, as in {row.owner}@example.com")
	case err != nil || !mailDomain.MatchString(domain) || strings.ContainsAny(sample, "<>\""):
		d.wrong(n, "to must be an address such as soc@example.com, not %s", shown(n))
	case local != "":
		c.to = append(c.to, d.holes(n, "to", c.fields))
	}
}

// cutLast cuts at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
