package bigquery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
	"github.com/seed-98920119/tocsin/runtime/retry"
)

var own = []Column{{"result_id", "STRING", "REQUIRED"}, {"revision", "INTEGER", "REQUIRED"}, {"event_time", "TIMESTAMP", ""}}

var attempts = &Shape{[]Column{{"ip", "STRING", ""}, {"n", "INTEGER", ""}, {"share", "FLOAT", ""}, {"bad", "BOOLEAN", ""}, {"at", "TIMESTAMP", ""}, {"more", "JSON", ""}}}

var methods = map[string]Method{"append": Append, "exact": Exact, "insert": Insert}

var table1 = Destination{"p", "d", "t"}

// server is a double with the dataset of table1.
func server(t *testing.T) *double.Server {
	t.Helper()
	s := double.New()
	t.Cleanup(s.Close)
	s.AddDataset("p.d")
	return s
}

// client is a client that makes tables and does not wait long.
func client(t *testing.T, s *double.Server, m Method, change func(c *Config)) *Client {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	conf := Config{Endpoint: u, Storage: s.Storage, Method: m, Store: filepath.Join(t.TempDir(), "store"), Own: own, Create: true, RequestMax: 1 << 20, RowsMax: 500,
		Timeout: 10 * time.Second, Patience: time.Minute, Disk: Disk{Lock: func(*os.File) error { return nil }, SyncFolder: func(string) error { return nil }}}
	if change != nil {
		change(&conf)
	}
	c, err := NewClient(conf)
	if err != nil {
		t.Fatal(err)
	}
	c.pause = retry.Pauses{Least: time.Millisecond, Most: 5 * time.Millisecond}
	t.Cleanup(c.Close)
	return c
}

// row is a row of a shape.
func row(id int, object string, shape *Shape) Row {
	return Row{ID: fmt.Sprintf("r%d.0", id), Own: [][]byte{fmt.Appendf(nil, `"r%d"`, id), []byte("0"), []byte(`"2026-03-02T08:00:19.999Z"`)}, Object: []byte(object), Shape: shape}
}

func rowsFrom(from, to int) (rows []Row) {
	for i := from; i < to; i++ {
		rows = append(rows, row(i, fmt.Sprintf(`{"ip":"10.0.0.%d","n":%d}`, i%250, i), attempts))
	}
	return rows
}

func wanted(n int) map[string]bool {
	want := map[string]bool{}
	for i := range n {
		want[fmt.Sprintf("r%d.0", i)] = true
	}
	return want
}

// faulty goes wrong now and then, in all ways that pass.
func faulty(seed uint64) func(c double.Call) double.Fault {
	r := rand.New(rand.NewPCG(seed, 2)) // used under the double's lock
	return func(c double.Call) (f double.Fault) {
		f.Stays = r.IntN(2) == 0
		switch r.IntN(10) {
		case 0:
			f.Status, f.Code = []int{429, 500, 503}[r.IntN(3)], uint32([]codes.Code{codes.ResourceExhausted, codes.Unavailable, codes.Internal, codes.Aborted}[r.IntN(4)])
		case 1:
			f.Status, f.Reason, f.Code = 403, []string{"rateLimitExceeded", "quotaExceeded"}[r.IntN(2)], uint32(codes.ResourceExhausted)
		case 2:
			f.Reset = true
		case 3:
			f.Lost = true
		case 4:
			f.Gone = c.Name == "append"
		case 5:
			f.Expire = r.IntN(3) == 0 && (c.Name == "append" || c.Name == "finalize")
		}
		return f
	}
}

// settle writes rows until none of them is left that found BigQuery busy, as the buffer does.
func settle(t *testing.T, c *Client, rows []Row) {
	t.Helper()
	for len(rows) > 0 {
		var again []Row
		for i, f := range c.Write(t.Context(), table1, rows) {
			switch f.Verdict {
			case Busy:
				again = append(again, rows[i])
			case Blocked, Refused:
				t.Fatalf("%s: %+v", rows[i].ID, f)
			}
		}
		rows = again
	}
}

