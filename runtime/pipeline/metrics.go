package pipeline

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/kafka"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// seriesMax bounds how many label values a metric has: operators, rules and partitions beyond it are summed up as `(other)`.
const seriesMax = 1000

// other is no name that an operator may have.
const other = "(other)"

// metric is a name, what it means, and its labels.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tocsin_"+name, help, labels, nil)
}

var (
	mPipeline   = metric("pipeline_info", "A pipeline that runs; always 1.")
	mRecords    = metric("records_total", "Records (lines, messages) taken from the inputs, whatever became of them.")
	mBytes      = metric("read_bytes_total", "Bytes of them.")
	mSkipped    = metric("skipped_records_total", "Records that were read again after a restart and had been taken before.")
	mDropped    = metric("dropped_records_total", "Records without a time (on_missing: drop).")
	mErrors     = metric("errors_total", "Error rows, by reason.", "reason")
	mLateBefore = metric("late_records_total", "Records that are late before any operator: without a time, or too far in the future.")

	mStreamRecords = metric("stream_records_total", "Records of a stream.", "stream")
	mRepeated      = metric("stream_duplicates_total", "Records of it that had come before, by their ids, and were dropped.", "stream")
	mWatermark     = metric("stream_watermark_seconds", "The watermark of a stream, as Unix time; not there before its first record and after its end.", "stream")
	mDelay         = metric("stream_watermark_delay_seconds", "How far the watermark is behind the clock.", "stream")
	mParts         = metric("stream_partitions", "Partitions (files, topics' partitions) that feed a stream.", "stream")

	mStopped = metric("stopped_partitions", "Partitions of which nothing more is taken, since their records do not fit their stream.")

	mSeen   = metric("operator_source_rows_total", "Rows that the sources of an operator have said.", "operator", "kind")
	mTaken  = metric("operator_taken_rows_total", "Rows of them that its conditions, and the patterns of its plugin, let through.", "operator", "kind")
	mOut    = metric("operator_rows_total", "Rows that an operator has said.", "operator", "kind")
	mAlerts = metric("operator_alerts_total", "Alerts of them.", "operator", "kind")
	mLate   = metric("operator_late_rows_total", "Rows that came too late for an operator.", "operator", "kind")
	mTime   = metric("operator_busy_seconds_total", "Time by the clock that the engine spent on an operator.", "operator", "kind")
	mKeys   = metric("operator_keys", "Keys of an operator that are in use.", "operator", "kind")

	mCalls     = metric("plugin_calls_total", "Calls of a plugin's module.", "operator", "plugin")
	mRows      = metric("plugin_rows_total", "Rows that a plugin has judged.", "operator", "plugin")
	mFuel      = metric("plugin_fuel_total", "Units of fuel that its calls have used.", "operator", "plugin")
	mCallTime  = metric("plugin_busy_seconds_total", "Time by the clock that its calls took, on the workers that made them.", "operator", "plugin")
	mFailures  = metric("plugin_failures_total", "Failed calls, by what they broke.", "operator", "plugin", "fault")
	mPoisoned  = metric("plugin_poisoned_rows_total", "Rows that a plugin failed on alone.", "operator", "plugin")
	mUnjudged  = metric("plugin_unjudged_rows_total", "Rows that came while a plugin was switched off.", "operator", "plugin")
	mInstances = metric("plugin_instances_total", "Instances that were made of it.", "operator", "plugin")
	mPeak      = metric("plugin_memory_peak_bytes", "The largest linear memory that one of them had.", "operator", "plugin")
	mKept      = metric("plugin_state_bytes", "What is kept for it.", "operator", "plugin")
	mOff       = metric("plugin_off", "1 while a plugin is given no rows, or is on trial after that; else 0.", "operator", "plugin")
	mOpenings  = metric("plugin_openings_total", "Times that a plugin was switched off.", "operator", "plugin")
	mReplaced  = metric("plugin_replacements_total", "Times that a plugin was replaced while it ran.", "operator", "plugin")
	mKeptOld   = metric("plugin_refused_replacements_total", "Times that it could not be.", "operator", "plugin")
	mHits      = metric("rule_hits_total", "Hits of a rule, but for what the pipeline excepts.", "operator", "rule")

	mOutbox   = metric("outbox_rows", "Committed rows that wait for an output.")
	mFlying   = metric("outbox_sent_rows", "Committed rows that are with an output and not acknowledged.")
	mOutBytes = metric("outbox_bytes", "Bytes of both.")
	mSent     = metric("sent_rows_total", "Rows that outputs have acknowledged.")
	mSentA    = metric("sent_alerts_total", "Alerts among them.")
	mLaneRows = metric("lane_rows", "Rows that wait in a lane, in memory or on disk.", "lane")
	mLaneSize = metric("lane_bytes", "Bytes of rows that wait in a lane or are with its output.", "lane")
	mLaneOut  = metric("lane_sent_rows", "Rows of a lane that are with its output and not acknowledged.", "lane")
	mLaneDone = metric("lane_sent_rows_total", "Rows that the output of a lane has acknowledged.", "lane")
	mLaneNo   = metric("lane_rejected_rows_total", "Times that the output of a lane did not take a row, which is sent again.", "lane")
	mLaneBad  = metric("lane_refused_rows_total", "Rows that the output of a lane will not take; error rows went instead.", "lane")
	mUntaken  = metric("untaken_rows_total", "Rows that no lane takes: they do not leave.")
	mRejected = metric("rejected_rows_total", "Times that an output did not take a row, which is sent again.")
	mRefused  = metric("refused_rows_total", "Rows that an output will not take; error rows went instead.")

	mCommit  = metric("commit_seconds", "How long an epoch takes to be on disk.")
	mMemory  = metric("state_memory_bytes", "What keys take in memory: in use (hot), packed, and what is known of pages (known).", "part")
	mStored  = metric("state_stored_bytes", "Pages of keys on disk.")
	mBlocks  = metric("engine_blocks_total", "Blocks of rows that went through the graph.")
	mBusy    = metric("engine_busy_seconds_total", "Time by the clock that they took.")
	mSearch  = metric("engine_search_seconds_total", "Of that, searching rows for the literals of all conditions at once.")
	mAge     = metric("report_age_seconds", "How old these figures are: more than a moment if the engine does not answer, or has ended.")
	mLag     = metric("kafka_lag_records", "Records of a partition that were not handed over yet, as of the last fetch.", "topic", "partition")
	everyOne = []*prometheus.Desc{mPipeline, mRecords, mBytes, mSkipped, mDropped, mErrors, mLateBefore, mStreamRecords, mRepeated, mWatermark, mDelay, mParts, mStopped, mSeen, mTaken, mOut, mAlerts, mLate,
		mTime, mKeys, mCalls, mRows, mFuel, mCallTime, mFailures, mPoisoned, mUnjudged, mInstances, mPeak, mKept, mOff, mOpenings, mReplaced, mKeptOld, mHits, mOutbox, mFlying, mOutBytes, mSent, mSentA, mRejected, mRefused,
		mLaneRows, mLaneSize, mLaneOut, mLaneDone, mLaneNo, mLaneBad, mUntaken,
		mCommit, mMemory, mStored, mBlocks, mBusy, mSearch, mAge, mLag}
)

