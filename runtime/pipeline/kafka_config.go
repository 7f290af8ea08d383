package pipeline

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/kafka"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// The limits of kafka_records and kafka_rows.
const (
	seedLimit       = 64
	topicLimit      = 256
	shareLimit      = 1024
	partitionNumMax = 1_000_000
	inFlightLimit   = 256
	timeoutMin      = time.Second
	timeoutMax      = 10 * time.Minute
)

// clusterFields are the fields that say how to reach a cluster.
func clusterFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringListField("seed_brokers").
			Description("Brokers to ask for all others, as `host:port`, at most 64.").
			Example([]any{"kafka-1:9092", "kafka-2:9092"}),
		service.NewObjectField("tls",
			service.NewBoolField("enabled").Description("Whether to speak TLS.").Default(false),
			service.NewStringField("ca_file").Description("PEM file of the authorities that may have signed the brokers' certificates.").Optional(),
			service.NewStringField("cert_file").Description("PEM file of our certificate, read again for each connection. With `key_file`.").Optional(),
			service.NewStringField("key_file").Description("PEM file of its key.").Optional(),
			service.NewStringField("server_name").Description("The name that the brokers' certificates must have, instead of their host.").Optional(),
			service.NewBoolField("skip_verify").Description("Takes any certificate: anybody may pose as the broker.").Default(false),
		).Description("Encryption. Without it connections are plain.").Optional().Advanced(),
		service.NewObjectField("sasl",
			service.NewStringEnumField("mechanism", kafka.Mechanisms...).Description("How to say who we are."),
			service.NewStringField("username").Description("The user; not with OAUTHBEARER.").Optional(),
			service.NewStringField("password_env").Description("The variable of the environment that holds the password.").Optional().Example("KAFKA_PASSWORD"),
			service.NewStringField("password_file").Description("The file that holds the password, read again for each connection.").Optional(),
			service.NewStringField("token_env").Description("With OAUTHBEARER: the variable that holds the token.").Optional(),
			service.NewStringField("token_file").Description("With OAUTHBEARER: the file that holds the token, read again for each connection, so that it may be renewed.").Optional(),
		).Description("Who we are. A secret never stands in a pipeline: it is named, by a variable of the environment or a file.").Optional().Advanced(),
	}
}

// decodeKafkaRecords reads the mapping under an input's `kafka_records`.
func decodeKafkaRecords(n *yaml.Node) (in kafka.Input, problems []match.Problem) {
	d := newDecoder()
	if m := d.mapping(n, "kafka_records"); m != nil {
		d.kafkaRecords(&in, m)
	}
	return in, d.sorted()
}

func (d *decoder) kafkaRecords(in *kafka.Input, m *mapping) {
	d.cluster(&in.Cluster, m)
	in.Topics = d.unique(m.need("topics", "a list of topics, such as [logins]"), "topics", topicLimit, d.topic)
	d.share(&in.Share, m.get("partitions"))
	in.Start = d.start(m.get("start"))
	in.UntilEnd = d.enum(m.get("until"), "until", "stopped", "stopped", "end") == "end"
	in.Lost = d.enum(m.get("on_lost"), "on_lost", "stop", "stop", "earliest", "latest")
	in.Group = d.text(m.get("consumer_group"), "consumer_group")
	if n := m.get("group"); n != nil {
		in.Member = d.text(n, "group")
		d.ofMember(m)
	}
	in.RecordMax = 1 << 20
	if n := m.get("max_record"); n != nil {
		max, err := parseSize("max_record", n.Value, 1, lineLimit)
		if in.RecordMax = int(max); err != nil {
			d.wrong(n, "%v", err)
		}
	}
	if n := m.get("schema_registry"); n != nil {
		if r := d.mapping(n, "schema_registry"); r != nil {
			in.Registry = d.registry(r)
			r.done()
		}
	}
	m.done()
}

// ofMember says what a member of a group has no use for, but for defaults, which Benthos writes out.
func (d *decoder) ofMember(m *mapping) {
	for _, x := range []struct{ name, usual, why string }{
		{"partitions", "all", "the group deals partitions out"},
		{"until", "stopped", "a group's records have no end"},
		{"consumer_group", "", "its offsets are those of `group`"},
		{"schema_registry", "", "records are decoded for the streams of a `detect` buffer"},
	} {
		if n := peek(m.node, x.name); n != nil && (x.usual == "" || n.Value != x.usual) {
			d.wrong(m.key(x.name), "%s does not go with group: %s; remove it", x.name, x.why)
		}
	}
}

