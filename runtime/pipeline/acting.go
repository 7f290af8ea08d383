package pipeline

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-98920119/tocsin/runtime/retry"
)

// actor acts for each row, once as far as anybody can know: what webhook and smtp have in common.
type actor struct {
	name string
	do   *acting
	actorFuncs
	link  *link
	log   *service.Logger
	sent  sent
	fresh bool
	print sync.Mutex
	over  atomic.Int64 // actions that the limit dropped
	quiet atomic.Int64 // until when the receiver wants to be left alone, in unix ms

	now   func() time.Time // a test's clock
	pause time.Duration    // the first between two tries
}

// actorFuncs are what an output does in a way of its own.
type actorFuncs struct {
	make  func(a *action, row hookRow, payload []byte) error // fills the templates
	try   func(ctx context.Context, a *action) reply         // acts
	shown func(a *action) string                             // for a dry run, without secrets
}

func newActor(name string, do *acting, res *service.Resources, f actorFuncs) *actor {
	l := linkOf(res)
	return &actor{name: name, do: do, actorFuncs: f, link: l, log: res.Logger(), sent: sent{name: name}, fresh: l.run.Fresh, now: time.Now, pause: 200 * time.Millisecond}
}

// Connect opens the journal.
func (o *actor) Connect(context.Context) error {
	o.sent.close()
	if !o.do.dryRun {
		o.sent.path = o.do.journal
	}
	if err := o.sent.open(o.fresh, o.log); err != nil {
		return fmt.Errorf("%s: journal: %w", o.name, err)
	}
	o.fresh = false
	return nil
}

func (o *actor) pace() (service.BatchPolicy, int) { return service.BatchPolicy{}, 1 }

// WriteBatch acts on each row of the batch and says of each that failed what is the matter.
func (o *actor) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	fates := make([]fate, len(batch))
	room := make(chan struct{}, o.do.inFlight)
	var all sync.WaitGroup
	for i, msg := range batch {
		a, f := o.action(msg)
		if a != nil {
			f = o.admit(a)
		}
		if a == nil || a.back == nil {
			fates[i] = f
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			fates[i] = o.act(ctx, a)
			<-room
		})
	}
	all.Wait()
	return o.link.report(batch, fates)
}

// action is what is to be done for a row: a request or a mail.
type action struct {
	id, key string
	url     *url.URL
	header  http.Header
	body    []byte
	mail    *mailText
	back    func() // gives back its part of the limit; nil: it is not to be done
}

// action makes the action of a row, or says why there is none.
func (o *actor) action(msg *service.Message) (*action, fate) {
	if kind, _ := msg.MetaGet("kind"); !slices.Contains(o.do.kinds, kind) {
		return nil, fate{}
	}
	a := &action{}
	if a.id, _ = msg.MetaGet("result_id"); a.id == "" {
		return nil, fate{refused, "the message has no result_id, which rows of `detect` have"}
	}
	if n, _ := msg.MetaGet("revision"); n != "" && n != "0" {
		a.id += "." + n
	}
	switch was := o.sent.of(a.id); {
	case was == done:
		return nil, fate{}
	case was == tried && o.do.once:
		return nil, fate{refused, "it was tried before, nobody knows with what outcome, and at_most_once does not try again"}
	}
	payload, err := msg.AsBytes()
	if err == nil {
		row := o.do.fields.row(msg, payload)
		a.key = string(o.do.limitKey.Fill(nil, row))
		err = o.make(a, row, payload)
	}
	if err != nil {
		return nil, fate{refused, err.Error()}
	}
	return a, fate{}
}

// admit lets an action pass, within the limit, or says what becomes of its row instead. It is asked in the order of the rows.
func (o *actor) admit(a *action) fate {
	if o.do.dryRun {
		return o.show(a)
	}
	if o.do.limit == nil {
		a.back = func() {}
		return fate{}
	}
	var ok bool
	if a.back, ok = o.do.limit.take(a.key, o.now()); !ok {
		return o.tooMany(a)
	}
	return fate{}
}

