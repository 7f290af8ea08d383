package operator

import (
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// What a row of an inner join costs: few of the left, many of the right, a thousand keys, saved now and then.
func BenchmarkJoinRow(b *testing.B) {
	fields := &event.Fields{}
	k, v := fields.Add("k"), fields.Add("v")
	j := &Join{On: [2][]event.Field{{k}, {k}}, Lower: -3_600_000, Upper: 3_600_000, RowsMax: CapDefault, MatchesMax: CapDefault,
		Outputs: []Output{{Name: fields.Add("a"), Side: 0, Field: v}, {Name: fields.Add("b"), Side: 1, Field: v}}}
	fields.Add("truncated")
	j.Init(fields)
	logic := j.Logic()
	rows := event.NewBatch(fields, []event.Field{v})
	rows.AppendRow(event.Value{Kind: event.String, Text: []byte("a text of some length")})
	c := &Context{Batch: event.NewBatch(fields, j.Columns), Due: NegInf}
	states := make([]JoinState, 1000)
	var rec []byte
	in := &In{Batch: rows}
	b.ReportAllocs()
	for i := range b.N {
		s := &states[i*7%1000]
		in.TS, in.W, in.Input = int64(i)*100, int64(i)*100-5000, 1
		if i%10 == 0 {
			in.Input = uint8(i / 10 % 2)
		}
		logic.Row(c, s, in)
		_ = logic.Next(s)
		if i%5000 == 4999 {
			for x := range states {
				rec = logic.Save(rec[:0], &states[x], false)
			}
			c.Out = c.Out[:0]
			c.Batch.Reset()
		}
	}
}
