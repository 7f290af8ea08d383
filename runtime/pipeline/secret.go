package pipeline

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"
)

// secret names where a secret is: it never stands in a pipeline, so that no log, error or repository holds it.
type secret struct{ env, file string }

// read gives the secret as it is now.
func (s secret) read() (string, error) {
	if s.env != "" {
		v, ok := os.LookupEnv(s.env)
		if !ok || v == "" {
			return "", fmt.Errorf("the environment has no variable %s", s.env)
		}
		return v, nil
	}
	b, err := os.ReadFile(s.file)
	if err != nil {
		return "", err
	}
	v := strings.TrimRight(string(b), "\r\n")
	if v == "" {
		return "", fmt.Errorf("file %s is empty", s.file)
	}
	return v, nil
}

func secretFields(name, what string) []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(name + "_env").Description("The variable of the environment that holds " + what + ".").Optional(),
		service.NewStringField(name + "_file").Description("The file that holds " + what + ", read for each request, so that it may be renewed.").Optional(),
	}
}

// secret reads NAME_env or NAME_file; given says whether one of them is there. NAME itself is wrong, and never shown.
func (d *decoder) secret(m *mapping, name string) (s secret, given bool) {
	if m.get(name) != nil {
		d.wrong(m.key(name), "the %s must not stand in a pipeline; name the variable that holds it with %s_env, or its file with %s_file", name, name, name)
		given = true
	}
	m.known = m.known[:len(m.known)-1] // nobody is to be led there
	env, file := m.get(name+"_env"), m.get(name+"_file")
	if env != nil && file != nil {
		d.wrong(m.key(name+"_file"), "%s has %s_env and %s_file; keep one", m.what, name, name)
	}
	s = secret{d.text(env, name+"_env"), d.text(file, name+"_file")}
	return s, given || env != nil || file != nil
}

// tlsFiles are the files and names of a TLS connection.
type tlsFiles struct {
	ca, cert, key, server string
	skipVerify            bool
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

func (d *decoder) tlsFiles(n *yaml.Node) (t tlsFiles) {
	if n == nil {
		return t
	}
	m := d.mapping(n, "tls")
	if m == nil {
		return t
	}
	t = tlsFiles{ca: d.text(m.get("ca_file"), "ca_file"), cert: d.text(m.get("cert_file"), "cert_file"), key: d.text(m.get("key_file"), "key_file"),
		server: d.text(m.get("server_name"), "server_name"), skipVerify: d.bool(m.get("skip_verify"), "skip_verify")}
	if (t.cert == "") != (t.key == "") {
		d.wrong(m.node, "tls needs cert_file and key_file together, or neither")
	}
	m.done()
	return t
}

// config reads the files once, to find what is wrong with them, and our certificate again whenever the server asks for it.
func (t tlsFiles) config() (*tls.Config, error) {
	conf := &tls.Config{ServerName: t.server, InsecureSkipVerify: t.skipVerify, MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, fmt.Errorf("tls: ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: ca_file: %s holds no certificate in PEM", t.ca)
		}
	}
	if t.cert == "" {
		return conf, nil
	}
	load := func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("tls: cert_file and key_file: %w", err)
		}
		return &cert, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return conf, nil
}
