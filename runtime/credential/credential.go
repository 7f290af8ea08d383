// Package credential reads secrets and certificates from where they are named: they never stand in a pipeline, so that no log, error or
// repository holds them. Errors say where was looked, never what was found.
package credential

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
)

// Secret is where a secret stands: a variable of the environment or a file, one of them. The zero Secret is none.
type Secret struct{ Env, File string }

// Read gives the secret as it is now, without the newline that editors put after it.
func (s Secret) Read() (string, error) {
	if s.Env != "" {
		v, ok := os.LookupEnv(s.Env)
		if !ok || v == "" {
			return "", fmt.Errorf("the environment has no variable %s", s.Env)
		}
		return v, nil
	}
	b, err := os.ReadFile(s.File)
	if err != nil {
		return "", err
	}
	v := strings.TrimRight(string(b), "\r\n")
	if v == "" {
		return "", fmt.Errorf("file %s is empty", s.File)
	}
	return v, nil
}

// TLS names the files and names of a client's connections.
type TLS struct {
	CAFile            string // PEM; empty: the system's authorities
	CertFile, KeyFile string // PEM, of the client; both or none
	ServerName        string // empty: the server's host
	SkipVerify        bool   // anybody may pose as the server
}

// Config reads the files once, to find what is wrong with them, and our certificate again whenever a server asks for it, so that it may be
// renewed in place.
func (t TLS) Config() (*tls.Config, error) {
	conf := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.SkipVerify, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls: ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: ca_file: %s holds no certificate in PEM", t.CAFile)
		}
	}
	if t.CertFile == "" {
		return conf, nil
	}
	if _, err := t.load(); err != nil {
		return nil, err
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.load() }
	return conf, nil
}

func (t TLS) load() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls: cert_file and key_file: %w", err)
	}
	return &cert, nil
}