// decodeKafkaRows reads the mapping under an output's `kafka_rows`.
func decodeKafkaRows(n *yaml.Node) (c kafkaRowsConfig, problems []match.Problem) {
	d := newDecoder()
	if m := d.mapping(n, "kafka_rows"); m != nil {
		d.kafkaRows(&c, m)
	}
	return c, d.sorted()
}

func (d *decoder) kafkaRows(c *kafkaRowsConfig, m *mapping) {
	d.cluster(&c.out.Cluster, m)
	if n := m.need("topic", "the topic to write to"); n != nil {
		c.out.Topic = d.topic(n, "topic")
	}
	c.key = d.text(m.get("key"), "key")
	c.out.Compression = d.enum(m.get("compression"), "compression", "snappy", kafka.Codecs...)
	n, faults := m.get("timeout"), len(d.problems)
	c.out.Timeout = time.Duration(d.span(n, "timeout", 30*time.Second, 0)) * time.Millisecond
	if len(d.problems) == faults && (c.out.Timeout < timeoutMin || c.out.Timeout > timeoutMax) {
		d.wrong(n, "timeout must be from 1s to 10m, not %s", n.Value)
	}
	c.inFlight = d.int(m.get("max_in_flight"), "max_in_flight", 1, 1, inFlightLimit)
	encoding := m.get("encoding")
	c.encoding = d.enum(encoding, "encoding", "json", "json", event.KindAvro, event.KindJSONSchema)
	if n := m.get("schema_registry"); n != nil {
		if r := d.mapping(n, "schema_registry"); r != nil {
			c.registry = d.registry(r)
			c.subject = d.enum(r.get("subject"), "subject", "topic", "topic", "record", "topic_record")
			c.register = true
			if n := r.get("register"); n != nil {
				c.register = d.bool(n, "register")
			}
			r.done()
		}
		if encoding == nil || encoding.Value == "json" {
			d.wrong(m.key("schema_registry"), "schema_registry needs encoding: avro or json_schema; plain JSON has no schema")
		}
	} else if c.encoding != "json" {
		d.wrong(encoding, "encoding %s needs schema_registry: { url: ... }", c.encoding)
	}
	m.done()
}

func (d *decoder) cluster(c *kafka.Cluster, m *mapping) {
	c.Seeds = d.unique(m.need("seed_brokers", "a list of brokers, such as [localhost:9092]"), "seed_brokers", seedLimit, d.broker)
	if n := m.get("tls"); n != nil {
		d.tls(c, n)
	}
	if n := m.get("sasl"); n != nil {
		d.sasl(c, n)
	}
}

// unique reads a list of texts, each once.
func (d *decoder) unique(n *yaml.Node, what string, limit int, one func(n *yaml.Node, what string) string) (out []string) {
	if n != nil && n.Kind != yaml.SequenceNode {
		d.wrong(n, "%s must be a list, [%s], not %s", what, n.Value, shown(n))
		return nil
	}
	d.list(n, what, func(x *yaml.Node) {
		v := one(x, what)
		switch {
		case v == "":
		case slices.Contains(out, v):
			d.wrong(x, "%s is there twice in %s; keep one", v, what)
		case len(out) == limit:
			d.wrong(x, "%s are at most %d", what, limit)
		default:
			out = append(out, v)
		}
	})
	return out
}

