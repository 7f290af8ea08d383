// Log silence: a source that stopped sending. An intruder who turns off logging, an agent that died and a full disk look the same,
// and each of them means that nothing else will be seen.
//
// Each event of a source arms a timer (after_s). When the watermark passes it, the source is silent (rule 1), and again every
// repeat_s if that is set. The first event after a silence says that it is back (rule 2). A source that has never sent anything is not
// known. When all of them fall silent at once nothing moves the watermark on: let it advance when it is idle.
package main

import tocsin "github.com/seed-98920119/tocsin/sdk/go"

func init() {
	tocsin.Register(tocsin.Plugin{Init: start, Process: process, Timer: timer})
}

// What is kept of a source, ms of event time.
const (
	last   = tocsin.Value(0) // its newest event
	silent = tocsin.Value(1) // the last event before a silence that was reported
)

// The rules, and the one timer of a source.
const (
	ruleSilent = 1
	ruleBack   = 2
	tag        = 0
)

var after, repeat int64 // ms

func start(config tocsin.Config) error {
	after = 1000 * config.Int("after_s", 900)
	repeat = 1000 * config.Int("repeat_s", 0)
	return nil
}

func process(b *tocsin.Batch, hits *tocsin.Hits) error {
	source, time := b.Texts(0), b.EventTime()
	for row := range b.Rows {
		t := time.Values[row]
		if _, ok := source.Get(row); !ok {
			continue
		}
		newest, known, err := last.Int(row)
		if err != nil {
			return err
		}
		if known && t <= newest {
			continue // out of order: it was not silent later
		}
		if known {
			if err := back(row, newest, t, hits); err != nil {
				return err
			}
		}
		if err := last.PutInt(row, t); err != nil {
			return err
		}
		if err := tocsin.TimerSet(row, tag, t+after); err != nil {
			return err
		}
	}
	return nil
}

// back reports the first event after a silence: one that was reported, or one that nobody noticed, since no other source has moved
// the watermark meanwhile.
func back(row int, newest, t int64, hits *tocsin.Hits) error {
	from, was, err := silent.Int(row)
	if err != nil || !was && t-newest < after {
		return err
	}
	if !was {
		from = newest
	}
	hits.Add(row, ruleBack)
	hits.Note().Float("silent_s", float64(t-from)/1000, 3)
	_, err = silent.Del(row)
	return err
}

func timer(b *tocsin.Batch, hits *tocsin.Hits) error {
	at := b.TimerAt()
	for row := range b.Rows {
		newest, known, err := last.Int(row)
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		hits.Add(row, ruleSilent)
		hits.Note().Time("last", newest).Float("silent_s", float64(at.Values[row]-newest)/1000, 3)
		if err := silent.PutInt(row, newest); err != nil {
			return err
		}
		if repeat > 0 {
			if err := tocsin.TimerSet(row, tag, at.Values[row]+repeat); err != nil {
				return err
			}
		}
	}
	return nil
}

func main() {}
