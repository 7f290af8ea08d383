package gen

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

type login struct {
	Time time.Time `json:"login_time"`
	IP   string    `json:"source_ip"`
}

func logins(t *testing.T, g Logins) (out []login, size int) {
	var a, b bytes.Buffer
	if err := g.Write(&a); err != nil {
		t.Fatal(err)
	}
	if err := g.Write(&b); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatal("the same seed gives other bytes")
	}
	size = a.Len()
	for d := json.NewDecoder(&a); d.More(); {
		var l login
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if n := len(out); n > 0 && l.Time.Before(out[n-1].Time) {
			t.Fatal("out of order")
		}
		out = append(out, l)
	}
	return out, size
}

// The count benchmark says at most one row for a hundred events, and a line has about 220 bytes.
func TestCount(t *testing.T) {
	const n = 200_000
	lines, size := logins(t, Logins{Seed: 1, Events: n})
	if mean := size / n; len(lines) != n || mean < 212 || mean > 228 {
		t.Errorf("%d lines of %d bytes", len(lines), mean)
	}
	type key struct {
		ip    string
		start time.Time
	}
	counts := map[key]int{}
	for _, l := range lines {
		counts[key{l.IP, l.Time.Truncate(20 * time.Second)}]++
	}
	rows := 0
	for _, c := range counts {
		if c >= CountThreshold {
			rows++
		}
	}
	if rows*100 > n || rows*1000 < n {
		t.Errorf("%d rows of %d events", rows, n)
	}
}

// About one login in a hundred finds an alert of its address within an hour.
func TestJoinCase(t *testing.T) {
	a, b := JoinCase(1, 100_000, 200_000)
	lines, _ := logins(t, a)
	var ids bytes.Buffer
	if err := b.Write(&ids); err != nil {
		t.Fatal(err)
	}
	at := map[string][]time.Time{}
	for d := json.NewDecoder(&ids); d.More(); {
		var x struct {
			Time time.Time `json:"event_time"`
			IP   string    `json:"source_ip"`
		}
		if err := d.Decode(&x); err != nil {
			t.Fatal(err)
		}
		at[x.IP] = append(at[x.IP], x.Time)
	}
	found := 0
	for _, l := range lines {
		for _, x := range at[l.IP] {
			if d := l.Time.Sub(x); d <= time.Hour && d >= -time.Hour {
				found++
				break
			}
		}
	}
	if share := float64(found) / float64(len(lines)); share < 0.005 || share > 0.02 {
		t.Errorf("%.4f of the logins find an alert", share)
	}
}
