package pipeline

import (
	"net/url"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/kafka"
)

// registryFields say how to reach a schema registry.
func registryFields() []*service.ConfigField {
	fields := []*service.ConfigField{
		service.NewStringField("url").Description("Where it is; several, of which one answers, with commas between them.").Example("http://localhost:8081"),
		service.NewStringField("username").Description("Who we are, with a password.").Optional(),
	}
	fields = append(fields, secretFields("password", "the password")...)
	fields = append(fields, secretFields("token", "a bearer token, instead of a user and password")...)
	return append(fields, tlsField())
}

const registryURLs = 8

// registry reads how to reach a schema registry. The mapping is not done: an output has more in it.
func (d *decoder) registry(m *mapping) *kafka.Registry {
	r := &kafka.Registry{}
	n := m.need("url", "where the registry is, such as http://localhost:8081")
	for _, text := range strings.Split(d.text(n, "url"), ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case text == "":
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			d.wrong(n, "url must be like http://localhost:8081")
		case u.User != nil:
			d.wrong(n, "who we are must not stand in url; set username and password_env")
		case u.RawQuery != "" || u.Fragment != "":
			d.wrong(n, "url must end with the path, without ? and #")
		default:
			r.URLs = append(r.URLs, strings.TrimRight(u.String(), "/"))
		}
	}
	if len(r.URLs) > registryURLs {
		d.wrong(n, "url names %d registries, the limit is %d", len(r.URLs), registryURLs)
	}
	user := m.get("username")
	r.User = d.text(user, "username")
	password, hasPassword := d.secret(m, "password")
	token, hasToken := d.secret(m, "token")
	switch {
	case hasPassword && hasToken:
		d.wrong(m.node, "schema_registry has a password and a token; keep one")
	case hasPassword && user == nil:
		d.wrong(m.node, "schema_registry needs username: whose password it is")
	case user != nil && !hasPassword:
		d.wrong(m.key("username"), "username needs password_env or password_file")
	case hasPassword:
		r.Login = &password
	case hasToken:
		r.Login = &token
	}
	if n := m.get("tls"); n != nil {
		t := d.tlsFiles(n)
		r.TLS = &t
	}
	return r
}

// registered says what is wrong with streams whose records begin with the id of a schema, if no input has a registry.
func (c *checker) registered(top *yaml.Node, conf *Config) {
	if conf == nil || len(conf.registered) == 0 || mentions(peek(top, "input"), "schema_registry") || peek(top, "input_resources") != nil || mentions(peek(top, "input"), "resource") {
		return
	}
	for _, n := range conf.registered {
		c.at(n, "records of this format begin with the id of their schema, and no input has a `schema_registry`; name it there, or a file here: { %s: { schema: FILE } }", n.Value)
	}
}

// mentions says whether a key stands anywhere in a node.
func mentions(n *yaml.Node, key string) bool {
	if n = resolve(orNothing(n)); n.Kind == yaml.MappingNode && peek(n, key) != nil {
		return true
	}
	for _, x := range n.Content {
		if mentions(x, key) {
			return true
		}
	}
	return false
}

func orNothing(n *yaml.Node) *yaml.Node {
	if n == nil {
		return &yaml.Node{}
	}
	return n
}
