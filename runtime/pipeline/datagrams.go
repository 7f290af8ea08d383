package pipeline

import (
	"bytes"
	"context"
	"io"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The scanner `datagrams`: over UDP a datagram is a message, whether it ends with a newline or not. The scanners of Benthos see a stream:
// without newlines `lines` would put datagrams together until they are too long, and then end the input.

// datagramMax is the longest datagram that there is.
const datagramMax = 64 << 10

func init() {
	spec := service.NewConfigSpec().Summary("Makes a message of each datagram; for `socket_server` with `network: udp` or `unixgram`.").
		Description("Senders need not end a message with a newline. Ends of lines and zero bytes behind a message are left out, and empty datagrams. A datagram has at most 64 KiB.").
		Example("Syslog over UDP", "It waits for senders, such as `logger -n 127.0.0.1 -P 5514 -d text`, until it is stopped.", `input:
  socket_server:
    network: udp
    address: 127.0.0.1:5514
    scanner: { datagrams: {} }
buffer:
  detect:
    name: datagrams
    state: ./state/datagrams
    streams:
      logs: { format: syslog, time: { field: timestamp, format: syslog, on_missing: arrival } }
    operators:
      sshd: { filter: { from: logs, where: { app: [sshd, sudo] } } }
output:
  console: { rows: true }
`)
	err := service.RegisterBatchScannerCreator("datagrams", spec, func(*service.ParsedConfig, *service.Resources) (service.BatchScannerCreator, error) {
		return datagrams{}, nil
	})
	if err != nil {
		panic(err)
	}
}

type datagrams struct{}

// Create implements service.BatchScannerCreator.
func (datagrams) Create(r io.ReadCloser, ack service.AckFunc, _ *service.ScannerSourceDetails) (service.BatchScanner, error) {
	return service.AutoAggregateBatchScannerAcks(&datagramScanner{r, make([]byte, datagramMax)}, ack), nil
}

// Close has nothing to give back.
func (datagrams) Close(context.Context) error { return nil }

type datagramScanner struct {
	r   io.ReadCloser
	buf []byte
}

// NextBatch waits for the next datagram that is not empty.
func (s *datagramScanner) NextBatch(ctx context.Context) (service.MessageBatch, error) {
	for ctx.Err() == nil {
		n, err := s.r.Read(s.buf)
		if text := bytes.TrimRight(s.buf[:n], "\r\n\x00"); len(text) > 0 {
			return service.MessageBatch{service.NewMessage(bytes.Clone(text))}, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, ctx.Err()
}

// Close closes the socket.
func (s *datagramScanner) Close(context.Context) error { return s.r.Close() }
