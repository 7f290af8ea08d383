package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// goal is a line of the table of plugins: a benchmark of runtime/wasm, beside what it must reach.
type goal struct {
	bench, name, unit string
	scale             float64 // the figure is so much of the unit
	over              string  // the figure is a ratio to this benchmark's
	reach             float64 // 0: for comparison
}

// The unit that Go's benchmarks report, and our own metrics.
const (
	perOp  = "ns/op"
	perRow = "ns/row"
)

var goals = []goal{
	{"Native", "native Go: two texts searched, ns a row", perRow, 1, "", 0},
	{"Helper", "the same as a plugin, with the SDK's search", perRow, 1, "", 0},
	{"Helper", "... as a multiple of native Go", perRow, 1, "Native", 1.3},
	{"HelperPlain", "... without fuel", perRow, 1, "Native", 0},
	{"ByteLoop", "the same with a loop over bytes, ns a row", perRow, 1, "", 0},
	{"ByteLoop", "... as a multiple of native Go", perRow, 1, "Native", 7},
	{"ByteLoopPlain", "... without fuel", perRow, 1, "Native", 0},
	{"WordLoop", "... that compares four at each place, as a multiple of native Go", perRow, 1, "Native", 0},
	{"EmptyCall", "a call that does nothing, ns", perOp, 1, "", 150},
	{"OneRow", "a call with one row, ns", perOp, 1, "", 1000},
	{"Idle4096", "4 096 rows that nobody looks at, ns a row", perRow, 1, "", 0},
	{"Filter", "a filter that compares a number, ns a row", perRow, 1, "", 0},
	{"Map", "a map that writes two numbers and a text, ns a row", perRow, 1, "", 0},
	{"Entropy", "... the entropy of a name's longest label", perRow, 1, "", 0},
	{"Update", "an aggregate, states of 40 bytes, four rows a state, ns a row", perRow, 1, "", 0},
	{"UpdateLarge", "... states of 400 bytes", perRow, 1, "", 0},
	{"Finish", "... its value, 4 096 at once, ns a state", perRow, 1, "", 0},
	{"LoadCold", "load of a module of 1.3 KB, cache cold, ms", perOp, 1e-6, "", 20},
	{"LoadWarm", "... cache warm", perOp, 1e-6, "", 2},
	{"LoadGoCold", "load of a Go module of 1.8 MB, cache cold, ms", perOp, 1e-6, "", 1500},
	{"LoadGoWarm", "... cache warm", perOp, 1e-6, "", 100},
	{"Pause", "longest stop of the world while guests do their worst, ms", "pause-ns", 1e-6, "", 5},
}

// benchPlugins runs the benchmarks of runtime/wasm and prints the least of each; of pauses the longest in a run, and the least
// of that over the runs, since other tenants of the machine hold up the world as well.
func benchPlugins() error {
	names := map[string]bool{}
	for _, g := range goals {
		names[g.bench] = g.bench != "Pause"
	}
	var list []string
	for n, here := range names {
		if here {
			list = append(list, n)
		}
	}
	say("running the benchmarks of runtime/wasm, %d times", *runs)
	micro, err := goBench("^Benchmark("+strings.Join(list, "|")+")$", *procs, "300ms")
	if err != nil {
		return err
	}
	pauses, err := goBench("^BenchmarkPause$", 2, "1x") // the collector beside the guest
	if err != nil {
		return err
	}
	micro["Pause"] = pauses["Pause"]
	fmt.Println("\n| plugins | | must be |\n|---|---|---|")
	for _, g := range goals {
		v := micro[g.bench][g.unit] * g.scale
		if g.over != "" {
			v /= micro[g.over][g.unit]
		}
		must := ""
		if g.reach > 0 {
			must = "<= " + figure(g.reach)
		}
		fmt.Printf("| %s | %s | %s |\n", g.name, figure(v), must)
	}
	return nil
}

// figure is a number with three digits that matter.
func figure(v float64) string {
	digits := 2 - int(math.Floor(math.Log10(max(v, 0.01))))
	return strconv.FormatFloat(v, 'f', max(digits, 0), 64)
}

var benchLine = regexp.MustCompile(`^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+(.*)$`)

// goBench runs Go benchmarks and keeps, by name and unit, the least figure of all runs.
func goBench(pattern string, procs int, time string) (map[string]map[string]float64, error) {
	out, err := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-cpu", strconv.Itoa(procs), "-count", strconv.Itoa(*runs), "-benchtime", time, "./runtime/wasm").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w\n%s", err, out)
	}
	found := map[string]map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		m := benchLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		units := found[m[1]]
		if units == nil {
			units = map[string]float64{}
			found[m[1]] = units
		}
		for words := strings.Fields(m[2]); len(words) >= 2; words = words[2:] {
			v, err := strconv.ParseFloat(words[0], 64)
			if before, ok := units[words[1]]; err == nil && (!ok || v < before) {
				units[words[1]] = v
			}
		}
	}
	return found, nil
}