// act acts as often as it takes, within what the configuration allows.
func (o *actor) act(ctx context.Context, a *action) fate {
	f := o.tries(ctx, a)
	if f.verdict != delivered {
		a.back()
	}
	return f
}

// tooMany is what becomes of an action beyond the limit.
func (o *actor) tooMany(a *action) fate {
	l := o.do.limit
	if !o.do.limitDrops {
		return fate{refused, fmt.Sprintf("more than %d actions in %s for %q", l.most, l.per, a.key)}
	}
	if n := o.over.Add(1); n == 1 || n%1000 == 0 {
		o.log.Warnf("%s: the limit of %d in %s has dropped %d actions so far", o.name, l.most, l.per, n)
	}
	return fate{}
}

// show prints what would be done.
func (o *actor) show(a *action) fate {
	o.print.Lock()
	defer o.print.Unlock()
	if _, err := fmt.Fprintf(consoleOut, "DRY RUN  %s\n", o.shown(a)); err != nil {
		return fate{busy, err.Error()}
	}
	return fate{}
}

// Pauses between tries: the longest, and the longest that a receiver may ask for.
const (
	pauseOfActions = time.Minute
	retryAfterMost = time.Hour
)

// tries acts until there is an answer that settles the matter.
func (o *actor) tries(ctx context.Context, a *action) fate {
	until := time.Now().Add(o.do.retryFor)
	for tries := (retry.Pauses{Least: o.pause, Most: pauseOfActions}).Until(until); ; tries.Wait(ctx) {
		if quiet := time.UnixMilli(o.quiet.Load()); time.Now().Before(quiet) {
			if retry.Wait(ctx, min(time.Until(quiet), time.Until(until))); time.Now().Before(quiet) {
				return fate{busy, "the receiver wants to be left alone until " + quiet.UTC().Format(time.RFC3339)}
			}
		}
		passes, after, f := o.once(ctx, a)
		if after > 0 {
			o.quiet.Store(time.Now().Add(min(after, retryAfterMost)).UnixMilli())
		}
		if f.verdict == delivered || f.verdict == refused || !passes || !tries.More(ctx) {
			return f
		}
	}
}

// once acts once, and keeps the journal. It says whether the same may soon be answered otherwise, and how long the receiver asks to wait.
func (o *actor) once(ctx context.Context, a *action) (passes bool, after time.Duration, f fate) {
	if o.do.once {
		if err := o.sent.try(a.id); err != nil {
			return false, 0, fate{blocked, "journal: " + err.Error()}
		}
	}
	r := o.try(ctx, a)
	f = o.judge(r)
	var err error
	switch {
	case f.verdict == delivered:
		err = o.sent.end(a.id, done)
	case o.do.once && f.verdict != refused:
		err = o.sent.end(a.id, untried)
	}
	if err != nil {
		o.log.Warnf("%s: journal: %v", o.name, err)
	}
	return r.passes(), r.after(), f
}

// reply is what a receiver said, or why it said nothing.
type reply interface {
	done() bool
	unheard() bool        // it certainly was not done
	passes() bool         // the same may soon be answered otherwise
	full() bool           // the receiver takes nothing at all for now
	after() time.Duration // how long it asks to wait
	why() string
}

// judge says what a reply means for a row.
func (o *actor) judge(r reply) fate {
	switch {
	case r.done():
		return fate{}
	case r.full():
		return fate{busy, r.why()}
	case o.do.once && !r.unheard():
		return fate{refused, "it was tried, and at_most_once does not try again: " + r.why()}
	case r.unheard() || r.passes():
		return fate{blocked, r.why()}
	}
	return fate{refused, r.why()}
}

// undialed says whether an error is of a connection that was never made, or not trusted.
func undialed(err error) bool {
	var op *net.OpError
	var unknown *tls.CertificateVerificationError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &unknown)
}
