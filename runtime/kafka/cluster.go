// Package kafka reads topics as blocks of records and writes rows as records, over franz-go. It knows nothing of Benthos, graphs or
// storage: where reading goes on is told to it, and how far it came stands in the blocks.
//
// Partitions are assigned explicitly, since state on a disk cannot follow a group's rebalance; member.go is for pipelines without state. What no retry mends is a *Stop, with
// the reason and the next step; everything else is retried for ever. Read reader.go first; plan.go decides where reading begins,
// writer.go is the other direction.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/seed-98920119/tocsin/runtime/credential"
)

// Cluster says how to reach the brokers.
type Cluster struct {
	Seeds []string        // host:port
	TLS   *credential.TLS // nil: none
	SASL  *SASL           // nil: none
	Log   Log
}

// SASL says who we are. Secrets are read for each authentication and never kept; Secret's errors name where it looked, not
// what it found.
type SASL struct {
	Mechanism string            // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
	User      string            // not with OAUTHBEARER
	Secret    credential.Secret // the password, or the token
}

// Mechanisms are those of SASL.
var Mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"}

// Log is where the client says what people should know; nil functions say nothing.
type Log struct {
	Warn, Info func(format string, args ...any)
}

func (l Log) warn(format string, args ...any) {
	if l.Warn != nil {
		l.Warn(format, args...)
	}
}

func (l Log) info(format string, args ...any) {
	if l.Info != nil {
		l.Info(format, args...)
	}
}

// Stop is an error that no retry mends.
type Stop struct{ Err error }

func (s *Stop) Error() string { return s.Err.Error() }
func (s *Stop) Unwrap() error { return s.Err }

func stopf(format string, args ...any) error { return &Stop{fmt.Errorf(format, args...)} }

// patience is how long the first answer of a cluster is waited for.
const patience = 10 * time.Second

// The most that a broker may send in one answer, and a batch may grow to when it is decompressed.
const (
	answerMax     = 256 << 20
	decompressMax = 256 << 20
)

// connect makes a client and asks the cluster for a first answer, so that what is wrong with addresses, certificates and passwords
// is said at the start.
func (c Cluster) connect(ctx context.Context, more ...kgo.Opt) (*kgo.Client, *health, error) {
	if err := c.check(); err != nil {
		return nil, nil, &Stop{err}
	}
	h := &health{}
	opts := []kgo.Opt{kgo.SeedBrokers(c.Seeds...), kgo.ClientID("tocsin"), kgo.SoftwareNameAndVersion("tocsin", "1"), kgo.WithHooks(h), kgo.WithLogger(h),
		kgo.BrokerMaxReadBytes(answerMax), kgo.MaxDecompressBatchBytes(decompressMax), kgo.DisableClientMetrics(), kgo.RetryTimeout(patience)}
	if c.TLS != nil {
		conf, err := c.TLS.Config()
		if err != nil {
			return nil, nil, &Stop{err}
		}
		opts = append(opts, kgo.DialTLSConfig(conf))
	}
	if c.SASL != nil {
		opts = append(opts, kgo.SASL(c.SASL.mechanism()))
	}
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, nil, &Stop{err}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, nil, c.explain(err, h)
	}
	h.listen(c.Log) // until now the error says it all
	return client, h, nil
}

// check tries what the client would only find out again and again.
func (c Cluster) check() error {
	if c.SASL == nil {
		return nil
	}
	_, err := c.SASL.Secret.Read()
	return wrap("sasl", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// explain says why no broker answered, and what to do.
func (c Cluster) explain(err error, h *health) error {
	if last := h.lastError(); last != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrClientClosed)) {
		err = last
	}
	seeds := strings.Join(c.Seeds, ", ")
	var eof *kgo.ErrFirstReadEOF
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.IllegalSaslState), errors.Is(err, kerr.UnsupportedSaslMechanism):
		return stopf("%s: the brokers do not let us in: %w; correct `sasl`", seeds, err)
	case errors.As(err, &unknown):
		return stopf("%s: %w; name the authority that signed it with `tls: { ca_file }`, or the name in it with `server_name`", seeds, err)
	case errors.As(err, &eof):
		return fmt.Errorf("%s: %w; do the brokers want `tls` or `sasl`, or neither?", seeds, err)
	}
	return fmt.Errorf("%s: no broker answers: %w", seeds, err)
}

func (s *SASL) mechanism() sasl.Mechanism {
	switch s.Mechanism {
	case "SCRAM-SHA-256":
		return scram.Sha256(s.scram)
	case "SCRAM-SHA-512":
		return scram.Sha512(s.scram)
	case "OAUTHBEARER":
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := s.Secret.Read()
			return oauth.Auth{Token: token}, err
		})
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		pass, err := s.Secret.Read()
		return plain.Auth{User: s.User, Pass: pass}, err
	})
}

func (s *SASL) scram(context.Context) (scram.Auth, error) {
	pass, err := s.Secret.Read()
	return scram.Auth{User: s.User, Pass: pass}, err
}
