package pipeline

import (
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
)

// What limits.cpu may be, percent of one core, and the span that it is measured over.
const (
	cpuLeast = 0.1
	cpuMost  = 6400
	cpuSpan  = 10 * time.Second
	spanHigh = time.Hour
)

// budget reads the share of a core that a plugin may take.
func (d *decoder) budget(p *engine.Plugin, m *mapping) {
	n, span := m.get("cpu"), m.get("cpu_span")
	if n == nil {
		if span != nil {
			d.wrong(m.key("cpu_span"), "cpu_span says over which time cpu is measured, which is not there; add it or leave cpu_span out")
		}
		return
	}
	p.CPU = d.percent(n, "cpu") / 100
	p.CPUSpan = time.Duration(d.span(span, "cpu_span", cpuSpan, time.Second)) * time.Millisecond
	if p.CPUSpan > spanHigh {
		d.wrong(span, "cpu_span must be from 1s to 1h, not %s", span.Value)
	}
}

// percent reads a share like 10%.
func (d *decoder) percent(n *yaml.Node, what string) float64 {
	text, ok := strings.CutSuffix(n.Value, "%")
	v, err := strconv.ParseFloat(text, 64)
	if n.Kind != yaml.ScalarNode || !ok || err != nil || !(v >= cpuLeast && v <= cpuMost) {
		d.wrong(n, "%s must be a share of one core from 0.1%% to 6400%%, such as 10%%, not %s", what, shown(n))
		return 100
	}
	return v
}