// Storms of 429, quotas, resets, answers that are lost after everything was done, streams that end and expire, tables that are not known yet: in the
// end each row is there, once, but for the default stream, which may have one twice whose answer was lost.
func TestEachRowOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for name, m := range methods {
		t.Run(name, func(t *testing.T) {
			for round := range 8 {
				s := server(t)
				s.Lag = r.IntN(4)
				s.Fault = faulty(r.Uint64())
				c := client(t, s, m, func(c *Config) { c.RowsMax = 1 + r.IntN(50) })
				n := 0
				for range 20 {
					k := n + 1 + r.IntN(60)
					settle(t, c, rowsFrom(n, k))
					settle(t, c, rowsFrom(max(0, n-5), k)) // in the company of one that failed
					n = k
				}
				wrong := s.Once("p.d.t", wanted(n))
				if m == Append {
					wrong = leastOnce(s, n)
				}
				if len(wrong) > 0 {
					t.Fatalf("seed %d, round %d: %d wrong: %v", seed, round, len(wrong), wrong[:min(len(wrong), 5)])
				}
			}
		})
	}
}

func leastOnce(s *double.Server, n int) (wrong []string) {
	for _, w := range s.Once("p.d.t", wanted(n)) {
		if strings.HasSuffix(w, ": 0 times") || strings.HasPrefix(w, "not wanted") {
			wrong = append(wrong, w)
		}
	}
	return wrong
}

// A process that ends anywhere, between any two requests or in one, and comes back with the same rows in other batches: Exact has each row once.
// What a crash leaves is the store as it is on disk at that moment.
func TestExactSurvives(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 10 {
		s := server(t)
		faults := faulty(r.Uint64())
		var mu sync.Mutex
		var kill context.CancelFunc
		left, last := 0, false
		store, torn := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "torn")
		s.Fault = func(c double.Call) double.Fault {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 { // what is on disk now is what the next process finds; the request may still be done
				text, err := os.ReadFile(store)
				if err != nil {
					t.Error(err)
				}
				if last := text[bytes.LastIndexByte(text[:max(len(text)-1, 0)], '\n')+1:]; !bytes.HasPrefix(last, []byte("try ")) { // which was synced
					text = text[:len(text)-r.IntN(len(last)+1)]
				}
				if err := os.WriteFile(torn, text, 0o600); err != nil {
					t.Error(err)
				}
				kill()
			} else if left < 0 && !last {
				return double.Fault{Reset: true} // the dead send nothing
			}
			return faults(c)
		}
		const n = 600
		for crash := 0; ; crash++ {
			ctx, cancel := context.WithCancel(t.Context())
			mu.Lock()
			kill = cancel
			left, last = 1+r.IntN(40), crash > 12
			if last {
				left = -1
			}
			mu.Unlock()
			c := client(t, s, Exact, func(c *Config) {
				c.Store, c.RowsMax, c.Patience = store, 1+r.IntN(40), []time.Duration{0, 20 * time.Millisecond, time.Minute}[r.IntN(3)]
			})
			c.store.most = 2000                        // turns now and then
			for at := 0; at < n && ctx.Err() == nil; { // the buffer has acknowledged nothing
				k := min(n, at+1+r.IntN(80))
				fates := c.Write(ctx, table1, rowsFrom(at, k))
				if ok := !hasBusy(fates); ok {
					at = k
				}
			}
			dead := ctx.Err() != nil
			cancel()
			c.Close()
			if !dead {
				break
			}
			mu.Lock()
			if err := os.Rename(torn, store); err != nil {
				t.Fatal(err)
			}
			mu.Unlock()
		}
		if wrong := s.Once("p.d.t", wanted(n)); len(wrong) > 0 {
			t.Fatalf("seed %d, round %d: %d wrong: %v", seed, round, len(wrong), wrong[:min(len(wrong), 5)])
		}
	}
}

// A store that is older than the table, as a backup is, costs rows that are there twice, and none that is lost: the stream that it names is not written
// to again, since what it has at an offset may be other rows.
func TestExactFromBackup(t *testing.T) {
	for _, open := range []bool{false, true} { // whether a request was under way
		s := server(t)
		store := filepath.Join(t.TempDir(), "store")
		var backup []byte
		s.Fault = func(c double.Call) (f double.Fault) {
			if c.Name == "append" && c.N == 2 && open {
				backup, _ = os.ReadFile(store)
			}
			return f
		}
		c := client(t, s, Exact, func(c *Config) { c.Store = store })
		for i := range 6 {
			if settle(t, c, rowsFrom(4*i, 4*i+4)); i == 1 && !open {
				backup, _ = os.ReadFile(store)
			}
		}
		c.Close()
		if err := os.WriteFile(store, backup, 0o600); err != nil || len(backup) == 0 {
			t.Fatal(err)
		}
		c = client(t, s, Exact, func(c *Config) { c.Store = store })
		settle(t, c, rowsFrom(5, 15))
		settle(t, c, rowsFrom(15, 30))
		for _, w := range s.Once("p.d.t", wanted(30)) {
			if !strings.HasSuffix(w, ": 2 times") {
				t.Errorf("%t: %s", open, w)
			}
		}
		want := 24 + 30 - 8 // twice is what the backup does not know
		if open {
			want = 24 + 30 - 12
		}
		if got := len(s.Rows("p.d.t")); got != want {
			t.Errorf("%t: %d rows, want %d", open, got, want)
		}
	}
}

