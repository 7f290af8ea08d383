package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seed-98920119/tocsin/runtime/credential"
)

const secret = "hunter2-must-not-be-said"

// Each mechanism lets us in with the right secret, from the environment or a file. With a wrong one the reader stops, and the
// secret is neither in the error nor in the log.
func TestSASL(t *testing.T) {
	t.Setenv("RIGHT", secret)
	t.Setenv("WRONG", secret+"-wrong")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range Mechanisms {
		if mechanism == "OAUTHBEARER" {
			continue // kfake does not know it: below
		}
		t.Run(mechanism, func(t *testing.T) {
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "logins"), kfake.EnableSASL(), kfake.Superuser(mechanism, "tocsin", secret))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			var log logged
			in := Input{Cluster: Cluster{Seeds: c.ListenAddrs(), Log: Log{Warn: log.say, Info: log.say}}, Topics: []string{"logins"}, UntilEnd: true}
			for _, s := range []credential.Secret{{Env: "RIGHT"}, {File: file}} {
				in.SASL = &SASL{Mechanism: mechanism, User: "tocsin", Secret: s}
				r, err := Open(t.Context(), in, nil)
				if err != nil {
					t.Fatalf("%+v: %v", s, err)
				}
				readAll(t, r, -1)
				r.Close()
			}
			in.SASL = &SASL{Mechanism: mechanism, User: "tocsin", Secret: credential.Secret{Env: "WRONG"}}
			_, err = Open(t.Context(), in, nil) // kfake only hangs up
			if err == nil || strings.Contains(err.Error()+log.String(), secret) {
				t.Errorf("%v\n%s", err, log.String())
			}
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, TopLevel: true, Err: kerr.SaslAuthenticationFailed, Count: -1}) // as Kafka says it
			_, err = Open(t.Context(), in, nil)
			var stop *Stop
			if !errors.As(err, &stop) || !strings.Contains(err.Error(), "correct `sasl`") || strings.Contains(err.Error()+log.String(), secret) {
				t.Errorf("%v\n%s", err, log.String())
			}
			in.SASL.Secret = credential.Secret{Env: "NOBODY_HAS_SET_THIS"}
			if _, err = Open(t.Context(), in, nil); err == nil || err.Error() != "sasl: the environment has no variable NOBODY_HAS_SET_THIS" {
				t.Errorf("%v", err)
			}
		})
	}
}

// The token of OAUTHBEARER is sent as RFC 7628 writes it, and read again for each connection; a broker that refuses it is named.
func TestOAuthBearer(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.in.SASL = &SASL{Mechanism: "OAUTHBEARER", Secret: credential.Secret{File: file}}
	f.in.UntilEnd = true
	good := true
	var sent []string
	f.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
		resp.SupportedMechanisms = []string{"OAUTHBEARER"}
		return resp, nil, true
	})
	f.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		sent = append(sent, string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes))
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		if !good {
			resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		}
		return resp, nil, true
	})
	for _, token := range []string{secret + "1", secret + "2"} {
		write(token)
		r := f.open(nil)
		readAll(t, r, -1)
		r.Close()
		if want := "n,,\x01auth=Bearer " + token + "\x01\x01"; sent[len(sent)-1] != want {
			t.Errorf("sent %q, want %q", sent[len(sent)-1], want)
		}
	}
	good = false
	if said := f.refused(nil) + f.log.String(); strings.Contains(said, secret) || !strings.Contains(said, "correct `sasl`") {
		t.Error(said)
	}
	write("")
	if said := f.refused(nil); said != "sasl: file "+file+" is empty" {
		t.Error(said)
	}
}

// authority makes a certificate for 127.0.0.1 that signs itself, and writes it and its key.
func authority(t *testing.T, until time.Time) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, data := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}

func TestTLS(t *testing.T) {
	cert, certFile, keyFile := authority(t, time.Now().Add(time.Hour))
	pool := x509.NewCertPool()
	pem, _ := os.ReadFile(certFile)
	pool.AppendCertsFromPEM(pem)
	f := newFakeTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	for name, c := range map[string]struct {
		tls  *credential.TLS
		want string // in the error; empty: it works
		stop bool
	}{
		"right":              {&credential.TLS{CAFile: certFile, CertFile: certFile, KeyFile: keyFile}, "", false},
		"anybody":            {&credential.TLS{SkipVerify: true, CertFile: certFile, KeyFile: keyFile}, "", false},
		"unknown authority":  {&credential.TLS{CertFile: certFile, KeyFile: keyFile}, "name the authority that signed it with `tls: { ca_file }`", true},
		"another name":       {&credential.TLS{CAFile: certFile, ServerName: "elsewhere", CertFile: certFile, KeyFile: keyFile}, "or the name in it with `server_name`", true},
		"no certificate":     {&credential.TLS{CAFile: certFile}, "no broker answers", false},
		"no file":            {&credential.TLS{CAFile: "missing.pem"}, "tls: ca_file: open missing.pem", true},
		"no certificates":    {&credential.TLS{CAFile: keyFile}, "holds no certificate in PEM", true},
		"key without a file": {&credential.TLS{CAFile: certFile, CertFile: certFile, KeyFile: "missing.pem"}, "tls: cert_file and key_file: open missing.pem", true},
		"not at all":         {nil, "do the brokers want `tls`", false},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Cluster: Cluster{Seeds: f, TLS: c.tls}, Topics: []string{"logins"}, UntilEnd: true}
			r, err := Open(t.Context(), in, nil)
			if err == nil {
				r.Close()
			}
			var stop *Stop
			switch {
			case (err == nil) != (c.want == ""):
				t.Errorf("%v", err)
			case err != nil && (!strings.Contains(err.Error(), c.want) || errors.As(err, &stop) != c.stop):
				t.Errorf("stop %v: %v", errors.As(err, &stop), err)
			}
		})
	}
}

func newFakeTLS(t *testing.T, conf *tls.Config) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "logins"), kfake.TLS(conf))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// A certificate that has expired is named.
func TestExpired(t *testing.T) {
	cert, certFile, _ := authority(t, time.Now().Add(-time.Minute))
	in := Input{Cluster: Cluster{Seeds: newFakeTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}}), TLS: &credential.TLS{CAFile: certFile}}, Topics: []string{"logins"}}
	if _, err := Open(t.Context(), in, nil); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v", err)
	}
}
