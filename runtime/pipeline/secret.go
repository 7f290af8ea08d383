package pipeline

import (
	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/credential"
)

func secretFields(name, what string) []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(name + "_env").Description("The variable of the environment that holds " + what + ".").Optional(),
		service.NewStringField(name + "_file").Description("The file that holds " + what + ", read for each request, so that it may be renewed.").Optional(),
	}
}

// secret reads NAME_env or NAME_file; given says whether one of them is there. NAME itself is wrong, and never shown.
func (d *decoder) secret(m *mapping, name string) (s credential.Secret, given bool) {
	if m.get(name) != nil {
		d.wrong(m.key(name), "the %s must not stand in a pipeline; name the variable that holds it with %s_env, or its file with %s_file", name, name, name)
		given = true
	}
	m.known = m.known[:len(m.known)-1] // nobody is to be led there
	env, file := m.get(name+"_env"), m.get(name+"_file")
	if env != nil && file != nil {
		d.wrong(m.key(name+"_file"), "%s has %s_env and %s_file; keep one", m.what, name, name)
	}
	s = credential.Secret{Env: d.text(env, name+"_env"), File: d.text(file, name+"_file")}
	return s, given || env != nil || file != nil
}

func tlsField() *service.ConfigField {
	return service.NewObjectField("tls",
		service.NewStringField("ca_file").Description("PEM file of the authorities that may have signed the server's certificate.").Optional(),
		service.NewStringField("cert_file").Description("PEM file of our certificate, read again for each connection. With `key_file`.").Optional(),
		service.NewStringField("key_file").Description("PEM file of its key.").Optional(),
		service.NewStringField("server_name").Description("The name that the server's certificate must have, instead of its host.").Optional(),
		service.NewBoolField("skip_verify").Description("Takes any certificate: anybody may pose as the server.").Default(false),
	).Description("Files and names of https connections.").Optional().Advanced()
}

func (d *decoder) tlsFiles(n *yaml.Node) (t credential.TLS) {
	if n == nil {
		return t
	}
	if m := d.mapping(n, "tls"); m != nil {
		t = d.tlsOf(m)
	}
	return t
}

// tlsOf reads what is left of the mapping of a TLS connection.
func (d *decoder) tlsOf(m *mapping) credential.TLS {
	t := credential.TLS{CAFile: d.text(m.get("ca_file"), "ca_file"), CertFile: d.text(m.get("cert_file"), "cert_file"), KeyFile: d.text(m.get("key_file"), "key_file"),
		ServerName: d.text(m.get("server_name"), "server_name"), SkipVerify: d.bool(m.get("skip_verify"), "skip_verify")}
	if (t.CertFile == "") != (t.KeyFile == "") {
		d.wrong(m.node, "tls needs cert_file and key_file together, or neither")
	}
	m.done()
	return t
}
