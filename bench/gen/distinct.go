package gen

import (
	"bufio"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// Distinct are events of about 70 bytes of many keys, {"t":TIME,"key":TEXT}, in order of time, spread evenly over Span: each of
// Keys keys comes once, in an order that looks random. Every Heavy-th key comes four times more, far apart; and of all keys that
// have come, one drawn evenly comes again after each Again new ones. 0: none.
type Distinct struct {
	Seed         uint64
	Keys         int
	Heavy, Again int
	Span         time.Duration
}

// HeavyKeys is the number of keys that come five times.
func (g Distinct) HeavyKeys() (n int) {
	if g.Heavy > 0 {
		n = (g.Keys + g.Heavy - 1) / g.Heavy
	}
	return n
}

// Events is the number of events.
func (g Distinct) Events() int {
	n := g.Keys + 4*g.HeavyKeys()
	if g.Again > 0 {
		n += g.Keys / g.Again
	}
	return n
}

// Write writes the events as JSON lines.
func (g Distinct) Write(w io.Writer) error {
	r := rand.New(rand.NewPCG(g.Seed, 3))
	out := bufio.NewWriterSize(w, 1<<20)
	apart, at := max(g.Keys/8, 1), 0
	var b []byte
	say := func(key int) {
		b = append(b[:0], `{"t":"`...)
		b = event.AppendTime(b, Start.UnixMilli()+int64(float64(at)*float64(g.Span.Milliseconds())/float64(g.Events())))
		b = append(b, `","key":"`...)
		b = strconv.AppendUint(b, (uint64(key)*0x9e3779b97f4b+g.Seed)&(1<<48-1)|1<<48, 16)
		b = append(b, "\"}\n"...)
		_, _ = out.Write(b) // Flush says
		at++
	}
	for i := range g.Keys + 4*apart {
		if i < g.Keys {
			say(i)
			if g.Again > 0 && (i+1)%g.Again == 0 {
				say(r.IntN(i + 1))
			}
		}
		for n := 1; n <= 4 && g.Heavy > 0; n++ {
			if key := i - n*apart; key >= 0 && key < g.Keys && key%g.Heavy == 0 {
				say(key)
			}
		}
	}
	return out.Flush()
}
