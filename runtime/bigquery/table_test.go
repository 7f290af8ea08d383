package bigquery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
)

// A table is made with its dataset, in partitions and clustered as far as it has the columns, and gets more columns when rows have them.
func TestTableIsMade(t *testing.T) {
	for name, m := range methods {
		s := double.New()
		t.Cleanup(s.Close)
		c := client(t, s, m, func(c *Config) {
			c.Partition, c.Time, c.Cluster, c.Location = "DAY", "event_time", []string{"share", "IP", "none", "n"}, "EU"
		})
		settle(t, c, rowsFrom(0, 3))
		columns, partition, clustering := s.Columns("p.d.t")
		want := []string{"result_id STRING REQUIRED", "revision INTEGER REQUIRED", "event_time TIMESTAMP", "ip STRING", "n INTEGER", "share FLOAT", "bad BOOLEAN", "at TIMESTAMP", "more JSON"}
		if !slices.Equal(columns, want) || partition != "DAY event_time" || !slices.Equal(clustering, []string{"ip", "n"}) {
			t.Errorf("%s: %v, %s, %v", name, columns, partition, clustering)
		}
		wider := &Shape{[]Column{{"ip", "STRING", ""}, {"a.b", "INTEGER", ""}, {"Revision", "STRING", ""}, {"5", "STRING", "REPEATED"}, {"_PARTITIONTIME", "STRING", ""}}}
		settle(t, c, append(rowsFrom(3, 5), row(5, `{"ip":"a","a.b":7,"Revision":"x","5":["y","z"],"_PARTITIONTIME":"now"}`, wider)))
		columns, _, _ = s.Columns("p.d.t")
		if want = append(want, "a_b INTEGER", "row_Revision STRING", "row_5 STRING REPEATED", "row__PARTITIONTIME STRING"); !slices.Equal(columns, want) {
			t.Errorf("%s: %v", name, columns)
		}
		last := s.Rows("p.d.t")[5]
		if got := fmt.Sprint(last); len(s.Rows("p.d.t")) != 6 || got != "map[a_b:7 event_time:1772438419999000 ip:a result_id:r5 revision:0 row_5:[y z] row_Revision:x row__PARTITIONTIME:now]" {
			t.Errorf("%s: %s", name, got)
		}
		if s.Calls("tables.patch") != 1 || s.Calls("datasets.insert") != 1 {
			t.Errorf("%s: %d changes", name, s.Calls("tables.patch"))
		}
	}
}

// Several processes find that a table is not there, or lacks columns, at the same time, and parts of BigQuery learn of it late: all rows are there, and
// the table has all columns.
func TestSchemaRaces(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for name, m := range methods {
		for range 5 {
			s := double.New()
			t.Cleanup(s.Close)
			s.Lag = r.IntN(5)
			var all sync.WaitGroup
			const each = 8
			for p := range 4 {
				c := client(t, s, m, nil)
				all.Go(func() {
					for i := range each {
						shape := &Shape{[]Column{{"ip", "STRING", ""}, {fmt.Sprintf("c%d_%d", p, i/3), "INTEGER", ""}, {fmt.Sprintf("common%d", i/2), "STRING", ""}}}
						rows := []Row{row(p*each+i, fmt.Sprintf(`{"ip":"x","c%d_%d":%d,"common%d":"y"}`, p, i/3, i, i/2), shape)}
						if f := c.Write(t.Context(), table1, rows); f[0].Verdict != Done {
							t.Errorf("seed %d: %s: %+v", seed, name, f)
						}
					}
				})
			}
			all.Wait()
			if wrong := s.Once("p.d.t", wanted(4*each)); len(wrong) > 0 {
				t.Fatalf("seed %d: %s: %v", seed, name, wrong)
			}
			columns, _, _ := s.Columns("p.d.t")
			if len(columns) != 3+1+4*3+4 {
				t.Errorf("%s: %d columns: %v", name, len(columns), columns)
			}
			for _, x := range s.Rows("p.d.t") {
				if len(x) != 6 {
					t.Errorf("%s: %v", name, x)
				}
			}
		}
	}
}

// Where nothing may be made, a column that others add is found after a while, and what the table has not is said.
func TestTableIsTakenAsItIs(t *testing.T) {
	for name, m := range methods {
		s := server(t)
		s.AddTable("p.d.t", "RESULT_ID STRING", "revision INTEGER", "day DATE", "sum NUMERIC", "ips STRING REPEATED", "xs INTEGER REPEATED")
		c := client(t, s, m, func(c *Config) { c.Create = false })
		f := c.Write(t.Context(), table1, []Row{
			row(0, `{"Day":"2026-03-02T08:00:00.000Z","sum":12.50,"ips":["a","b"],"xs":[1,2]}`, attempts),
			row(1, `{"ip":"x"}`, attempts)})
		if f[0].Verdict != Done || f[1].Verdict != Refused || !strings.Contains(f[1].Why, "the table has no column ip") {
			t.Errorf("%s: %+v", name, f)
		}
		if got := fmt.Sprint(s.Rows("p.d.t")); got != "[map[RESULT_ID:r0 day:20514 ips:[a b] revision:0 sum:12.50 xs:[1 2]]]" {
			t.Errorf("%s: %s", name, got)
		}
		if s.Calls("tables.patch")+s.Calls("tables.insert") > 0 {
			t.Errorf("%s: the table was changed", name)
		}
	}
}

// Tables beyond what is kept are forgotten and found again.
func TestManyTables(t *testing.T) {
	s := server(t)
	c := client(t, s, Append, nil)
	for i := range tablesMax + 3 {
		c.table(Destination{"p", "d", fmt.Sprint(i)})
	}
	if len(c.tables) != tablesMax {
		t.Errorf("%d tables", len(c.tables))
	}
	settle(t, c, rowsFrom(0, 3))
	if wrong := s.Once("p.d.t", wanted(3)); len(wrong) > 0 {
		t.Error(wrong)
	}
}

func TestNames(t *testing.T) {
	for member, want := range map[string]string{"ip": "ip", "Ip5": "Ip5", "process.command_line": "process_command_line", "5": "row_5", "": "row_", "ü-x": "__x", "result_id": "row_result_id",
		"Event_Time": "row_Event_Time", "_table_x": "row__table_x", "_partitiontime": "row__partitiontime", "_tables": "_tables", "row_5": "row_5", "__root__": "row___root__"} {
		if got := Name(member, own); got != want {
			t.Errorf("%q: %q, want %q", member, got, want)
		}
	}
	for _, tc := range []struct {
		members []string
		want    string
	}{
		{[]string{"a", "b", "result_id"}, ""},
		{[]string{"a.b", "c", "a_b"}, "the columns a.b and a_b would both be a_b in BigQuery"},
		{[]string{"IP", "ip"}, "the columns IP and ip would both be ip in BigQuery"},
		{[]string{"5", "row_5"}, "the columns 5 and row_5 would both be row_5 in BigQuery"},
		{[]string{strings.Repeat("x", 301)}, "the column " + strings.Repeat("x", 40) + "... has 301 characters; BigQuery takes 300"},
		{[]string{strings.Repeat("x", 300)}, ""},
	} {
		if got := NameFault(tc.members, own); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.members, got, tc.want)
		}
	}
}
