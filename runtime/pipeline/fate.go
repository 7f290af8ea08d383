package pipeline

import (
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/elastic"
	"github.com/seed-98920119/tocsin/runtime/engine"
)

// verdict is what became of a row at an output that knows of each.
type verdict uint8

// delivered; busy: the whole output could take nothing, and the row goes again with all others; blocked: it could not take this row, which
// goes again alone; refused: it will never take it, and an error row goes instead.
const (
	delivered = verdict(elastic.Done)
	busy      = verdict(elastic.Busy)
	blocked   = verdict(elastic.Blocked)
	refused   = verdict(elastic.Refused)
)

// fate is what became of a row, and why.
type fate struct {
	verdict
	why string
}

// report is nil if all rows are delivered. Otherwise the detect buffer is told of each row, and Benthos of each message.
func (l *link) report(batch service.MessageBatch, fates []fate) error {
	of, failed, first := map[string]*engine.Verdict{}, 0, ""
	for i, f := range fates {
		if f.verdict == delivered {
			continue
		}
		if failed++; failed == 1 {
			first = f.why
		}
		id, _ := batch[i].MetaGet("result_id")
		lane, _ := batch[i].MetaGet("lane")
		id = accountOf(lane, id)
		of[id] = nil
		if f.verdict != busy {
			of[id] = &engine.Verdict{Refused: f.verdict == refused, Why: f.why}
		}
	}
	if failed == 0 {
		return nil
	}
	l.account(of)
	err := service.NewBatchError(batch, fmt.Errorf("%d of %d rows not taken: %s", failed, len(batch), first))
	for i, f := range fates {
		if f.verdict != delivered {
			err = err.Failed(i, errors.New(f.why))
		}
	}
	return err
}