// Describe makes Monitor a prometheus.Collector.
func (m *Monitor) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range everyOne {
		ch <- d
	}
}

// Collect says what the run has done, as of now.
func (m *Monitor) Collect(ch chan<- prometheus.Metric) {
	c := &scrape{ch: ch}
	c.lags(m.lags())
	rep := m.report()
	if rep == nil {
		return
	}
	c.whole(rep)
	c.gauge(mAge, m.now().Sub(rep.At).Seconds())
	for _, s := range rep.Streams {
		c.stream(&s, m.now())
	}
	for reason, n := range rep.Errors {
		c.count(mErrors, float64(n), reason)
	}
	rest := engine.OperatorReport{Name: other, Kind: other}
	beyond := rep.Operators[min(len(rep.Operators), seriesMax):]
	for i := range rep.Operators[:len(rep.Operators)-len(beyond)] {
		c.operator(&rep.Operators[i])
	}
	for i := range beyond {
		c.merge(&rest, &beyond[i])
	}
	if len(beyond) > 0 {
		c.operator(&rest)
	}
	if c.others > 0 {
		c.count(mHits, float64(c.others), other, other)
	}
}

// scrape sends metrics.
type scrape struct {
	ch     chan<- prometheus.Metric
	rules  int
	others int64 // hits of rules beyond seriesMax
}

