package pipeline

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/table"
)

// reload reads tables again: each that has changed in its interval, and all on SIGHUP, until stop is called. What cannot be read
// leaves the old table in place.
func reload(tables []*table.Source, log *service.Logger) (stop func()) {
	if len(tables) == 0 {
		return func() {}
	}
	hup, over := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hup:
				for _, t := range tables {
					again(t, log)
				}
			case <-over:
				return
			}
		}
	}()
	for _, t := range tables {
		if t.Every > 0 {
			go watch(t, log, over)
		}
	}
	return func() {
		signal.Stop(hup)
		close(over)
	}
}

func watch(t *table.Source, log *service.Logger, over chan struct{}) {
	tick := time.NewTicker(t.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if t.Changed() {
				again(t, log)
			}
		case <-over:
			return
		}
	}
}

func again(t *table.Source, log *service.Logger) {
	began := time.Now()
	if err := t.Reload(); err != nil {
		log.Warnf("table %s stays as it was: %v", t.Name, err)
		return
	}
	log.Infof("table %s was read again: %d rows in %s", t.Name, t.Table().Rows(), time.Since(began).Round(time.Millisecond))
}
