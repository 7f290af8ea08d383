// Package gen makes log files for benchmarks and examples: seeded, so that the same seed gives the same bytes.
package gen

import (
	"bufio"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Start is when generated logs begin unless they say otherwise.
var Start = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// Keys is the number of source addresses that logins come from.
const Keys = 50_000

// CountThreshold is the number of logins in 20 s that makes a window a row in the count benchmark: at 2 000 events a
// second, addresses being zipf-distributed (s = 1.1) over Keys, about 0.6 rows for 100 events.
const CountThreshold = 12

// Logins are login events of about 220 bytes, in order of time, spread evenly over Span.
type Logins struct {
	Seed   uint64
	Events int
	Span   time.Duration // default: 2 000 events a second
	One    bool          // all from one address
}

// IDS are alerts of an intrusion detection system, in order of time, spread evenly over Span. A share Known of them comes
// from addresses that log in, drawn evenly; the rest from addresses that never do.
type IDS struct {
	Seed   uint64
	Events int
	Span   time.Duration
	Known  float64
	One    bool // all from the one address of Logins
}

// JoinCase is the join benchmark: with an hour on both sides about one login in a hundred finds an alert.
func JoinCase(seed uint64, logins, ids int) (Logins, IDS) {
	return Logins{Seed: seed, Events: logins, Span: 24 * time.Hour},
		IDS{Seed: seed + 1, Events: ids, Span: 24 * time.Hour, Known: 0.03 * 200_000 / float64(max(ids, 1))}
}

// ScannerCase is one address that does everything: so many logins in twenty minutes, and an alert about it every minute.
func ScannerCase(seed uint64, logins int) (Logins, IDS) {
	return Logins{Seed: seed, Events: logins, Span: 20 * time.Minute, One: true}, IDS{Seed: seed + 1, Events: 20, Span: 20 * time.Minute, One: true}
}

// address is an address of pool 10 (it logs in) or 11 (it does not); neighbours in rank are far apart.
func address(dst []byte, pool int, n uint64) []byte {
	n = (n * 2_654_435_761) & 0xffffff
	dst = strconv.AppendInt(dst, int64(pool), 10)
	for shift := 16; shift >= 0; shift -= 8 {
		dst = strconv.AppendUint(append(dst, '.'), n>>shift&0xff, 10)
	}
	return dst
}

func at(i, n int, span time.Duration) int64 {
	return Start.UnixMilli() + int64(float64(i)*float64(span.Milliseconds())/float64(n))
}

var agents = []string{"Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Windows NT 10.0)", "OpenSSH_9.6p1 Debian-3", "curl/8.7.1 (x86_64-pc-linux)"}

// Write writes the events as JSON lines.
func (g Logins) Write(w io.Writer) error {
	if g.Span == 0 {
		g.Span = time.Duration(g.Events) * time.Second / 2000
	}
	r := rand.New(rand.NewPCG(g.Seed, 1))
	zipf := rand.NewZipf(r, 1.1, 1, Keys-1)
	out := bufio.NewWriterSize(w, 1<<20)
	var b []byte
	for i := range g.Events {
		b = append(b[:0], `{"login_time":"`...)
		b = event.AppendTime(b, at(i, g.Events, g.Span))
		b = append(b, `","source_ip":"`...)
		rank := zipf.Uint64()
		if g.One {
			rank = 0
		}
		b = address(b, 10, rank)
		b = append(b, `","username":"user`...)
		b = strconv.AppendInt(b, r.Int64N(9000)+1000, 10)
		b = append(b, `","status":"`...)
		b = append(b, []string{"success", "failure"}[r.IntN(2)]...)
		b = append(b, `","method":"password","user_agent":"`...)
		b = append(b, agents[r.IntN(len(agents))]...)
		b = append(b, `","session_id":"`...)
		b = strconv.AppendUint(b, r.Uint64()|1<<63, 16)
		b = append(b, `","country":"DE"}`...)
		b = append(b, '\n')
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Write writes the events as JSON lines.
func (g IDS) Write(w io.Writer) error {
	r := rand.New(rand.NewPCG(g.Seed, 2))
	out := bufio.NewWriterSize(w, 1<<20)
	var b []byte
	for i := range g.Events {
		b = append(b[:0], `{"event_time":"`...)
		b = event.AppendTime(b, at(i, g.Events, g.Span))
		b = append(b, `","source_ip":"`...)
		if g.One {
			b = address(b, 10, 0)
		} else if r.Float64() < g.Known {
			b = address(b, 10, r.Uint64N(Keys))
		} else {
			b = address(b, 11, r.Uint64N(1<<20))
		}
		b = append(b, `","severity":"`...)
		b = append(b, []string{"low", "medium", "high", "critical"}[r.IntN(4)]...)
		b = append(b, `","attack_classification":"`...)
		b = append(b, []string{"port-scan", "sql-injection", "brute-force", "malware"}[r.IntN(4)]...)
		b = append(b, `","signature_id":`...)
		b = strconv.AppendInt(b, 2_000_000+r.Int64N(40_000), 10)
		b = append(b, `,"destination":{"ip":"192.0.2.`...)
		b = strconv.AppendInt(b, r.Int64N(254)+1, 10)
		b = append(b, `","port":443},"sensor":"edge-`...)
		b = strconv.AppendInt(b, r.Int64N(8)+1, 10)
		b = append(b, "\"}\n"...)
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}