func hasBusy(fates []Fate) bool {
	for _, f := range fates {
		if f.Verdict == Busy {
			return true
		}
	}
	return false
}

// What a row is refused for is said of it alone, and the others are written, by one request fewer than there are refused rows.
func TestRefused(t *testing.T) {
	for name, m := range methods {
		s := server(t)
		s.RequestMax = 2000
		s.AddTable("p.d.t", "result_id STRING REQUIRED", "revision INTEGER REQUIRED", "n INTEGER", "share FLOAT", "ok BOOLEAN", "at TIMESTAMP", "must STRING REQUIRED", "rec RECORD", "list STRING REPEATED")
		c := client(t, s, m, func(c *Config) { c.Create = false })
		for _, tc := range []struct{ object, want string }{
			{`{"must":"x"}`, ""},
			{`{"must":"x","n":5,"share":0.5,"ok":true,"at":"2026-03-02T08:00:19.999999Z","list":["a",null,1],"other":null}`, ""},
			{`{"must":"x","n":"one"}`, `column n is INTEGER in the table, and "one" in the row`},
			{`{"must":"x","n":1.5}`, "column n is INTEGER in the table, and 1.5 in the row"},
			{`{"must":"x","share":"wide"}`, "column share is FLOAT"},
			{`{"must":"x","ok":1}`, "column ok is BOOLEAN"},
			{`{"must":"x","at":"yesterday"}`, "column at is TIMESTAMP"},
			{`{"must":"x","at":1772438419}`, "column at is TIMESTAMP"},
			{`{"must":"x","rec":{}}`, "column rec is RECORD, which this output does not write"},
			{`{"must":"x","a.b":1}`, "the table has no column a_b for the row's a.b"},
			{`{}`, "column must is REQUIRED in the table, and the row has none"},
			{`{"must":"` + strings.Repeat("x", 2000) + `"}`, "too large"},
		} {
			rows := []Row{row(0, `{"must":"before"}`, nil), row(1, tc.object, nil), row(2, `{"must":"behind"}`, nil)}
			c.store.now = map[string]bool{}
			f := c.Write(t.Context(), table1, rows)
			if (f[1].Verdict == Refused) != (tc.want != "") || !strings.Contains(f[1].Why, tc.want) || f[0].Verdict != Done || f[2].Verdict != Done {
				t.Errorf("%s: %s: %+v", name, tc.object, f)
			}
		}
	}
}

