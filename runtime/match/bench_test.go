package match

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

func BenchmarkMatch(b *testing.B) {
	line := strings.Repeat("the quick brown fox ", 5)
	for _, x := range []struct{ name, condition, row string }{
		{"equal", `f: failure`, `{"f":"failure"}`},
		{"equal other case", `f: failure`, `{"f":"FAILURE"}`},
		{"equal no", `f: failure`, `{"f":"success"}`},
		{"equal with k and s", `f: success`, `{"f":"failure"}`},
		{"equal one of 100", `f: [` + strings.Repeat("abcdefg, ", 99) + `failure]`, `{"f":"failure"}`},
		{"equal not ASCII", `f: Zürich`, `{"f":"ZÜRICH"}`},
		{"number", `f: 4625`, `{"f":4625}`},
		{"gte", `f|gte: 5`, `{"f":12}`},
		{"gte float", `f|gte: 5`, `{"f":12.25}`},
		{"gte string", `f|gte: 5`, `{"f":"12"}`},
		{"startswith", `f|startswith: svc_`, `{"f":"svc_backup"}`},
		{"endswith", `f|endswith: \cmd.exe`, `{"f":"C:\\Windows\\System32\\cmd.exe"}`},
		{"contains in 100 bytes no", `f|contains: mimikatz`, `{"f":"` + line + `"}`},
		{"wildcards in 100 bytes", `f: the*brown*?ox `, `{"f":"` + line + `"}`},
		{"wildcards worst, 64 in 1000 bytes", `f: "*` + strings.Repeat("a", 63) + `b*"`, `{"f":"` + strings.Repeat("a", 1000) + `"}`},
		{"re in 100 bytes no", `f|re: '(mimi|kiwi)\.exe$'`, `{"f":"` + line + `"}`},
		{"re i in 100 bytes no", `f|re|i: '\b(mimikatz|kiwi)\b'`, `{"f":"` + line + `"}`},
		{"re anchored", `f|re: '^svc_[a-z]+\d+$'`, `{"f":"svc_backup01"}`},
		{"cidr", `f|cidr: 10.0.0.0/8`, `{"f":"10.128.64.32"}`},
		{"cidr 6", `f|cidr: "2001:db8::/32"`, `{"f":"2001:db8:1:2::cafe"}`},
		{"cidr one of 5000", `f|cidr: [` + networks(5000) + `]`, `{"f":"10.19.136.7"}`},
		{"cidr no address", `f|cidr: 10.0.0.0/8`, `{"f":"host.example.com"}`},
		{"fieldref", `f|fieldref: g`, `{"f":"alice@example.com","g":"ALICE@example.com"}`},
		{"fieldref number", `f|fieldref: g`, `{"f":4625,"g":"4625.0"}`},
		{"fieldref contains in 100 bytes no", `f|fieldref|contains: g`, `{"f":"` + line + `","g":"mimikatz"}`},
		{"windash in 100 bytes no", `f|windash|contains: " -enc"`, `{"f":"` + line + `"}`},
		{"wide base64offset in 100 bytes no", `f|wide|base64offset|contains: "Net.WebClient"`, `{"f":"` + line + `"}`},
		{"keywords in 300 bytes no", `[mimikatz, "event::clear"]`, `{"user":"alice","n":[1,2],"a":{"b":"` + line + `"},"c":"` + line + `","d":"` + line[:50] + `"}`},
		{"keywords in escapes no", `[mimikatz]`, `{"f":"C:\\Windows\\System32\\cmd.exe"}`},
		{"array of 3", `f: c`, `{"f":["a","b","c"]}`},
		{"four items", `{f: failure, g|gte: 5, h|startswith: a, i|neq: null}`, `{"f":"failure","g":7,"h":"alice","i":1}`},
	} {
		b.Run(x.name, func(b *testing.B) {
			var fields event.Fields
			c := mustCompile(b, &fields, x.condition)
			var row Row = rowOf(b, &fields, x.row)
			b.ReportAllocs()
			for b.Loop() {
				c.Match(row)
			}
		})
	}
}

// networks gives networks of 256 addresses, every other one, in a list.
func networks(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "10.%d.%d.0/24, ", 2*i>>8, 2*i&255)
	}
	return b.String()
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		var fields event.Fields
		mustCompile(b, &fields, `{a: {f: failure, g|gte: 5}, b: {h|startswith: [svc_, test_]}, condition: a and not 1 of b*}`)
	}
}

// BenchmarkSet is what a login costs against the literals of many conditions at once, three literals each: the candidates are
// found, and evaluated.
func BenchmarkSet(b *testing.B) {
	const row = `{"source_ip":"10.120.33.7","username":"user4711","status":"failure","user_agent":"Mozilla/5.0 (Windows NT 10.0; Win64)","session_id":"8f3a6bd2c41e0977","country":"DE"}`
	for _, x := range []struct {
		name      string
		n         int
		condition func(word func() string) string
	}{
		{"three contains of one field", 1000, func(w func() string) string {
			return fmt.Sprintf(`user_agent|contains: [%s, %s, %s]`, w(), w(), w())
		}},
		{"three fields", 1000, func(w func() string) string {
			return fmt.Sprintf(`{username: %s, user_agent|contains: %s, status: failure}`, w(), w())
		}},
		{"one of three fields", 1000, func(w func() string) string {
			return fmt.Sprintf(`[{username|endswith: %s}, {user_agent|contains: %s}, {session_id|startswith: %s}]`, w(), w(), w())
		}},
		{"keywords", 1000, func(w func() string) string { return fmt.Sprintf(`[%s, %s, %s]`, w(), w(), w()) }},
		{"networks", 1000, func(func() string) string { return "source_ip|cidr: [10.1.2.0/24, 10.7.0.0/16, 192.168.0.0/28]" }},
		{"three contains of one field", 100_000, func(w func() string) string {
			return fmt.Sprintf(`user_agent|contains: [%s, %s, %s]`, w(), w(), w())
		}},
	} {
		b.Run(fmt.Sprintf("%d of %s", x.n, x.name), func(b *testing.B) {
			var fields event.Fields
			r := rand.New(rand.NewPCG(1, 1))
			word := func() string { return syllables(r) }
			var all []*Condition
			for range x.n {
				all = append(all, mustCompile(b, &fields, x.condition(word)))
			}
			s := NewSet(all)
			if len(s.Always()) > 0 {
				b.Fatalf("%d conditions without an index", len(s.Always()))
			}
			f := s.Finder()
			var cells Row = rowOf(b, &fields, row)
			found := 0
			b.ReportAllocs()
			for b.Loop() {
				for _, c := range f.Find(cells) {
					found++
					all[c].Match(cells)
				}
			}
			b.ReportMetric(float64(found)/float64(b.N), "candidates/op")
		})
	}
}

// syllables makes a word of 6 to 12 letters, which shares its grams with many others.
func syllables(r *rand.Rand) string {
	var b strings.Builder
	for range 3 + r.IntN(2) {
		b.WriteString([]string{"mo", "zil", "la", "win", "do", "ws", "user", "lin", "ux", "ed", "ge", "saf", "ri", "cur", "ssh", "ver"}[r.IntN(16)])
	}
	return b.String()
}