func (c *scrape) count(d *prometheus.Desc, v float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (c *scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c *scrape) whole(rep *engine.Report) {
	s := &rep.Stats
	c.gauge(mPipeline, 1)
	late, alerts := s.Late, s.Alerts
	if len(rep.Lanes) > 0 {
		alerts = 0
	}
	for _, l := range rep.Lanes {
		alerts += l.Alerts
	}
	for _, o := range rep.Operators {
		late -= o.Late
	}
	for d, n := range map[*prometheus.Desc]int64{mRecords: s.Events, mBytes: s.Bytes, mSkipped: s.Skipped, mDropped: s.Dropped, mLateBefore: late, mSent: s.Sent, mSentA: alerts,
		mRejected: s.Rejected, mRefused: s.Refused, mBlocks: rep.Blocks} {
		c.count(d, float64(n))
	}
	for d, n := range map[*prometheus.Desc]int64{mOutbox: rep.Outbox.Rows, mFlying: rep.Outbox.Sent, mOutBytes: rep.Outbox.Bytes, mStored: rep.Keys.Stored, mStopped: int64(len(rep.Halts))} {
		c.gauge(d, float64(n))
	}
	for i := range rep.Lanes {
		l := &rep.Lanes[i]
		for d, n := range map[*prometheus.Desc]int64{mLaneRows: l.Rows, mLaneSize: l.Bytes, mLaneOut: l.Flying} {
			c.gauge(d, float64(n), l.Name)
		}
		for d, n := range map[*prometheus.Desc]int64{mLaneDone: l.Sent, mLaneNo: l.Rejected, mLaneBad: l.Refused} {
			c.count(d, float64(n), l.Name)
		}
	}
	if len(rep.Lanes) > 0 {
		c.count(mUntaken, float64(rep.Untaken))
	}
	c.count(mBusy, rep.Busy.Seconds())
	c.count(mSearch, rep.Searching.Seconds())
	c.gauge(mMemory, float64(rep.Keys.Hot), "hot")
	c.gauge(mMemory, float64(rep.Keys.Packed), "packed")
	c.gauge(mMemory, float64(rep.Keys.Known), "known")
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, end := range engine.BucketsOf {
		sum += uint64(rep.Commits.Counts[i])
		buckets[end.Seconds()] = sum
	}
	c.ch <- prometheus.MustNewConstHistogram(mCommit, uint64(rep.Commits.Total()), rep.Commits.Sum.Seconds(), buckets)
}

func (c *scrape) stream(s *engine.StreamReport, now time.Time) {
	c.count(mStreamRecords, float64(s.Events), s.Name)
	c.count(mRepeated, float64(s.Repeated), s.Name)
	c.gauge(mParts, float64(s.Partitions), s.Name)
	if s.Watermark != operator.NegInf && s.Watermark != operator.PosInf {
		at := float64(s.Watermark) / 1000
		c.gauge(mWatermark, at, s.Name)
		c.gauge(mDelay, float64(now.UnixMilli())/1000-at, s.Name)
	}
}

func (c *scrape) operator(o *engine.OperatorReport) {
	for d, n := range map[*prometheus.Desc]int64{mSeen: o.Seen, mTaken: o.Taken, mOut: o.Out, mAlerts: o.Alerts, mLate: o.Late} {
		c.count(d, float64(n), o.Name, o.Kind)
	}
	c.count(mTime, o.Time.Seconds(), o.Name, o.Kind)
	c.gauge(mKeys, float64(o.Keys), o.Name, o.Kind)
	if p := o.Plugin; p != nil {
		c.plugin(o.Name, p)
	}
}

func (c *scrape) plugin(name string, p *engine.PluginReport) {
	n := &p.Counts
	for d, n := range map[*prometheus.Desc]int64{mCalls: n.Calls, mRows: n.Rows, mFuel: n.Fuel, mPoisoned: n.Poisoned, mUnjudged: n.Unjudged, mInstances: n.Instances,
		mOpenings: p.Openings, mReplaced: p.Generation, mKeptOld: p.Refused} {
		c.count(d, float64(n), name, p.Name)
	}
	c.count(mCallTime, n.Time.Seconds(), name, p.Name)
	c.gauge(mPeak, float64(n.MemoryPeak), name, p.Name)
	off := 0.0
	if p.State != wasm.Closed {
		off = 1
	}
	c.gauge(mOff, off, name, p.Name)
	c.gauge(mKept, float64(n.StateBytes), name, p.Name)
	for i, fault := range wasm.FaultNames {
		if n.Faults[i] > 0 {
			c.count(mFailures, float64(n.Faults[i]), name, p.Name, string(fault))
		}
	}
	for _, r := range p.Rules {
		if c.rules++; c.rules > seriesMax {
			c.others += r.Hits
			continue
		}
		c.count(mHits, float64(r.Hits), name, r.Name)
	}
}

// merge adds an operator to those that have no series of their own.
func (c *scrape) merge(to, o *engine.OperatorReport) {
	to.Seen += o.Seen
	to.Taken += o.Taken
	to.Out += o.Out
	to.Alerts += o.Alerts
	to.Late += o.Late
	to.Keys += o.Keys
	to.Time += o.Time
	if o.Plugin != nil {
		if to.Plugin == nil {
			to.Plugin = &engine.PluginReport{Name: other}
		}
		p := to.Plugin
		p.Counts.Add(&o.Plugin.Counts)
		p.State = max(p.State, o.Plugin.State)
		p.Openings, p.Generation, p.Refused = p.Openings+o.Plugin.Openings, p.Generation+o.Plugin.Generation, p.Refused+o.Plugin.Refused
		for _, r := range o.Plugin.Rules {
			c.others += r.Hits
		}
	}
}

func (c *scrape) lags(all []kafka.Lag) {
	rest := int64(0)
	for i, l := range all {
		if i >= seriesMax {
			rest += l.Records
			continue
		}
		c.gauge(mLag, float64(l.Records), l.Topic, strconv.Itoa(int(l.Partition)))
	}
	if len(all) > seriesMax {
		c.gauge(mLag, float64(rest), other, other)
	}
}