// Rows that BigQuery itself finds wrong are told apart from those that are only in their company.
func TestPartialFailure(t *testing.T) {
	for name, m := range methods {
		s := server(t)
		s.Fault = func(c double.Call) double.Fault {
			if c.N > 0 || c.Name != "append" && c.Name != "insertAll" {
				return double.Fault{}
			}
			return double.Fault{Row: func(i int) bool { return i%3 == 1 }}
		}
		c := client(t, s, m, nil)
		f := c.Write(t.Context(), table1, rowsFrom(0, 7))
		for i, x := range f {
			if want := i%3 == 1; (x.Verdict == Refused) != want || want && !strings.Contains(x.Why, "so ordered") || !want && x.Verdict != Done {
				t.Errorf("%s: %d: %+v", name, i, x)
			}
		}
		want := wanted(7)
		delete(want, "r1.0")
		delete(want, "r4.0")
		if wrong := s.Once("p.d.t", want); len(wrong) > 0 {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}

// A table that is not there, or not for us, holds only its own rows, and says what to do; BigQuery being busy holds all.
func TestBlocked(t *testing.T) {
	for name, m := range methods {
		for _, tc := range []struct {
			name   string
			create bool
			fault  double.Fault
			want   Verdict
			why    string
		}{
			{"no table", false, double.Fault{}, Blocked, "p.d.t: HTTP 404 notFound: Not found: Table p.d.t; make the table and its dataset, or set `create: true`"},
			{"denied", true, double.Fault{Status: 403, Reason: "accessDenied"}, Blocked, "the account needs the role roles/bigquery.dataEditor"},
			{"quota", true, double.Fault{Status: 403, Reason: "quotaExceeded"}, Busy, "quotaExceeded"},
			{"who", true, double.Fault{Status: 401, Reason: "authError"}, Busy, "correct `auth`"},
			{"down", true, double.Fault{Status: 503, Reason: "backendError"}, Busy, "HTTP 503 backendError: so ordered"},
			{"silent", true, double.Fault{Reset: true}, Busy, "EOF"},
		} {
			s := server(t)
			s.Fault = func(double.Call) double.Fault { return tc.fault }
			c := client(t, s, m, func(c *Config) { c.Create, c.Patience = tc.create, 0 })
			f := c.Write(t.Context(), table1, rowsFrom(0, 2))
			if f[0] != f[1] || f[0].Verdict != tc.want || !strings.Contains(f[0].Why, tc.why) {
				t.Errorf("%s, %s: %+v", name, tc.name, f)
			}
		}
	}
	for _, m := range []Method{Append, Exact} {
		s := server(t)
		s.Fault = func(c double.Call) (f double.Fault) {
			if c.Name == "append" || c.Name == "create" {
				f.Code = uint32(codes.PermissionDenied)
			}
			return f
		}
		if f := client(t, s, m, nil).Write(t.Context(), table1, rowsFrom(0, 1)); f[0].Verdict != Blocked || !strings.Contains(f[0].Why, "roles/bigquery.dataEditor") {
			t.Errorf("%+v", f)
		}
	}
}

// Patience ends, and so does the context.
func TestBusy(t *testing.T) {
	for name, m := range methods {
		s := server(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.Fault = func(c double.Call) (f double.Fault) {
			if c.Name == "append" || c.Name == "insertAll" {
				f = double.Fault{Status: 429, Reason: "rateLimitExceeded", Code: uint32(codes.ResourceExhausted)}
				if c.N == 5 {
					cancel()
				}
			}
			return f
		}
		var said []string
		warn := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		c := client(t, s, m, func(c *Config) { c.Patience, c.Warn = 0, warn })
		if f := c.Write(ctx, table1, rowsFrom(0, 1)); f[0].Verdict != Busy || !strings.Contains(f[0].Why, "so ordered") || s.Calls("append")+s.Calls("insertAll") != 1 {
			t.Errorf("%s: %d requests: %+v", name, s.Calls("append")+s.Calls("insertAll"), f)
		}
		c = client(t, s, m, func(c *Config) { c.Patience, c.Warn = time.Hour, warn })
		if f := c.Write(ctx, table1, rowsFrom(0, 1)); f[0].Verdict != Busy || s.Calls("append")+s.Calls("insertAll") != 6 {
			t.Errorf("%s: %d requests: %+v", name, s.Calls("append")+s.Calls("insertAll"), f)
		}
		if len(said) != 1 || !strings.Contains(said[0], "so ordered") {
			t.Errorf("%s: said %q", name, said)
		}
	}
}

// Who may write, and to what, is found at the start.
func TestProbe(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fault  double.Fault
		create bool
		table  bool
		want   string
		stops  bool
	}{
		{"there", double.Fault{}, false, true, "", false},
		{"to be made", double.Fault{}, true, false, "", false},
		{"not there", double.Fault{}, false, false, "set `create: true`", true},
		{"who", double.Fault{Status: 401}, true, true, "correct `auth`", true},
		{"denied", double.Fault{Status: 403, Reason: "accessDenied"}, true, true, "dataEditor", true},
		{"quota", double.Fault{Status: 403, Reason: "quotaExceeded"}, true, true, "quotaExceeded", false},
		{"down", double.Fault{Status: 500}, true, true, "HTTP 500", false},
		{"silent", double.Fault{Reset: true}, true, true, "EOF", false},
	} {
		s := server(t)
		s.Fault = func(double.Call) double.Fault { return tc.fault }
		if tc.table {
			s.AddTable("p.d.t", "result_id STRING", "revision INTEGER")
		}
		err := client(t, s, Append, func(c *Config) { c.Create = tc.create }).Probe(t.Context(), table1)
		var stop *Stop
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || errors.As(err, &stop) != tc.stops {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	s := server(t)
	s.AddTable("p.d.t", "revision INTEGER")
	if err := client(t, s, Append, nil).Probe(t.Context(), table1); err == nil || !strings.Contains(err.Error(), "has no column result_id of type STRING") {
		t.Error(err)
	}
	if err := client(t, s, Append, nil).Probe(t.Context(), Destination{}); err != nil {
		t.Error(err)
	}
}