func (d *decoder) broker(n *yaml.Node, what string) string {
	v := d.text(n, what)
	if v == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(v)
	if p, perr := strconv.Atoi(port); err != nil || host == "" || perr != nil || p < 1 || p > 65535 {
		d.wrong(n, "%s must be host:port, such as localhost:9092, not %s", what, shown(n))
		return ""
	}
	return v
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func (d *decoder) topic(n *yaml.Node, what string) string {
	v := d.text(n, what)
	if v != "" && (!topicName.MatchString(v) || v == "." || v == "..") {
		d.wrong(n, "%s: a topic has letters, digits, dots, dashes and underscores, at most 249, not %s", what, shown(n))
		return ""
	}
	return v
}

// share reads `all`, a list of numbers, or i/n.
func (d *decoder) share(s *kafka.Share, n *yaml.Node) {
	switch {
	case n == nil || n.Value == "all":
	case n.Kind == yaml.SequenceNode, n.Tag == "!!int":
		d.list(n, "partitions", func(x *yaml.Node) {
			num := int32(d.int(x, "a partition", -1, 0, partitionNumMax))
			if num >= 0 && slices.Contains(s.List, num) {
				d.wrong(x, "partition %d is there twice; keep one", num)
			}
			s.List = append(s.List, num)
		})
	default:
		i, of, ok := strings.Cut(n.Value, "/")
		var err, err2 error
		s.I, err = strconv.Atoi(i)
		s.N, err2 = strconv.Atoi(of)
		if n.Kind != yaml.ScalarNode || !ok || err != nil || err2 != nil || s.I < 1 || s.I > s.N || s.N > shareLimit {
			d.wrong(n, "partitions must be all, a list such as [0, 3], or a share such as 1/4 (the first of four, at most of %d), not %s", shareLimit, shown(n))
			*s = kafka.Share{}
		}
	}
}

// start reads earliest, latest, or a time.
func (d *decoder) start(n *yaml.Node) kafka.Start {
	switch {
	case n == nil || n.Value == "earliest":
		return kafka.Earliest
	case n.Value == "latest":
		return kafka.Latest
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	if err != nil || t.UnixMilli() < 0 {
		d.wrong(n, "start must be earliest, latest, or a time such as 2026-03-02T08:00:00Z, not %s", shown(n))
	}
	return kafka.Start(t.UnixMilli())
}

func (d *decoder) tls(c *kafka.Cluster, n *yaml.Node) {
	m := d.mapping(n, "tls")
	if m == nil {
		return
	}
	enabled := m.need("enabled", "true, or false to leave it off for now")
	t := d.tlsOf(m)
	if d.bool(enabled, "enabled") {
		c.TLS = &t
	}
}

func (d *decoder) sasl(c *kafka.Cluster, n *yaml.Node) {
	m := d.mapping(n, "sasl")
	if m == nil {
		return
	}
	s := &kafka.SASL{}
	c.SASL = s
	if n := m.need("mechanism", strings.Join(kafka.Mechanisms, ", ")); n != nil {
		s.Mechanism = d.enum(n, "mechanism", "PLAIN", kafka.Mechanisms...)
	}
	kind, other := "password", "token"
	if s.Mechanism == "OAUTHBEARER" {
		kind, other = other, kind
	}
	for _, name := range []string{"password", "token"} {
		if m.get(name) != nil { // never its value
			d.wrong(m.key(name), "a %s must not stand in a pipeline; name the variable that holds it with %s_env, or its file with %s_file", name, name, name)
		}
		for _, at := range []string{"_env", "_file"} {
			if n := m.get(name + at); n != nil && name == other {
				d.wrong(m.key(name+at), "%s has a %s, not a %s", s.Mechanism, kind, name)
			}
		}
	}
	user := m.get("username")
	if s.User = d.text(user, "username"); user == nil && kind == "password" {
		d.wrong(m.node, "sasl needs username: who we are")
	} else if user != nil && kind == "token" {
		d.wrong(m.key("username"), "OAUTHBEARER has no username: the token says who we are")
	}
	env, file := m.get(kind+"_env"), m.get(kind+"_file")
	s.Secret = credential.Secret{Env: d.text(env, kind+"_env"), File: d.text(file, kind+"_file")}
	if (env == nil) == (file == nil) && m.get(kind) == nil {
		d.wrong(m.node, "sasl needs %s_env or %s_file, one of them", kind, kind)
	}
	m.done()
}

// pause is how long to wait before connecting again: longer each time, so that a cluster that is away does not fill the log.
type pause struct{ tries int }

func (p *pause) wait(ctx context.Context) {
	t := time.NewTimer(min(250*time.Millisecond<<min(p.tries, 10), 10*time.Second))
	defer t.Stop()
	p.tries++
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
