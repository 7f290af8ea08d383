package credential

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A secret is read as it is now, and an error names the place and not the secret. What connections are refused for is tested where they are
// made: runtime/kafka, runtime/pipeline.
func TestSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SET", "from the environment")
	t.Setenv("EMPTY", "")
	write("first\r\n")
	for _, x := range []struct {
		secret    Secret
		want, err string
	}{
		{Secret{Env: "SET"}, "from the environment", ""},
		{Secret{Env: "EMPTY"}, "", "the environment has no variable EMPTY"},
		{Secret{Env: "NOBODY_HAS_SET_THIS"}, "", "the environment has no variable NOBODY_HAS_SET_THIS"},
		{Secret{File: file}, "first", ""},
		{Secret{File: file + "x"}, "", "no such file"},
	} {
		if got, err := x.secret.Read(); got != x.want || (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%+v: %q, %v", x.secret, got, err)
		}
	}
	write(" second \n\n")
	if got, err := (Secret{File: file}).Read(); got != " second " || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	write("\n")
	if _, err := (Secret{File: file}).Read(); err == nil || !strings.HasSuffix(err.Error(), "is empty") {
		t.Error(err)
	}
}

func TestTLSFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(file, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		files TLS
		want  string
	}{
		{TLS{ServerName: "a", SkipVerify: true}, ""},
		{TLS{CAFile: file + "x"}, "tls: ca_file: open "},
		{TLS{CAFile: file}, "holds no certificate in PEM"},
		{TLS{CertFile: file, KeyFile: file}, "tls: cert_file and key_file: "},
	} {
		conf, err := x.files.Config()
		if (err == nil) != (x.want == "") || err != nil && (!strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%+v: %v", x.files, err)
		}
		if err == nil && (conf.ServerName != "a" || !conf.InsecureSkipVerify || conf.RootCAs != nil || conf.GetClientCertificate != nil) {
			t.Errorf("%+v", conf)
		}
	}
}
