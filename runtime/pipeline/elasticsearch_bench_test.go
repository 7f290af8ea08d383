//go:build unix

package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// BenchmarkElasticBulk is what a row takes of a core from the message to the answer of a server that does nothing, whose own part, reading and
// answering in the same process, is counted too.
//
//	go test ./runtime/pipeline -run '^$' -bench ElasticBulk
func BenchmarkElasticBulk(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := 256
		if r.Header.Get("Content-Encoding") == "" {
			n = bytes.Count(body, []byte("\n")) / 2
		}
		io.WriteString(w, `{"errors":false,"items":[`+strings.Repeat(`{"index":{"status":201}},`, n-1)+`{"index":{"status":201}}]}`)
	}))
	defer s.Close()
	for _, conf := range []string{"compression: none", "compression: gzip", "compression: gzip\nmetadata: true\nindex: 'tocsin-${! @kind }'"} {
		b.Run(strings.Join(strings.FieldsFunc(conf, func(r rune) bool { return r == '\n' }), ","), func(b *testing.B) {
			if !strings.Contains(conf, "index:") {
				conf += "\nindex: tocsin-rows"
			}
			parsed, err := elasticBulkSpec().ParseYAML("urls: ["+s.URL+"]\n"+conf, nil)
			if err != nil {
				b.Fatal(err)
			}
			out, err := newElasticBulk(parsed, service.MockResources())
			if err != nil {
				b.Fatal(err)
			}
			var batch service.MessageBatch
			for i := range 256 { // as many as the buffer hands over at once
				batch = append(batch, rowMessage(fmt.Sprintf(`{"source_ip":"203.0.113.%d","window_start":"2026-03-02T08:00:00.000Z","window_end":"2026-03-02T08:00:20.000Z","login_attempts":9,"users":3}`, i),
					"result_id", fmt.Sprintf("%026d", i), "kind", "row", "operator", "login_attempts", "revision", "0", "event_time_ms", "1772438419999"))
			}
			began := cpuTime()
			for range b.N {
				if err := out.WriteBatch(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			each := float64(cpuTime()-began) / float64(b.N*len(batch))
			b.ReportMetric(each, "CPU-ns/row")
			b.ReportMetric(1e9/each, "rows/CPU-s")
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
