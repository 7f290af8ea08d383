package match

import (
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

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		var fields event.Fields
		mustCompile(b, &fields, `{a: {f: failure, g|gte: 5}, b: {h|startswith: [svc_, test_]}, condition: a and not 1 of b*}`)
	}
}
